//! The socket of a `ClientCore`: non-blocking, Rust's, and watched by the caller's event loop.
//!
//! Both system calls return at once, so they are made with the GIL held: to let go of it and take it again would cost
//! more than they do, and a switch interval (5 ms) when another Python thread is busy.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

use pyo3::prelude::*;
use socket2::{Domain, Protocol, Socket, Type};

/// What one call of the loop reads at most, so that one busy client cannot starve the others of its loop. The loop
/// calls again as long as there is more.
const TURN_BYTES: usize = 256 * 1024;

/// How a core is connected, or not.
pub(super) enum Link {
    Down,
    /// The loop tells by `add_writer` when the connection stands or is refused.
    Connecting(TcpStream),
    Up {
        stream: TcpStream,
        /// Whether the kernel's buffer is full, and the loop watches until it is not.
        is_full: bool,
    },
    /// For loops without `add_reader`: a `zabkit._transport.Link`.
    Transport {
        /// Tells this link from those before it, whose last events may still come.
        number: u64,
        link: Py<PyAny>,
        is_up: bool,
        /// Whether the transport's buffer is full.
        is_full: bool,
    },
}

/// Begins a connection; the socket becomes writable when it stands or has failed.
pub(super) fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&addr.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

/// How the attempt went; call it when the socket is writable.
pub(super) fn connected(stream: &TcpStream) -> io::Result<()> {
    match stream.take_error()? {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Reads what has come, bounded, and gives it to `take` in pieces.
pub(super) fn receive(mut stream: &TcpStream, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    thread_local! {
        /// One for all clients of a thread.
        static BUFFER: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; 64 * 1024]);
    }
    BUFFER.with_borrow_mut(|buffer| {
        let mut taken = 0;
        while taken < TURN_BYTES {
            match stream.read(buffer) {
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")),
                Ok(length) => {
                    take(&buffer[..length]);
                    taken += length;
                    if length < buffer.len() {
                        break; // There is no more: a further call would only say so.
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })
}

/// Writes once; how much the kernel took, `None` when its buffer is full.
pub(super) fn send(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<Option<usize>> {
    loop {
        match stream.write(bytes) {
            Ok(length) => return Ok(Some(length)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Link {
    /// The number that the loop knows the socket by.
    pub(super) fn fd(&self) -> Option<RawFd> {
        match self {
            Link::Connecting(stream) | Link::Up { stream, .. } => Some(stream.as_raw_fd()),
            Link::Down | Link::Transport { .. } => None,
        }
    }
}
