//! A client's connection that may be, or is, TLS: which of both by its first byte, the handshake off the core's thread,
//! and who the client is at its end.
//!
//! Between the socket and [`connection`](super::connection): what comes in here encrypted comes out as the same bytes
//! that a plain connection reads. A plain port knows nothing of it.
//!
//! ZooKeeper: `NettyServerCnxnFactory.DualModeSslHandler`, `CertificateVerifier`.

use super::connection::{Conn, Omitted};
use super::shared::{Shared, count};
use super::tls::{self, TlsPort, TlsSession};
use crate::peer::auth::certificate_ids;
use crate::sync;
use std::sync::Arc;

/// The first byte of TLS: a record that holds a handshake. As the first byte of a length it would be that of a frame of
/// 350 MB, and no four-letter word begins with it.
const HANDSHAKE: u8 = 0x16;

/// What a port speaks.
#[derive(Clone)]
pub enum Speaks {
    Plain,
    Tls(Arc<TlsPort>),
    /// `client.portUnification`.
    Both(Arc<TlsPort>),
}

impl Speaks {
    /// Until when the first bytes must be there, or the handshake be over, in µs from the connection's beginning.
    /// `None`: no other limit than that of a plain connection.
    pub fn handshake_micros(&self, shared: &Shared) -> Option<u64> {
        let limit = u64::from(shared.config.limits.sessionless_timeout_ms);
        match self {
            Speaks::Plain => None,
            Speaks::Tls(_) => Some(limit * 1000),
            Speaks::Both(port) => Some(limit.min(port.detection_timeout_ms().into()) * 1000),
        }
    }
}

/// What the task of such a connection keeps.
pub struct Secure {
    port: Arc<TlsPort>,
    state: State,
    /// From the socket, not given to TLS yet.
    pub received: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing has come yet, and it may be either.
    Unknown,
    Handshake,
    Open,
    /// The client has ended its direction.
    Over,
}

/// The connection is to be closed.
pub struct Refused;

impl Secure {
    pub fn new(speaks: Speaks) -> Option<Secure> {
        let (port, state) = match speaks {
            Speaks::Plain => return None,
            Speaks::Tls(port) => (port, State::Handshake),
            Speaks::Both(port) => (port, State::Unknown),
        };
        Some(Secure { port, state, received: Vec::new() })
    }

    /// Whether the client sends nothing more.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Turns what was received into what the client means, at the end of `input`. False: it is a plain connection, and
    /// this is not needed any more.
    pub async fn decrypt(
        &mut self,
        shared: &Arc<Shared>,
        conn: &Arc<Conn>,
        input: &mut Vec<u8>,
    ) -> Result<bool, Refused> {
        let Some(&first) = self.received.first() else {
            return Ok(true); // Woken for something else.
        };
        if self.state == State::Unknown {
            if first != HANDSHAKE {
                conn.set_handshake_limit(None);
                input.append(&mut self.received);
                return Ok(false);
            }
            self.state = State::Handshake;
            conn.set_handshake_limit(Speaks::Tls(self.port.clone()).handshake_micros(shared));
        }
        let mut bytes = std::mem::take(&mut self.received);
        if self.state == State::Handshake {
            self.handshake(shared, conn, &mut bytes, input).await?;
        } else {
            let result = conn.with_tls(|tls| tls.receive(&bytes, input).map(|()| tls.is_over()));
            match result {
                Some(Ok(false)) => {}
                Some(Ok(true)) => self.state = State::Over,
                Some(Err(error)) => {
                    if let Some(left_out) = shared.limits.repetition("tls", shared.clock.micros() / 1000) {
                        tracing::warn!("TLS of /{} is broken: {error}{}", conn.peer, Omitted(left_out));
                    }
                    return Err(Refused);
                }
                None => return Err(Refused),
            }
        }
        // Who sends little keeps little.
        if bytes.len() >= bytes.capacity() / 4 {
            bytes.clear();
            self.received = bytes;
        }
        Ok(true)
    }

    /// One step of the handshake, on a thread that may be busy for some ms: the core's is not kept from other clients.
    async fn handshake(
        &mut self,
        shared: &Arc<Shared>,
        conn: &Arc<Conn>,
        bytes: &mut Vec<u8>,
        input: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let turn = self.port.handshakes.acquire().await.map_err(|_| Refused)?;
        let (to_do, port, received) = (conn.clone(), self.port.clone(), std::mem::take(bytes));
        let done = tokio::task::spawn_blocking(move || step(&to_do, &port, received)).await;
        drop(turn);
        let Ok((result, received, mut plain)) = done else {
            return Err(Refused); // Its panic has been told.
        };
        *bytes = received;
        match result {
            Ok(Progress::Going) => Ok(()),
            Ok(Progress::Done { subject, is_over }) => {
                self.state = if is_over { State::Over } else { State::Open };
                conn.set_handshake_limit(None);
                self.authenticate(shared, conn, subject)?;
                input.append(&mut plain);
                Ok(())
            }
            Err(error) => {
                count(&shared.metrics.unsuccessful_handshake, 1);
                if let Some(left_out) = shared.limits.repetition("tls", shared.clock.micros() / 1000) {
                    let reason = tls::reason(&error);
                    tracing::warn!("Unsuccessful handshake with /{}: {reason}{}", conn.peer, Omitted(left_out));
                }
                Err(Refused)
            }
        }
    }

    /// Gives the connection the ids that its certificate is worth.
    fn authenticate(&self, shared: &Shared, conn: &Conn, subject: Option<String>) -> Result<(), Refused> {
        let Some(subject) = subject else {
            return Ok(()); // Without a certificate, which is allowed then.
        };
        tracing::debug!("/{} is x509:{subject:?}", conn.peer);
        let ids = certificate_ids(&subject, &sync::read(&shared.db).settings().auth);
        if conn.outbox.add_ids(ids) { Ok(()) } else { Err(Refused) }
    }
}

/// How far a handshake is.
enum Progress {
    Going,
    /// `subject`: that of the client's certificate, if it has shown one.
    Done {
        subject: Option<String>,
        is_over: bool,
    },
}

/// Computes; the buffer comes back, and what the client has sent behind its last step.
fn step(conn: &Conn, port: &TlsPort, received: Vec<u8>) -> (Result<Progress, rustls::Error>, Vec<u8>, Vec<u8>) {
    let mut plain = Vec::new();
    let mut advance = |tls: &mut TlsSession| {
        tls.receive(&received, &mut plain)?;
        if tls.is_handshaking() {
            return Ok(Progress::Going);
        }
        let Some(certificate) = tls.peer_certificate() else {
            return Ok(Progress::Done { subject: None, is_over: tls.is_over() });
        };
        port.check_address(certificate, conn.peer.ip())?;
        let subject = tls::subject(certificate).ok_or(rustls::CertificateError::BadEncoding)?;
        Ok(Progress::Done { subject: Some(subject), is_over: tls.is_over() })
    };
    let result = conn.with_tls(&mut advance).unwrap_or_else(|| {
        conn.begin_tls(port.session()?);
        conn.with_tls(&mut advance).unwrap_or(Ok(Progress::Going))
    });
    (result, received, plain)
}
