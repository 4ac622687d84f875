//! The two directions of a connection that is set up.

use crate::server::net_faults::{Line, Pair};
use crate::server::tls::TlsSession;
use std::io;
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Plain bytes that are encrypted at once.
const PIECE_BYTES: usize = 64 << 10;
/// Room for a read of encrypted bytes: a record of TLS.
const SEALED_BYTES: usize = 17 << 10;

type SharedTls = Option<Arc<Mutex<TlsSession>>>;

/// What the other side says.
pub struct Incoming {
    read: OwnedReadHalf,
    line: Line,
    tls: SharedTls,
    sealed: Vec<u8>,
}

/// What is said to the other side.
pub struct Outgoing {
    write: OwnedWriteHalf,
    pair: Pair,
    tls: SharedTls,
}

/// Encrypted bytes that the socket has not taken; none without TLS.
#[derive(Default)]
pub struct Sealed {
    bytes: Vec<u8>,
    written: usize,
}

impl Sealed {
    pub fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }
}

pub(super) fn halves(stream: TcpStream, pair: Pair, line: Line, tls: Option<TlsSession>) -> (Incoming, Outgoing) {
    let (read, write) = stream.into_split();
    let tls = tls.map(|tls| Arc::new(Mutex::new(tls)));
    (Incoming { read, line, tls: tls.clone(), sealed: Vec::new() }, Outgoing { write, pair, tls })
}

fn lock(tls: &Mutex<TlsSession>) -> MutexGuard<'_, TlsSession> {
    tls.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Incoming {
    /// Appends what has come to `buffer`; how many bytes, 0 at the end. Nothing is lost when the future is dropped.
    pub async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let Some(tls) = &self.tls else {
            return self.line.read(&mut self.read, buffer).await;
        };
        let before = buffer.len();
        while buffer.len() == before {
            self.sealed.clear();
            self.sealed.reserve(SEALED_BYTES);
            if self.line.read(&mut self.read, &mut self.sealed).await? == 0 {
                return Ok(0);
            }
            let mut tls = lock(tls);
            tls.receive(&self.sealed, buffer).map_err(io::Error::other)?;
            if tls.is_over() {
                break;
            }
        }
        Ok(buffer.len() - before)
    }
}

impl Outgoing {
    /// The two servers.
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// Writes all of it.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &self.tls {
            None => self.write.write_all(bytes).await,
            Some(tls) => {
                let mut sealed = Vec::new();
                lock(tls).seal(bytes, &mut sealed);
                self.write.write_all(&sealed).await
            }
        }
    }

    /// Takes as much of `bytes` as the socket takes, or an error. With TLS it takes them piece by piece, when the socket
    /// has taken the piece before; everything has left when `sealed` is empty too.
    pub fn try_write(&self, bytes: &[u8], sealed: &mut Sealed) -> io::Result<usize> {
        let Some(tls) = &self.tls else {
            return self.write.try_write(bytes);
        };
        self.flush(sealed)?;
        let piece = &bytes[..bytes.len().min(PIECE_BYTES)];
        if !piece.is_empty() {
            lock(tls).seal(piece, &mut sealed.bytes);
            match self.flush(sealed) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        Ok(piece.len())
    }

    fn flush(&self, sealed: &mut Sealed) -> io::Result<()> {
        while !sealed.is_empty() {
            sealed.written += self.write.try_write(&sealed.bytes[sealed.written..])?;
        }
        sealed.bytes.clear();
        sealed.written = 0;
        Ok(())
    }

    /// Returns when the socket may take more.
    pub async fn writable(&self) -> io::Result<()> {
        self.write.writable().await
    }

    /// Ends both directions.
    pub fn shutdown(&self) {
        let _ = socket2::SockRef::from(self.write.as_ref()).shutdown(Shutdown::Both);
    }
}
