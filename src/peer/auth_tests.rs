//! Who a connection is, what it takes to be it, and when it counts.

use super::auth::{AuthNote, AuthSettings, certificate_ids};
use super::test_host::{Sent, TestHost, create, create_body, frame, get, sent, set};
use super::{ConnEnd, ConnPhase, NONCE_BYTES, Outbox, SaslUsers, Settings};
use crate::jute::Record;
use crate::records::{
    AuthRequest, ClientInfo, ErrorCode, Id, PathVersion, Request, RequestAcl, SaslRequest, SetAclRequest, WhoAmIReply,
    Zxid, perms,
};
use crate::sync::{read, write};
use crate::tree::acl::{AclRules, DigestAlgorithm, digest_id};
use std::sync::Arc;

fn host_with(auth: AuthSettings) -> TestHost {
    let host = TestHost::new();
    write(&host.db).set_settings(Settings { auth, ..Settings::default() });
    host
}

fn auth(scheme: &str, auth: &[u8]) -> Request {
    Request::Auth(AuthRequest { kind: 0, scheme: Some(scheme.into()), auth: Some(auth.to_vec()) })
}

fn sasl(token: &[u8]) -> Request {
    Request::Sasl(SaslRequest { token: Some(token.to_vec()) })
}

fn acl(perms: i32, scheme: &str, id: &str) -> RequestAcl {
    RequestAcl { perms, scheme: Some(scheme.into()), id: Some(id.into()) }
}

fn create_for(path: &str, acl: RequestAcl) -> Request {
    let mut body = create_body(path, b"", 0);
    body.acl = Some(vec![acl]);
    Request::Create(body)
}

/// The error of the only answer.
fn err(host: &TestHost, outbox: &Arc<Outbox>, request: Request) -> i32 {
    let answers = host.ask(outbox, 1, request);
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers[0].header().err
}

fn who_am_i(host: &TestHost, outbox: &Arc<Outbox>) -> Vec<(String, String)> {
    let answers = host.ask(outbox, 1, Request::WhoAmI);
    let [Sent::Reply { body, .. }] = &answers[..] else { panic!("{answers:?}") };
    let infos = WhoAmIReply::from_bytes(body).unwrap().client_info;
    infos.into_iter().map(|ClientInfo { auth_scheme, user }| (auth_scheme, user)).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(scheme, user)| ((*scheme).to_owned(), (*user).to_owned())).collect()
}

const REFUSED: i32 = ErrorCode::AuthFailed as i32;
const NO_AUTH: i32 = ErrorCode::NoAuth as i32;
const REQUIRED: i32 = ErrorCode::SessionClosedRequireAuth as i32;

/// ZooKeeper: the providers' `handleAuthentication`. The settings, the packet, the answer (none: a silent end), and who
/// the connection is afterwards beside its address.
#[test]
fn an_auth_packet_is_judged_by_its_scheme() {
    let default = AuthSettings::default;
    let with_super = || AuthSettings { super_digest: Some(digest_id("super:secret")), ..default() };
    let no_digest = || AuthSettings { acl: AclRules { digest: false, ..AclRules::default() }, ..default() };
    let ensemble = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        AuthSettings { ensemble: Some(names), ..default() }
    };
    let null = Request::Auth(AuthRequest { kind: 0, scheme: Some("digest".into()), auth: None });
    let no_scheme = Request::Auth(AuthRequest { kind: 0, scheme: None, auth: Some(vec![]) });
    for (settings, packet, answer, ids) in [
        (default(), auth("digest", b"bob:x"), Some(0), &[("digest", "bob")][..]),
        (default(), auth("digest", b"no colon"), Some(0), &[("digest", "no colon")]),
        (default(), auth("digest", b""), Some(0), &[("digest", "")]),
        (default(), null, Some(REFUSED), &[]),
        (no_digest(), auth("digest", b"bob:x"), Some(REFUSED), &[]),
        (with_super(), auth("digest", b"super:secret"), Some(0), &[("super", ""), ("digest", "super")]),
        (with_super(), auth("digest", b"super:other"), Some(0), &[("digest", "super")]),
        (default(), auth("ip", b"1.2.3.4"), Some(0), &[]),
        (default(), auth("world", b"anyone"), Some(REFUSED), &[]),
        (default(), auth("super", b""), Some(REFUSED), &[]),
        (default(), auth("sasl", b"bob:x"), Some(REFUSED), &[]),
        (default(), auth("x509", b"CN=a"), Some(REFUSED), &[]),
        (default(), auth("ensemble", b"a"), Some(REFUSED), &[]),
        (default(), no_scheme, Some(REFUSED), &[]),
        (ensemble(&["a", "b"]), auth("ensemble", b"b"), Some(0), &[]),
        (ensemble(&["a", "b"]), auth("ensemble", b""), Some(0), &[]),
        (ensemble(&["a", "b"]), auth("ensemble", b"c"), None, &[]),
        (ensemble(&[]), auth("ensemble", b"c"), Some(0), &[]),
    ] {
        let what = format!("{packet:?} under {settings:?}");
        let host = host_with(settings);
        let outbox = host.connect(1);
        let answers = host.ask(&outbox, -4, packet);
        let errs: Vec<i32> = answers.iter().map(|answer| answer.header().err).collect();
        assert_eq!(errs, answer.into_iter().collect::<Vec<_>>(), "{what}");
        assert!(answers.iter().all(|sent| (sent.header().xid, sent.header().zxid) == (-4, Zxid::ZERO)), "{what}");
        assert_eq!(outbox.phase() == ConnPhase::Closing, answer != Some(0), "{what}");
        let notes = outbox.take_auth_notes();
        let is_good = matches!(notes[..], [AuthNote::Accepted { .. }]);
        assert!(is_good || matches!(notes[..], [AuthNote::Refused { .. }]), "{notes:?}");
        assert_eq!(is_good, answer == Some(0), "{what}");
        if answer == Some(0) {
            assert_eq!(who_am_i(&host, &outbox), [&pairs(&[("ip", "127.0.0.1")])[..], &pairs(ids)].concat(), "{what}");
        }
    }
}

#[test]
fn the_hash_of_a_digest_is_the_configured_one() {
    let settings = AuthSettings { digest_algorithm: DigestAlgorithm::Sha256, ..AuthSettings::default() };
    let host = host_with(settings);
    let outbox = host.connect(1);
    assert_eq!(err(&host, &outbox, auth("digest", b"bob:x")), 0);
    let sha256 = DigestAlgorithm::Sha256.id("bob:x");
    assert_eq!(err(&host, &outbox, create_for("/sha256", acl(perms::ALL, "digest", &sha256))), 0);
    assert_eq!(err(&host, &outbox, get("/sha256", false)), 0);
    assert_eq!(err(&host, &outbox, create_for("/sha1", acl(perms::ALL, "digest", &digest_id("bob:x")))), 0);
    assert_eq!(err(&host, &outbox, get("/sha1", false)), NO_AUTH);
}

/// Client protocol, 5.1 and 16.2; ZooKeeper: `Request.authInfo`.
#[test]
fn auth_overtakes_and_what_was_read_before_it_keeps_the_ids_that_it_had() {
    let host = TestHost::new();
    let other = host.connect(2);
    assert_eq!(err(&host, &other, auth("digest", b"bob:x")), 0);
    assert_eq!(err(&host, &other, create_for("/bobs", acl(perms::ALL, "auth", ""))), 0);

    let outbox = host.connect(1);
    let requests = [
        (1, create("/n", 0)),
        (2, get("/bobs", false)),
        (3, set("/bobs", b"too early")),
        (-4, auth("digest", b"bob:x")),
        (4, get("/bobs", false)),
        (5, set("/bobs", b"in time")),
    ];
    let frames: Vec<Vec<u8>> = requests.iter().map(|(xid, request)| frame(*xid, request)).collect();
    let forward = host.submit(&outbox, &frames);
    let answers = |outbox: &Outbox| -> Vec<(i32, i32)> {
        sent(outbox).iter().map(|sent| (sent.header().xid, sent.header().err)).collect()
    };
    assert_eq!(answers(&outbox), [(-4, 0)], "ahead of everything that waits");
    let schemes: Vec<usize> = forward.iter().map(|request| request.auth.len()).collect();
    assert_eq!(schemes, [1, 1, 2], "a write goes on its way with the ids of when it was read");
    for request in &forward {
        host.commit(vec![host.prepare(request)]);
    }
    assert_eq!(answers(&outbox), [(1, 0), (2, NO_AUTH), (3, NO_AUTH), (4, 0), (5, 0)]);
}

/// ZooKeeper: `AuthenticationHelper.enforceAuthentication`.
#[test]
fn where_a_scheme_is_required_nothing_but_authentication_is_taken_without_it() {
    let settings =
        || AuthSettings { required_schemes: vec!["digest".into(), "sasl".into()], ..AuthSettings::default() };
    for request in [get("/", false), create("/n", 0), Request::Ping, Request::CloseSession, Request::WhoAmI] {
        let host = host_with(settings());
        let outbox = host.connect(1);
        let forward = host.submit(&outbox, &[frame(7, &request)]);
        let answers = sent(&outbox);
        let [Sent::Reply { header, body }] = &answers[..] else { panic!("{request:?}: {answers:?}") };
        assert_eq!((header.xid, header.zxid, header.err, body.len()), (7, Zxid::ZERO, REQUIRED, 0), "{request:?}");
        assert_eq!((forward.len(), outbox.end()), (0, Some(ConnEnd::Unauthenticated)), "{request:?}");
    }
    let host = host_with(settings());
    let outbox = host.connect(1);
    assert_eq!(err(&host, &outbox, auth("digest", b"bob:x")), 0);
    assert_eq!(err(&host, &outbox, create("/n", 0)), 0);
    let address = AuthSettings { required_schemes: vec!["ip".into()], ..AuthSettings::default() };
    let host = host_with(address);
    assert_eq!(err(&host, &host.connect(1), create("/n", 0)), 0);
}

fn sasl_settings() -> AuthSettings {
    let users: SaslUsers = [("bob".to_owned(), "secret".to_owned())].into_iter().collect();
    AuthSettings { sasl: Some(users), ..AuthSettings::default() }
}

fn sasl_connection(host: &TestHost, number: u64) -> Arc<Outbox> {
    let outbox = host.connect(number);
    outbox.allow_sasl([number as u8; NONCE_BYTES]);
    outbox
}

/// The token in an answer, and its error.
fn token(host: &TestHost, outbox: &Arc<Outbox>, request: Request) -> (i32, Option<Vec<u8>>) {
    let answers = host.ask(outbox, 9, request);
    let [Sent::Reply { header, body }] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((header.xid, header.zxid), (9, Zxid::ZERO));
    (header.err, Record::from_bytes(body).unwrap())
}

/// ZooKeeper: `ZooKeeperServer.processSasl`.
#[test]
fn a_failed_login_ends_the_connection_unless_it_may_stay() {
    let required = || AuthSettings { required_schemes: vec!["sasl".into()], ..sasl_settings() };
    let allowed = |settings: AuthSettings| AuthSettings { allow_failed_sasl: true, ..settings };
    for (settings, expected) in [
        (sasl_settings(), REFUSED),
        (required(), REQUIRED),
        (allowed(sasl_settings()), 0),
        (allowed(required()), REQUIRED),
    ] {
        let what = format!("{settings:?}");
        let host = host_with(settings);
        let outbox = sasl_connection(&host, 1);
        let (challenge_err, challenge) = token(&host, &outbox, sasl(b""));
        assert!(challenge_err == 0 && challenge.unwrap().starts_with(b"realm=\"zk-sasl-md5\",nonce="), "{what}");
        // The answer has a body, also with an error.
        assert_eq!(token(&host, &outbox, sasl(b"username=\"bob\"")), (expected, None), "{what}");
        let notes = outbox.take_auth_notes();
        assert!(matches!(&notes[..], [AuthNote::LoginFailed { stays, .. }] if *stays == (expected == 0)), "{notes:?}");
        assert_eq!(outbox.phase() == ConnPhase::Closing, expected != 0, "{what}");
        if expected == 0 {
            assert_eq!(who_am_i(&host, &outbox), pairs(&[("ip", "127.0.0.1")]));
            assert_eq!(token(&host, &outbox, sasl(b"")), (0, None), "a login is one try");
        }
    }
}

#[test]
fn without_sasl_a_token_is_answered_with_none() {
    let host = TestHost::new();
    let outbox = host.connect(1);
    assert_eq!(token(&host, &outbox, sasl(b"")), (0, None));
    assert_eq!(token(&host, &outbox, Request::Sasl(SaslRequest { token: None })), (0, None));
    assert_eq!(outbox.phase(), ConnPhase::Open);
    // Set up, but the host has made no nonce: nobody logs in.
    let host = host_with(sasl_settings());
    assert_eq!(token(&host, &host.connect(1), sasl(b"")), (REFUSED, None));
}

#[test]
fn ids_of_a_connection_are_bounded_in_number_and_bytes() {
    let host = TestHost::new();
    let outbox = host.connect(1);
    for number in 0..255 {
        assert_eq!(err(&host, &outbox, auth("digest", format!("u{number}:x").as_bytes())), 0);
    }
    assert_eq!(err(&host, &outbox, auth("digest", b"u7:x")), 0, "known already");
    assert_eq!(err(&host, &outbox, auth("digest", b"another:x")), REFUSED);
    let outbox = host.connect(2);
    assert_eq!(err(&host, &outbox, auth("digest", &[b'u'; 60 << 10])), 0);
    assert_eq!(err(&host, &outbox, auth("digest", &[b'v'; 60 << 10])), REFUSED);
    let outbox = host.connect(3);
    assert_eq!(err(&host, &outbox, auth("digest", &[b'u'; 1 << 20])), REFUSED);
    assert!(!host.connect(4).add_ids((0..1000).map(|number| Id::new("x509", &number.to_string()))));
}

#[test]
fn notes_of_authentications_are_bounded_in_number_and_length() {
    let host = TestHost::new();
    let outbox = host.connect(1);
    let packets: Vec<Vec<u8>> = (0..40).map(|_| frame(-4, &auth("ip", b""))).collect();
    host.submit(&outbox, &packets);
    assert_eq!((sent(&outbox).len(), outbox.take_auth_notes().len()), (40, 16));
    assert_eq!(err(&host, &outbox, auth(&"x".repeat(100_000), b"")), REFUSED);
    assert_eq!(outbox.take_auth_notes(), [AuthNote::Refused { scheme: "x".repeat(64) }]);
}

#[test]
fn a_certificate_is_an_id_and_that_of_the_superuser_is_super_besides() {
    let acl = AclRules { x509: true, x509_superuser: Some("CN=root".into()), ..AclRules::default() };
    let settings = AuthSettings { acl, ..AuthSettings::default() };
    assert_eq!(certificate_ids("CN=a", &settings), [Id::new("x509", "CN=a")]);
    assert_eq!(certificate_ids("CN=root", &settings), [Id::new("super", "CN=root"), Id::new("x509", "CN=root")]);
    let host = host_with(settings);
    let outbox = host.connect(1);
    assert!(outbox.add_ids([Id::new("x509", "CN=a")]));
    assert_eq!(who_am_i(&host, &outbox), pairs(&[("ip", "127.0.0.1"), ("x509", "CN=a")]));
    let mine = |path| create_for(path, super::auth_tests::acl(perms::ALL, "auth", ""));
    assert_eq!(err(&host, &outbox, mine("/a")), 0);
    assert_eq!(err(&host, &outbox, get("/a", false)), 0);
    assert_eq!(err(&host, &host.connect(2), get("/a", false)), NO_AUTH);
    let root = host.connect(3);
    assert!(root.add_ids(certificate_ids("CN=root", &read(&host.db).settings().auth)));
    assert_eq!(err(&host, &root, get("/a", false)), 0);
}

#[test]
fn skip_acl_lets_everybody_do_everything_but_store_a_bad_list() {
    let bobs = acl(perms::ALL, "digest", "bob:x");
    let skip = AuthSettings { acl: AclRules { skip: true, ..AclRules::default() }, ..AuthSettings::default() };
    for (settings, expected) in [(AuthSettings::default(), NO_AUTH), (skip, 0)] {
        let host = host_with(settings);
        let outbox = host.connect(1);
        assert_eq!(err(&host, &outbox, create_for("/bobs", bobs.clone())), 0);
        assert_eq!(err(&host, &outbox, get("/bobs", false)), expected);
        assert_eq!(err(&host, &outbox, set("/bobs", b"")), expected);
        assert_eq!(err(&host, &outbox, create("/bobs/child", 0)), expected);
        let bad = create_for("/bad", acl(perms::ALL, "nonsense", "x"));
        assert_eq!(err(&host, &outbox, bad), ErrorCode::InvalidAcl.code());
    }
}

/// ZooKeeper: `ZooKeeperServer.authWriteRequest`.
#[test]
fn an_eager_check_refuses_a_write_before_it_is_ordered() {
    let eager = AuthSettings { eager_acl_check: true, ..AuthSettings::default() };
    for (settings, is_eager) in [(AuthSettings::default(), false), (eager, true)] {
        let host = host_with(settings);
        let outbox = host.connect(1);
        assert_eq!(err(&host, &outbox, create_for("/bobs", acl(perms::ALL, "digest", "bob:x"))), 0);
        let path = || Some("/bobs".to_owned());
        let child = Request::Delete(PathVersion { path: Some("/bobs/child".into()), version: -1 });
        let set_acl = |list| Request::SetAcl(SetAclRequest { path: path(), acl: list, version: -1 });
        let open = acl(perms::ALL, "world", "anyone");
        for (request, expected) in [
            (create("/bobs/child", 0), NO_AUTH),
            (child, NO_AUTH),
            (set("/bobs", b""), NO_AUTH),
            (set_acl(Some(vec![open])), NO_AUTH),
            (set_acl(None), ErrorCode::InvalidAcl.code()),
            (create_for("/bad", acl(perms::ALL, "nonsense", "x")), ErrorCode::InvalidAcl.code()),
        ] {
            let forward = host.submit(&outbox, &[frame(3, &request)]);
            assert_eq!(forward.is_empty(), is_eager, "{request:?}");
            for request in &forward {
                host.commit(vec![host.prepare(request)]);
            }
            let answers = sent(&outbox);
            assert_eq!(answers.len(), 1, "{request:?}");
            let header = answers[0].header();
            assert_eq!((header.err, header.zxid == Zxid::ZERO), (expected, is_eager), "{request:?}");
        }
        // What is wrong otherwise is for the leader to say, and so is what depends on a write before it.
        assert_eq!(host.submit(&outbox, &[frame(3, &set("/none", b"")), frame(4, &set("/bobs", b""))]).len(), 2);
    }
}
