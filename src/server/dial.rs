//! A connect to a server that may have several addresses: to the first of them that answers.
//!
//! One that refuses makes room for the next at once, one that is silent after a while, and is not given up for it.
//! Apache asks each address first whether it is there, which firewalls answer as they like.
//!
//! ZooKeeper: `MultipleAddresses.getReachableOrOne`, `Learner.LeaderConnector`.

use super::net_faults::Network;
use crate::records::{HostPort, ServerId};
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The first connection, and where it leads. `stagger`: how long an address may be silent before the next is tried too.
pub async fn dial(
    network: &Network,
    server: ServerId,
    addrs: &[HostPort],
    stagger: Duration,
) -> io::Result<(TcpStream, HostPort)> {
    if let [addr] = addrs {
        return Ok((network.connect(server, addr).await?, addr.clone()));
    }
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let mut connecting = JoinSet::new();
    let mut rest = addrs.iter();
    loop {
        if let Some(addr) = rest.next() {
            let (network, addr) = (network.clone(), addr.clone());
            connecting.spawn(async move { network.connect(server, &addr).await.map(|stream| (stream, addr)) });
        } else if connecting.is_empty() {
            return Err(last);
        }
        tokio::select! {
            Some(connected) = connecting.join_next() => match connected {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(error)) => last = error,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(error) => last = io::Error::other(error),
            },
            () = sleep(stagger), if rest.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn addr(listener: &TcpListener) -> HostPort {
        HostPort::new("127.0.0.1", listener.local_addr().unwrap().port())
    }

    /// An address where connects hang: its queue is full and stays so.
    async fn silent() -> (HostPort, Vec<TcpStream>, socket2::Socket) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        socket.listen(0).unwrap();
        let addr = socket.local_addr().unwrap().as_socket().unwrap();
        let mut filling = Vec::new();
        while let Ok(stream) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(addr)).await {
            filling.push(stream.unwrap());
        }
        (HostPort::new("127.0.0.1", addr.port()), filling, socket)
    }

    #[tokio::test]
    async fn the_first_that_answers_is_taken_past_one_that_refuses_and_one_that_is_silent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refusing = addr(&TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (silent, _filling, _socket) = silent().await;
        let network = Network::default();
        let hour = Duration::from_secs(3600);
        let (_, taken) = dial(&network, ServerId(1), &[refusing.clone(), addr(&listener)], hour).await.unwrap();
        assert_eq!(taken, addr(&listener));
        let stagger = Duration::from_millis(1);
        let (_, taken) = dial(&network, ServerId(1), &[silent, addr(&listener)], stagger).await.unwrap();
        assert_eq!(taken, addr(&listener));
        let refused = dial(&network, ServerId(1), &[refusing.clone(), refusing], hour).await;
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(dial(&network, ServerId(1), &[], hour).await.is_err());
    }
}
