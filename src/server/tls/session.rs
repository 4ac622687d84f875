//! One connection's TLS without I/O: the socket's bytes to the protocol's, and back.
//!
//! Lives beside the bytes that the socket has not taken, under their lock, since the core's thread writes too. What is
//! to be sent is encrypted piece by piece as the socket takes it, so a client that does not read costs no second copy.

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, Error, ServerConfig, ServerConnection};
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Plain bytes that are encrypted at once.
const PIECE_BYTES: usize = 64 << 10;
/// No larger buffer is kept for later.
const BUFFER_KEPT_MAX: usize = 128 << 10;

/// Our end of a TLS connection.
pub struct TlsSession {
    tls: Connection,
    /// To be sent; encrypted up to `encrypted`.
    plain: Vec<u8>,
    encrypted: usize,
    /// Whether the client has said that it sends nothing more.
    is_over: bool,
    /// Whether this side says so behind what is in `plain`.
    closes: bool,
}

impl TlsSession {
    pub fn new(config: Arc<ServerConfig>) -> Result<TlsSession, Error> {
        Ok(TlsSession::of(ServerConnection::new(config)?.into()))
    }

    /// The end of who has dialed `server`.
    pub fn dial(config: Arc<ClientConfig>, server: ServerName<'static>) -> Result<TlsSession, Error> {
        Ok(TlsSession::of(ClientConnection::new(config, server)?.into()))
    }

    fn of(mut tls: Connection) -> TlsSession {
        // Bounded by `PIECE_BYTES`: what is encrypted is taken out at once.
        tls.set_buffer_limit(None);
        TlsSession { tls, plain: Vec::new(), encrypted: 0, is_over: false, closes: false }
    }

    /// Until the client has proved who it is; nothing of the protocol passes before.
    pub fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Whether the client has ended its direction in order (`close_notify`).
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The other side's own certificate, if it has shown one.
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.tls.peer_certificates()?.first()
    }

    /// Takes what the socket brought; the client's plain bytes go to the end of `input`. After an error the alert that
    /// tells it to the client waits in [`fill`](TlsSession::fill).
    pub fn receive(&mut self, mut bytes: &[u8], input: &mut Vec<u8>) -> Result<(), Error> {
        while !bytes.is_empty() {
            // Takes at most what its buffers have room for; they are emptied below.
            let taken = self.tls.read_tls(&mut bytes).map_err(|error| Error::General(error.to_string()))?;
            let state = self.tls.process_new_packets()?;
            let start = input.len();
            input.resize(start + state.plaintext_bytes_to_read(), 0);
            self.tls.reader().read_exact(&mut input[start..]).map_err(|error| Error::General(error.to_string()))?;
            self.is_over |= state.peer_has_closed();
            if taken == 0 || self.is_over {
                break; // Behind the end of the stream nothing counts.
            }
        }
        Ok(())
    }

    /// Sends `text` before anything that comes later.
    pub fn queue(&mut self, mut text: Vec<u8>) {
        self.plain.append(&mut text);
    }

    /// Bytes that are to be sent and not encrypted yet.
    pub fn waiting(&self) -> usize {
        self.plain.len() - self.encrypted
    }

    /// Adds the next piece to `out`, which is empty. `take` gives the plain bytes that are to be sent, and whether the
    /// connection is to be closed behind them; so does this.
    pub fn fill(&mut self, out: &mut Vec<u8>, take: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let mut is_closing = false;
        if self.encrypted == self.plain.len() {
            self.encrypted = 0;
            self.plain.clear();
            is_closing = take(&mut self.plain);
        }
        let piece = &self.plain[self.encrypted..];
        let piece = &piece[..piece.len().min(PIECE_BYTES)];
        // Neither of the two writes fails: both go to memory, without a limit.
        let written = self.tls.writer().write(piece).unwrap_or(0);
        self.encrypted += written;
        if self.encrypted == self.plain.len() {
            if self.plain.capacity() > BUFFER_KEPT_MAX {
                self.plain = Vec::new();
                self.encrypted = 0;
            }
            if is_closing || self.closes {
                self.tls.send_close_notify();
            }
        }
        let _ = self.drain(out);
        is_closing
    }

    /// Adds `bytes`, encrypted, and whatever else is to be said, to `out`. After an error that is the alert alone.
    pub fn seal(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        // Neither of the two fails while the session is good: both go to memory, without a limit.
        if !bytes.is_empty() {
            let _ = self.tls.writer().write_all(bytes);
        }
        let _ = self.drain(out);
    }

    /// Says goodbye behind what waits, at the next [`fill`](TlsSession::fill).
    pub fn close(&mut self) {
        self.closes = true;
    }

    fn drain(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(out)?;
        }
        Ok(())
    }
}
