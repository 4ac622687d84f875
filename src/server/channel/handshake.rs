//! The handshake of TLS between two servers, with its computations off the core's thread.

use super::{Channel, SetupError};
use crate::server::tls::{TlsPort, TlsSession, reason_between_servers};
use rustls::pki_types::CertificateDer;
use std::io;
use tokio::io::AsyncWriteExt;

/// The first byte of TLS: a record that holds a handshake. INITIAL begins with 0xff or the high byte of an id, a packet
/// with that of its small type.
pub const HANDSHAKE: u8 = 0x16;

/// Runs the handshake; what has been read already is its beginning. The other side's certificate, if it has shown one.
pub async fn shake(
    channel: &mut Channel,
    session: TlsSession,
    port: &TlsPort,
) -> io::Result<Option<CertificateDer<'static>>> {
    let mut session = Box::new(session);
    let mut received = std::mem::take(&mut channel.read);
    loop {
        // It may be busy for some ms, and nobody is known yet.
        let turn = port.handshakes.acquire().await.map_err(io::Error::other)?;
        let step = tokio::task::spawn_blocking(move || {
            let (mut plain, mut answer) = (Vec::new(), Vec::new());
            let result = session.receive(&received, &mut plain);
            session.seal(&[], &mut answer);
            (session, result, plain, answer)
        });
        let (back, result, plain, answer) = step.await.map_err(io::Error::other)?;
        drop(turn);
        session = back;
        // Also behind an error: the other side reads why.
        channel.stream.write_all(&answer).await?;
        result.map_err(|error| SetupError::of(channel, reason_between_servers(&error)))?;
        if !session.is_handshaking() {
            let certificate = session.peer_certificate().cloned();
            channel.tls = Some(*session);
            channel.read = plain;
            return Ok(certificate);
        }
        received = Vec::new();
        received.reserve(super::READ_BYTES);
        if channel.line.read(&mut channel.stream, &mut received).await? == 0 {
            let reason = "it has closed the connection; its log says why, unless it does not speak TLS";
            return Err(SetupError::of(channel, reason.to_owned()));
        }
    }
}
