//! Listening sockets: bound, and reserved so that a port stays its server's while the server is down.

use crate::records::HostPort;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

/// The accept backlog unless the configuration says another. Java's 50 is too short for a reconnecting crowd.
const BACKLOG: i32 = 1024;

/// Sockets that listen already, so that their ports are known before they are told to others. `None`: bound from the
/// configuration.
#[derive(Debug, Default)]
pub struct Listeners {
    pub client: Option<TcpListener>,
    pub election: Option<TcpListener>,
    pub quorum: Option<TcpListener>,
}

/// Listens at `addr`. All interfaces of IPv4 (`0.0.0.0`) are those of IPv6 too, as Java means them, where the system has
/// IPv6.
pub fn listen(addr: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = match addr.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => match bound_to_both(addr.port()) {
            // Else somebody has the port in one of the families.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => bound(addr, false)?,
            socket => socket?,
        },
        _ => bound(addr, false)?,
    };
    socket.listen(if backlog > 0 { backlog } else { BACKLOG })?;
    Ok(socket.into())
}

/// [`listen_on`], by a name.
pub fn listen_at(addr: &HostPort, on_all_ips: bool) -> io::Result<TcpListener> {
    listen_on(resolve(addr)?, on_all_ips)
}

/// Listens at a server's own address, or at the same port of all interfaces.
pub fn listen_on(mut addr: SocketAddr, on_all_ips: bool) -> io::Result<TcpListener> {
    if on_all_ips {
        addr.set_ip(if addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() });
    }
    listen(addr, BACKLOG)
}

/// The first address of a host; asks the system's resolver (and waits) unless it is an IP literal.
pub fn resolve(addr: &HostPort) -> io::Result<SocketAddr> {
    if let Some(addr) = addr.literal() {
        return Ok(addr);
    }
    let found = (addr.host.as_str(), addr.port).to_socket_addrs()?.next();
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", addr.host)))
}

/// Keeps a port of 127.0.0.1: connects are refused, and nobody else gets the port, until somebody with the same user
/// listens on it by [`Reserved::listen`].
#[derive(Debug)]
pub struct Reserved {
    _socket: Socket,
    addr: SocketAddr,
}

impl Reserved {
    pub fn new() -> io::Result<Reserved> {
        let socket = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), true)?;
        let addr = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Reserved { _socket: socket, addr })
    }

    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    pub fn listen(&self) -> io::Result<TcpListener> {
        let socket = bound(self.addr, true)?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }
}

fn bound_to_both(port: u16) -> io::Result<Socket> {
    let addr = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

fn bound(addr: SocketAddr, is_shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a former server may still be in TIME_WAIT. Not both options: with SO_REUSEADDR anybody could
    // bind a port on which nobody listens at the moment.
    if is_shared {
        socket.set_reuse_port(true)?;
    } else {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn all_interfaces_are_those_of_both_families() {
        let listener = listen("0.0.0.0:0".parse().unwrap(), -1).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        // A system may have no IPv6; then the first connect is all.
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
        }
        let taken = listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), -1);
        assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AddrInUse);

        let one = listen("127.0.0.1:0".parse().unwrap(), -1).unwrap();
        assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, one.local_addr().unwrap().port())).is_err());
    }

    #[test]
    fn a_reserved_port_refuses_until_its_server_listens_and_again_after_it_has_gone() {
        let reserved = Reserved::new().unwrap();
        let refused = || TcpStream::connect(reserved.addr).unwrap_err().kind();
        assert_eq!(refused(), io::ErrorKind::ConnectionRefused);
        for _ in 0..2 {
            let listener = reserved.listen().unwrap();
            let client = TcpStream::connect(reserved.addr).unwrap();
            let (server, _) = listener.accept().unwrap();
            drop((listener, server, client));
            assert_eq!(refused(), io::ErrorKind::ConnectionRefused);
        }
        assert!(TcpListener::bind(reserved.addr).is_err());
    }
}
