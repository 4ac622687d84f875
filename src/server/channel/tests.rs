//! TLS and logins between two ends of a loopback connection.

use super::*;
use crate::peer::SaslUsers;
use crate::server::config::quorum::QuorumTlsConfig;
use crate::server::config::tls::{StoreConfig, TlsKeys};
use crate::server::tls::TlsPort;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;

fn tls(key_store: &str, dials: bool, takes_plain: bool, is_verified: bool) -> Option<QuorumTls> {
    let store = |name: &str| StoreConfig {
        location: Some(Path::new("tests/testdata/tls").join(name)),
        password: "testpass".to_owned(),
        ..StoreConfig::default()
    };
    let keys = TlsKeys {
        key_store: store(key_store),
        trust_store: store("ca.pem"),
        hostname_verification: is_verified,
        ..QuorumTlsConfig::default().keys
    };
    let port = Arc::new(TlsPort::between_servers(&keys).unwrap());
    Some(QuorumTls { port, dials, takes_plain })
}

fn sasl(user: &str, password: &str, logs_in: bool, is_required: bool) -> Option<QuorumSasl> {
    let users: SaslUsers = [("test".to_owned(), "secret".to_owned())].into_iter().collect();
    let supplicant = Supplicant { user: user.to_owned(), password: password.to_owned() };
    Some(QuorumSasl { judge: Judge { users, is_required }, supplicant: logs_in.then_some(supplicant) })
}

/// Both ends after their greeting, or why it failed.
async fn connect(dialing: Security, accepting: Security) -> (io::Result<Channel>, io::Result<Channel>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut channel = accepting.accept(Channel::new(stream, Network::default())).await?;
        accepting.authenticate(&mut channel).await?;
        Ok(channel)
    });
    let dial = async {
        let stream = TcpStream::connect(addr).await?;
        let mut channel = dialing.dial(Channel::dialed(stream, Pair::default()), "127.0.0.1").await?;
        dialing.log_in(&mut channel).await?;
        channel.write(&[0xff, 0, 0, 0, 0, 0, 0, 0, 0]).await?; // INITIAL begins so: no word of a login.
        Ok(channel)
    };
    let dialed = dial.await;
    (dialed, accepting.await.unwrap())
}

/// Whether what one end says is what the other hears, in both directions and of any length.
async fn is_good(ends: (io::Result<Channel>, io::Result<Channel>)) -> bool {
    let (Ok(dialed), Ok(mut accepted)) = ends else { return false };
    while accepted.read.len() < 9 {
        assert!(accepted.read_more().await.unwrap() > 0);
    }
    accepted.consume(9);
    let much: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
    let (mut here, there) = (dialed.split(), accepted.split());
    let (mut heard, mut echoed) = (there.2, here.2);
    let (mut incoming, outgoing) = (there.0, there.1);
    let (sent, wanted) = (much.clone(), much.len());
    let echo = tokio::spawn(async move {
        // As a link writes: as much as the socket takes, from a thread that does not wait.
        let (mut sealed, mut written) = (Sealed::default(), 0);
        while written < wanted || !sealed.is_empty() {
            while heard.len() < wanted {
                assert!(incoming.read(&mut heard).await.unwrap() > 0);
            }
            outgoing.writable().await.unwrap();
            match outgoing.try_write(&heard[written..], &mut sealed) {
                Ok(n) => written += n,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
    });
    here.1.write(&sent).await.unwrap();
    while echoed.len() < wanted {
        assert!(here.0.read(&mut echoed).await.unwrap() > 0);
    }
    echo.await.unwrap();
    echoed == much
}

fn text(error: io::Result<Channel>) -> String {
    error.err().expect("it has failed").to_string()
}

fn plain() -> Security {
    Security::default()
}

#[tokio::test]
async fn nothing_is_added_to_a_plain_connection() {
    assert!(is_good(connect(plain(), plain()).await).await);
}

#[tokio::test]
async fn tls_carries_everything_both_ways_between_servers_that_know_each_other() {
    let security = || Security::new(tls("server.pem", true, false, true), None);
    assert!(is_good(connect(security(), security()).await).await);
}

/// The three steps of a rolling introduction: both are taken, all dial by TLS, nothing else is taken.
#[tokio::test]
async fn a_port_that_takes_both_does_and_one_that_does_not_refuses() {
    let with = |dials, takes_plain| Security::new(tls("server.pem", dials, takes_plain, true), None);
    for (dialing, accepting) in [
        (plain(), with(false, true)),
        (with(false, true), plain()),
        (with(false, true), with(true, true)),
        (with(true, true), with(false, true)),
        (with(true, true), with(true, false)),
        (with(true, false), with(true, true)),
    ] {
        assert!(is_good(connect(dialing, accepting).await).await);
    }
    let (_, refused) = connect(plain(), with(true, false)).await;
    assert!(text(refused).contains("does not speak TLS: give it portUnification=true first"));
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_or_names_another_host_is_refused() {
    let with = |store, is_verified| Security::new(tls(store, true, false, is_verified), None);
    let (_, refused) = connect(with("stranger.pem", false), with("server.pem", false)).await;
    assert!(text(refused).contains("signed by none of ssl.quorum.trustStore.location"));
    // No names in it, and clients' use only.
    assert!(is_good(connect(with("client.pem", false), with("server.pem", false)).await).await);
    let (_, refused) = connect(with("client.pem", false), with("server.pem", true)).await;
    assert!(text(refused).contains("does not name 127.0.0.1, nor a host with this address"));
    let (refused, _) = connect(with("server.pem", false), with("selfsigned.pem", false)).await;
    assert!(text(refused).contains("certificate"));
}

#[tokio::test]
async fn a_server_logs_in_with_its_password_and_with_no_other() {
    let with = |password, logs_in, is_required| Security::new(None, sasl("test", password, logs_in, is_required));
    assert!(is_good(connect(with("secret", true, true), with("secret", true, true)).await).await);
    let (dialed, accepted) = connect(with("other", true, true), with("secret", true, true)).await;
    assert!(text(accepted).contains("its login has failed: no such user, or another password"));
    assert!(text(dialed).contains("does not let \"test\" log in"));
    let (_, accepted) = connect(plain(), with("secret", true, true)).await;
    assert!(text(accepted).contains("quorum.auth.serverRequireSasl=true"));
    // Where it is not required, who does not try is taken, and who logs in as well.
    assert!(is_good(connect(plain(), with("secret", false, false)).await).await);
    assert!(is_good(connect(with("secret", true, false), with("secret", false, false)).await).await);
    let both = || Security::new(tls("server.pem", true, false, true), sasl("test", "secret", true, true));
    assert!(is_good(connect(both(), both()).await).await);
}
