//! A connection between two servers, from the socket on: TLS around it if that is configured, and a login by SASL.
//!
//! While it is set up it is a [`Channel`], used by one task; afterwards it is an [`Incoming`] and an [`Outgoing`], which
//! may live on different threads. What comes out is what the other side meant: nobody behind here knows of TLS.
//!
//! ZooKeeper: the sockets of `QuorumCnxManager`, `Learner` and `LearnerHandler`, `UnifiedServerSocket`.

mod halves;
mod handshake;
mod login;
mod security;
#[cfg(test)]
mod tests;

pub use halves::{Incoming, Outgoing, Sealed};
pub use login::{Judge, Supplicant};
pub use security::{QuorumSasl, QuorumTls, Security};

use super::net_faults::{Line, Network, Pair};
use super::tls::TlsSession;
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Room for a read.
const READ_BYTES: usize = 4 << 10;

/// Why two servers have not come to an understanding; its text is for those who configure them.
#[derive(Debug, thiserror::Error)]
#[error("no connection with the server at {}: {reason}", .addr.map_or_else(|| "?".to_owned(), |addr| addr.to_string()))]
pub struct SetupError {
    addr: Option<SocketAddr>,
    reason: String,
}

impl SetupError {
    fn of(channel: &Channel, reason: String) -> io::Error {
        io::Error::other(SetupError { addr: channel.stream.peer_addr().ok(), reason })
    }
}

/// A connection that is being set up.
pub struct Channel {
    stream: TcpStream,
    pair: Pair,
    line: Line,
    tls: Option<TlsSession>,
    /// What has come and was not consumed yet.
    pub read: Vec<u8>,
}

impl Channel {
    /// One that was accepted.
    pub fn new(stream: TcpStream, network: Network) -> Channel {
        let pair = network.accepted(&stream);
        Channel::dialed(stream, pair)
    }

    /// One that was dialed.
    pub fn dialed(stream: TcpStream, pair: Pair) -> Channel {
        let _ = stream.set_nodelay(true);
        let line = pair.line();
        Channel { stream, pair, line, tls: None, read: Vec::new() }
    }

    /// Waits for more of what the other side says; 0 at its end.
    pub async fn read_more(&mut self) -> io::Result<usize> {
        let before = self.read.len();
        let Some(tls) = &mut self.tls else {
            self.read.reserve(READ_BYTES);
            return self.line.read(&mut self.stream, &mut self.read).await;
        };
        while self.read.len() == before && !tls.is_over() {
            let mut sealed = Vec::with_capacity(READ_BYTES);
            if self.line.read(&mut self.stream, &mut sealed).await? == 0 {
                break;
            }
            tls.receive(&sealed, &mut self.read).map_err(io::Error::other)?;
        }
        Ok(self.read.len() - before)
    }

    /// Takes the first `length` bytes off what has come.
    pub fn consume(&mut self, length: usize) {
        self.read.drain(..length);
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            None => self.stream.write_all(bytes).await,
            Some(tls) => {
                let mut sealed = Vec::new();
                tls.seal(bytes, &mut sealed);
                self.stream.write_all(&sealed).await
            }
        }
    }

    /// Where the other side is.
    pub fn peer_ip(&self) -> io::Result<IpAddr> {
        Ok(self.stream.peer_addr()?.ip().to_canonical())
    }

    /// What went wrong with the socket and was not told yet.
    pub fn take_error(&self) -> Option<io::Error> {
        self.stream.take_error().ok().flatten()
    }

    /// Both directions, and what has come already.
    pub fn split(self) -> (Incoming, Outgoing, Vec<u8>) {
        let (incoming, outgoing) = halves::halves(self.stream, self.pair, self.line, self.tls);
        (incoming, outgoing, self.read)
    }
}
