//! Stores, trust and reload, with real files and a client of rustls at the other end of a buffer.

use super::super::config::tls::{ClientAuth, StoreConfig, TlsKeys};
use super::test_files::{PASSWORD, file};
use super::*;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, ProtocolVersion, SignatureScheme, version,
};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

fn store(name: &str) -> StoreConfig {
    let location = Some(Path::new("tests/testdata/tls").join(name));
    StoreConfig { location, password: PASSWORD.to_owned(), ..StoreConfig::default() }
}

fn keys(key_store: &str, trust_store: &str) -> TlsKeys {
    TlsKeys { key_store: store(key_store), trust_store: store(trust_store), ..TlsKeys::default() }
}

/// A client that does not look at the server's certificate.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A client that shows what is in `certificate`, or nothing.
fn client(certificate: Option<&str>, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConnection {
    connect(&client_config(certificate, versions))
}

fn connect(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config.clone(), ServerName::try_from("localhost").unwrap()).unwrap()
}

fn client_config(
    certificate: Option<&str>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_protocol_versions(versions).unwrap();
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Trusting));
    Arc::new(match certificate {
        None => config.with_no_client_auth(),
        Some(name) => {
            // Not `with_client_auth_cert`, which would not take a certificate of version 1.
            let key = stores::key_store(&keys(name, "")).unwrap().remove(0);
            config.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
        }
    })
}

/// Passes bytes to and fro, `piece` of them at once, until both are done or the server has an error.
fn handshake(port: &TlsPort, client: &mut ClientConnection, piece: usize) -> Result<TlsSession, rustls::Error> {
    let mut server = port.session().unwrap();
    let mut input = Vec::new();
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        while client.wants_write() {
            client.write_tls(&mut up).unwrap();
        }
        for bytes in up.chunks(piece) {
            server.receive(bytes, &mut input)?;
        }
        server.fill(&mut down, |_| false);
        assert!(!up.is_empty() || !down.is_empty(), "neither of them goes on");
        let mut left = &down[..];
        while !left.is_empty() {
            client.read_tls(&mut left).unwrap();
            client.process_new_packets()?;
        }
    }
    assert_eq!(input, b"");
    Ok(server)
}

/// The subject that the server knows a client with this certificate by.
fn subject_of(keys: &TlsKeys, certificate: &str) -> Result<String, rustls::Error> {
    let port = TlsPort::new(keys).unwrap();
    let session = handshake(&port, &mut client(Some(certificate), &[&version::TLS13]), 1000)?;
    Ok(subject(session.peer_certificate().unwrap()).unwrap())
}

#[test]
fn a_key_store_of_each_kind_serves_its_certificate() {
    let certificate = CertificateDer::from_pem_slice(&file("server.pem")).unwrap();
    for (name, with_authority) in [
        ("server.pem", false),
        ("server-sec1.pem", true),
        ("server-encrypted.pem", false),
        ("keystore.jks", true),
        ("keystore.p12", true),
        ("keystore-openssl.p12", true),
        ("keystore-legacy.p12", true),
    ] {
        let port = TlsPort::new(&keys(name, "ca.pem")).unwrap_or_else(|error| panic!("{error}"));
        let mut client = client(Some("client.pem"), &[&version::TLS13]);
        handshake(&port, &mut client, 1000).unwrap_or_else(|error| panic!("{name}: {error}"));
        let chain = client.peer_certificates().unwrap();
        assert_eq!(
            (chain[0].clone(), chain.len()),
            (certificate.clone(), if with_authority { 2 } else { 1 }),
            "{name}"
        );
    }
    for name in ["rsa.pem", "rsa-pkcs1.pem", "version1.pem"] {
        let port = TlsPort::new(&keys(name, "ca.pem")).unwrap_or_else(|error| panic!("{error}"));
        let result = handshake(&port, &mut client(Some("client.pem"), &[&version::TLS12]), 1000);
        assert!(result.is_ok(), "{name}: {:?}", result.err());
    }
}

/// keytool's own keys hold no public part, which ring would have.
#[test]
fn keys_that_java_has_made_are_served_each_to_who_knows_its_kind() {
    for (name, kinds) in [("keytool.jks", 3), ("keytool.p12", 2)] {
        let keys = keys(name, "ca.pem");
        assert_eq!(stores::key_store(&keys).unwrap().len(), kinds, "{name}");
        let port = TlsPort::new(&keys).unwrap();
        let mut client = client(Some("client.pem"), &[&version::TLS13]);
        handshake(&port, &mut client, 1000).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(client.peer_certificates().unwrap().len(), 1);
    }
}

#[test]
fn a_trust_store_of_each_kind_admits_its_clients_and_no_others() {
    for name in ["ca.pem", "truststore.jks", "truststore.p12", "truststore-openssl.p12"] {
        let keys = keys("server.pem", name);
        assert_eq!(subject_of(&keys, "client.pem").unwrap(), "CN=client,OU=a\\, b,O=zabkit tests", "{name}");
        let error = subject_of(&keys, "stranger.pem").unwrap_err();
        assert!(reason(&error).contains("signed by none of ssl.trustStore.location"), "{name}: {}", reason(&error));
    }
}

#[test]
fn a_store_is_known_by_its_type_or_its_name_or_its_contents() {
    let dir = tempfile::tempdir().unwrap();
    let load = |contents: &str, name: &str, kind: Option<&str>| {
        let path = dir.path().join(name);
        std::fs::write(&path, file(contents)).unwrap();
        let mut keys = keys("", "ca.pem");
        keys.key_store.location = Some(path);
        keys.key_store.kind = kind.map(str::to_owned);
        TlsPort::new(&keys).map(drop).map_err(|error| error.to_string())
    };
    // keytool makes PKCS#12 files of any name, and Java reads both under either.
    for contents in ["keystore.p12", "keystore.jks"] {
        for (name, kind) in
            [("k.jks", None), ("k.p12", None), ("k.pem", Some("jks")), ("k", Some("PKCS12")), ("k", None)]
        {
            assert_eq!(load(contents, name, kind), Ok(()), "{contents} as {name} {kind:?}");
        }
    }
    assert_eq!(load("server.pem", "tls.crt", None), Ok(()));
    assert!(load("server.pem", "k.p12", None).unwrap_err().contains("no PKCS#12 file"));
    assert!(load("keystore.jks", "k.pem", None).unwrap_err().contains("no key and no certificate"));
    assert!(load("keystore.p12", "k.p12", Some("BCFKS")).unwrap_err().contains("-deststoretype PKCS12"));
    assert!(load("keystore.p12", "k.p12", Some("x")).unwrap_err().contains("JKS, PKCS12 or PEM is needed"));
}

#[test]
fn the_password_is_the_files_or_that_of_its_own_file() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["keystore.jks", "keystore.p12", "keystore-legacy.p12", "server-encrypted.pem"] {
        let mut keys = keys(name, "ca.pem");
        keys.key_store.password = "wrong".to_owned();
        let error = TlsPort::new(&keys).err().unwrap().to_string();
        assert!(error.starts_with("ssl.keyStore.location: tests/") && error.contains("password"), "{error}");
        assert!(!error.contains("wrong"), "{error}");
        let secret = dir.path().join("secret");
        std::fs::write(&secret, format!("{PASSWORD}\r\n")).unwrap();
        keys.key_store.password_path = Some(secret);
        TlsPort::new(&keys).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn what_is_missing_is_told_with_its_key() {
    let error = |keys: &TlsKeys| TlsPort::new(keys).err().unwrap().to_string();
    let mut none = keys("server.pem", "ca.pem");
    none.key_store.location = None;
    assert!(error(&none).starts_with("ssl.keyStore.location is not set: "));
    let mut none = keys("server.pem", "ca.pem");
    none.trust_store.location = None;
    assert!(error(&none).contains("clientAuth=none"));
    none.client_auth = ClientAuth::None;
    TlsPort::new(&none).unwrap_or_else(|error| panic!("{error}"));
    assert!(error(&keys("absent.pem", "ca.pem")).contains("cannot read tests/testdata/tls/absent.pem"));
    assert!(error(&keys("ca.pem", "ca.pem")).contains("no private key"));
}

#[test]
fn both_protocols_shake_hands_however_the_bytes_are_cut() {
    let port = TlsPort::new(&keys("server.pem", "ca.pem")).unwrap();
    for version in [&version::TLS12, &version::TLS13] {
        for piece in [1, 7, 100_000] {
            let mut client = client(Some("client.pem"), &[version]);
            handshake(&port, &mut client, piece).unwrap();
            assert_eq!(client.protocol_version(), Some(version.version));
        }
    }
    let only = TlsKeys { enabled_protocols: Some("TLSv1.2".to_owned()), ..keys("server.pem", "ca.pem") };
    let port = TlsPort::new(&only).unwrap();
    let mut both = client(Some("client.pem"), &[&version::TLS13, &version::TLS12]);
    handshake(&port, &mut both, 1000).unwrap();
    assert_eq!(both.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    let error = handshake(&port, &mut client(Some("client.pem"), &[&version::TLS13]), 1000).err().unwrap();
    assert!(reason(&error).contains("ssl.enabledProtocols"), "{}", reason(&error));
}

#[test]
fn a_certificate_is_needed_wanted_or_not_asked_for() {
    let with = |client_auth| TlsPort::new(&TlsKeys { client_auth, ..keys("server.pem", "ca.pem") }).unwrap();
    for version in [&version::TLS12, &version::TLS13] {
        let shake = |port: &TlsPort, certificate| {
            let session = handshake(port, &mut client(certificate, &[version]), 1000)?;
            Ok::<_, rustls::Error>(session.peer_certificate().is_some())
        };
        let need = with(ClientAuth::Need);
        assert_eq!(shake(&need, Some("client.pem")), Ok(true));
        assert!(reason(&shake(&need, None).unwrap_err()).contains("ssl.clientAuth=want"));
        let want = with(ClientAuth::Want);
        assert_eq!((shake(&want, Some("client.pem")), shake(&want, None)), (Ok(true), Ok(false)));
        shake(&want, Some("stranger.pem")).unwrap_err();
        let none = with(ClientAuth::None);
        assert_eq!((shake(&none, Some("client.pem")), shake(&none, None)), (Ok(false), Ok(false)));
    }
}

#[test]
fn certificates_that_are_not_good_are_refused_with_what_to_do() {
    let keys = keys("server.pem", "ca.pem");
    for (name, part) in [
        ("expired.pem", "has expired"),
        ("onlyserver.pem", "lacks clientAuth"),
        ("selfsigned.pem", "cannot be used"),
        ("version1.pem", "version 3"),
    ] {
        let error = subject_of(&keys, name).unwrap_err();
        assert!(reason(&error).contains(part), "{name}: {}", reason(&error));
    }
    assert_eq!(subject_of(&keys, "below.pem").unwrap(), "CN=below,O=zabkit tests");
}

#[test]
fn a_certificate_in_the_trust_store_is_trusted_though_it_could_sign_others() {
    let keys = keys("server.pem", "selfsigned.pem");
    assert_eq!(subject_of(&keys, "selfsigned.pem").unwrap(), "CN=selfsigned,O=zabkit tests");
    subject_of(&keys, "client.pem").unwrap_err();
    let expired = super::super::config::tls::TlsKeys { trust_store: store("expired.pem"), ..keys };
    let error = subject_of(&expired, "expired.pem").unwrap_err();
    assert!(reason(&error).contains("has expired"), "{}", reason(&error));
}

#[test]
fn a_revoked_certificate_is_refused_if_lists_are_asked_for() {
    let keys = TlsKeys { crl: true, ..keys("server.pem", "ca-crl.pem") };
    subject_of(&keys, "client.pem").unwrap();
    assert!(reason(&subject_of(&keys, "revoked.pem").unwrap_err()).contains("is revoked"));
    // Its authority, which is between, has no list.
    let unknown = subject_of(&keys, "below.pem").unwrap_err();
    assert!(reason(&unknown).contains("no revocation list"), "{}", reason(&unknown));
    let without = TlsKeys { crl: false, ..keys.clone() };
    subject_of(&without, "revoked.pem").unwrap();
    let none = TlsKeys { trust_store: store("ca.pem"), ..keys };
    assert!(TlsPort::new(&none).err().unwrap().to_string().contains("no revocation list"));
}

#[test]
fn an_address_is_compared_with_the_certificate_only_if_asked_for() {
    let keys = TlsKeys { client_hostname_verification: true, ..keys("server.pem", "ca.pem") };
    let asking = TlsPort::new(&keys).unwrap();
    let not = TlsPort::new(&TlsKeys { client_hostname_verification: false, ..keys }).unwrap();
    let certificate = |name: &str| CertificateDer::from_pem_slice(&file(name)).unwrap();
    let here = "127.0.0.1".parse().unwrap();
    // That of the server names 127.0.0.1; that of the client names nothing.
    assert_eq!(asking.check_address(&certificate("server.pem"), here), Ok(()));
    asking.check_address(&certificate("server.pem"), "127.0.0.2".parse().unwrap()).unwrap_err();
    let error = asking.check_address(&certificate("client.pem"), here).unwrap_err();
    assert!(reason(&error).contains("ssl.clientHostnameVerification=false"), "{}", reason(&error));
    assert_eq!(not.check_address(&certificate("client.pem"), here), Ok(()));
}

#[test]
fn changed_files_are_loaded_and_broken_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, contents: &[u8]| {
        // As certificates are renewed: another file under the same name.
        let new = dir.path().join("new");
        std::fs::write(&new, contents).unwrap();
        std::fs::rename(new, dir.path().join(name)).unwrap();
    };
    write("key.pem", &file("server.pem"));
    write("trust.pem", &file("ca.pem"));
    let mut keys = keys("", "");
    keys.key_store.location = Some(dir.path().join("key.pem"));
    keys.trust_store.location = Some(dir.path().join("trust.pem"));
    let port = TlsPort::new(&keys).unwrap();
    let served = || {
        let mut client = client(Some("client.pem"), &[&version::TLS13]);
        handshake(&port, &mut client, 1000).map(|_| client.peer_certificates().unwrap()[0].clone().into_owned())
    };
    let certificate = |name: &str| CertificateDer::from_pem_slice(&file(name)).unwrap();
    assert!(!port.reload(), "nothing has changed");

    write("key.pem", &file("rsa.pem"));
    assert!(port.reload() && !port.reload());
    assert_eq!(served(), Ok(certificate("rsa.pem")));

    write("key.pem", b"half a file");
    assert!(!port.reload());
    std::fs::remove_file(dir.path().join("key.pem")).unwrap();
    assert!(!port.reload());
    assert_eq!(served(), Ok(certificate("rsa.pem")));

    write("key.pem", &file("server.pem"));
    assert!(port.reload());
    assert_eq!(served(), Ok(certificate("server.pem")));

    write("trust.pem", &file("other.pem"));
    assert!(port.reload());
    served().unwrap_err();
}

#[test]
fn a_ticket_of_before_is_worth_nothing_when_trust_has_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trust.pem");
    std::fs::write(&path, file("ca.pem")).unwrap();
    let mut keys = keys("server.pem", "");
    keys.trust_store.location = Some(path.clone());
    let port = TlsPort::new(&keys).unwrap();
    let client = client_config(Some("client.pem"), &[&version::TLS13]);
    let kind = || {
        let mut client = connect(&client);
        let session = handshake(&port, &mut client, 1000)?;
        let subject = subject(session.peer_certificate().unwrap()).unwrap();
        assert_eq!(subject, "CN=client,OU=a\\, b,O=zabkit tests");
        Ok::<_, rustls::Error>(client.handshake_kind().unwrap())
    };
    assert_eq!(kind(), Ok(HandshakeKind::Full));
    assert_eq!(kind(), Ok(HandshakeKind::Resumed));
    std::fs::write(&path, file("other.pem")).unwrap();
    assert!(port.reload());
    kind().unwrap_err();
}

#[test]
fn a_large_answer_passes_in_pieces_and_the_end_is_told() {
    let port = TlsPort::new(&keys("server.pem", "ca.pem")).unwrap();
    let mut client = client(Some("client.pem"), &[&version::TLS13]);
    let mut server = handshake(&port, &mut client, 1000).unwrap();
    let answer: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    let (mut left, mut got) = (Some(answer.clone()), Vec::<u8>::new());
    for turn in 0.. {
        let mut out = Vec::new();
        server.fill(&mut out, |plain| {
            plain.extend(left.take().unwrap_or_default());
            true
        });
        if out.is_empty() {
            break;
        }
        assert!(out.len() < 70_000 && turn < 100, "{} bytes in turn {turn}", out.len());
        assert_eq!(server.waiting(), 1_000_000_usize.saturating_sub((turn + 1) * 65_536), "what waits is counted");
        let mut wire = &out[..];
        while !wire.is_empty() {
            client.read_tls(&mut wire).unwrap();
            client.process_new_packets().unwrap();
            let mut plain = [0; 100_000];
            while let Ok(n @ 1..) = client.reader().read(&mut plain) {
                got.extend(&plain[..n]);
            }
        }
    }
    assert!(got == answer, "{} bytes", got.len());
    assert_eq!(client.reader().read(&mut [0; 1]).unwrap(), 0, "the end was told in order");

    client.writer().write_all(b"the last").unwrap();
    client.send_close_notify();
    let (mut wire, mut input) = (Vec::new(), Vec::new());
    while client.wants_write() {
        client.write_tls(&mut wire).unwrap();
    }
    assert!(!server.is_over());
    server.receive(&wire, &mut input).unwrap();
    assert_eq!((input.as_slice(), server.is_over()), (&b"the last"[..], true));
}

#[test]
fn plain_bytes_are_told_from_tls() {
    let port = TlsPort::new(&keys("server.pem", "ca.pem")).unwrap();
    let mut server = port.session().unwrap();
    let connect = [0, 0, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let error = server.receive(&connect, &mut Vec::new()).unwrap_err();
    assert!(reason(&error).contains("does not speak TLS"), "{}", reason(&error));
}
