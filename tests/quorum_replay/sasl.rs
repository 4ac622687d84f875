//! Logins between servers, both sides of both ports, beside `sasl.json`: the recorded nonces are said to our server, what
//! it makes of its own is compared in form and length, and what follows from either is computed.

use super::compare::Counts;
use super::puppets::{Heard, Policy};
use super::script::{Sequence, sequences};
use super::vectors::{json_files, list, text, unhex};
use super::world::World;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::channel;
use zabkit::jute::{Reader, Record};
use zabkit::peer::SaslUsers;
use zabkit::peer::sasl::{Answer, Exchange, Login, NONCE_BYTES, SERVERS};
use zabkit::records::*;

/// The user of the recording.
const USER: (&str, &str) = ("test", "mypassword");

/// The messages of one port, and the bytes behind them.
fn recorded(port: &str) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (_, file) = json_files("quorum").into_iter().find(|(name, _)| name == "sasl").expect("it is there");
    let connection = list(&file, "connections").iter().find(|each| text(each, "port") == port).expect("both ports");
    let messages = list(connection, "messages").iter().filter(|each| text(each, "kind").starts_with("AUTH"));
    (messages.map(|each| unhex(&each["hex"])).collect(), unhex(&connection["nextBytesFromConnectingSide"]))
}

/// Three servers of which ours logs in, and lets others log in.
fn world(id: i64, policy: Policy, greet: super::puppets::Greet) -> (World, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jaas.conf");
    let module = "org.apache.zookeeper.server.auth.DigestLoginModule required";
    let (user, password) = USER;
    let sections = format!(
        "QuorumServer {{ {module} user_{user}=\"{password}\"; }};\n\
         QuorumLearner {{ {module} username=\"{user}\" password=\"{password}\"; }};\n"
    );
    std::fs::write(&file, sections).unwrap();
    let settings = format!(
        "java.security.auth.login.config={}\nquorum.auth.enableSasl=true\nquorum.auth.learnerRequireSasl=true\n",
        file.display()
    );
    let sequence: Sequence = sequences().into_iter().find(|each| each.run == "trunc").expect("three voters");
    (World::start_with(&sequence, ServerId(id), policy, &settings, greet), dir)
}

fn packet(stream: &mut TcpStream) -> (Vec<u8>, QuorumAuthPacket) {
    let mut bytes = Vec::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a packet of a login");
        bytes.push(byte[0]);
        if let Some(packet) = QuorumAuthPacket::take(&mut Reader::new(&bytes)).expect("a packet of a login") {
            return (bytes, packet);
        }
    }
}

fn token(bytes: &[u8]) -> String {
    let packet = QuorumAuthPacket::take(&mut Reader::new(bytes)).unwrap().unwrap();
    String::from_utf8(packet.token.expect("a token")).unwrap()
}

/// The value of a directive in a token.
fn directive<'t>(token: &'t str, name: &str) -> &'t str {
    let at = token.find(&format!("{name}=")).unwrap_or_else(|| panic!("{name} in {token}")) + name.len() + 1;
    let end = token[at..].find(',').map_or(token.len(), |end| at + end);
    token[at..end].trim_matches('"')
}

fn nonce(token: &str, name: &str) -> [u8; NONCE_BYTES] {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(directive(token, name)).expect("base64, as Java's");
    bytes.try_into().expect("as many bytes as Java's")
}

/// The recorded packet, with these values of its token in the place of those of the received one.
fn compare(recorded: &[u8], received: &[u8], own: &[&str], counts: &mut Counts) {
    let (mut expected, said) = (recorded.to_vec(), token(received));
    for name in own {
        let (old, new) = (directive(&token(recorded), name).to_owned(), directive(&said, name).to_owned());
        assert_eq!(old.len(), new.len(), "{name}");
        let at = expected.windows(old.len()).position(|part| part == old.as_bytes()).expect("it is in there");
        expected[at..at + new.len()].copy_from_slice(new.as_bytes());
        counts.masked += new.len();
    }
    assert_eq!(super::vectors::hex(received), super::vectors::hex(&expected));
    counts.packets += 1;
    counts.bytes += received.len();
}

/// Plays the accepting side to our server, which dials; the recorded challenge is said.
fn accept_login(stream: &mut TcpStream, port: &str, counts: &mut Counts) {
    let (messages, _) = recorded(port);
    let (first, _) = packet(stream);
    compare(&messages[0], &first, &[], counts);
    stream.write_all(&messages[1]).unwrap();
    let (second, answer) = packet(stream);
    compare(&messages[2], &second, &["cnonce", "response"], counts);
    let users: SaslUsers = [(USER.0.to_owned(), USER.1.to_owned())].into_iter().collect();
    let mut exchange = Exchange::new(SERVERS, nonce(&token(&messages[1]), "nonce"));
    exchange.step(b"", &users).unwrap();
    let Ok(Answer::Done { token, .. }) = exchange.step(&answer.token.unwrap(), &users) else { panic!("it is wrong") };
    let mut bytes = Vec::new();
    QuorumAuthPacket { status: QuorumAuthStatus::Success, token: Some(token) }.write(&mut bytes);
    assert_eq!(bytes.len(), messages[3].len());
    stream.write_all(&bytes).unwrap();
}

/// Plays the dialing side to our server, with the recorded client's nonce.
fn log_in(stream: &mut TcpStream, port: &str, counts: &mut Counts) {
    let (messages, _) = recorded(port);
    stream.write_all(&messages[0]).unwrap();
    let (challenge, said) = packet(stream);
    compare(&messages[1], &challenge, &["nonce"], counts);
    let mut login = Login::new(SERVERS, USER.0, USER.1, nonce(&token(&messages[2]), "cnonce"));
    let answer = login.step(&said.token.unwrap()).unwrap();
    let mut bytes = Vec::new();
    QuorumAuthPacket { status: QuorumAuthStatus::InProgress, token: answer }.write(&mut bytes);
    assert_eq!(bytes.len(), messages[2].len());
    stream.write_all(&bytes).unwrap();
    let (last, proof) = packet(stream);
    compare(&messages[3], &last, &["rspauth"], counts);
    assert_eq!(login.step(&proof.token.unwrap()), Ok(None));
}

#[test]
fn logins_on_both_ports_are_those_of_apaches_servers_in_both_roles() {
    let mut counts = Counts::default();
    let settled = Policy::Settled { leader: ServerId(2), zxid: Zxid(0), peer_epoch: 1 };

    // Server 2 dials server 1, and then says its vote.
    let (sender, results) = channel();
    let greet = Box::new(move |stream: &mut TcpStream| {
        let mut counts = Counts::default();
        accept_login(stream, "election", &mut counts);
        let _ = sender.send(counts);
    });
    let (dialing, _dir) = world(2, Policy::Elect, Some(greet));
    counts += results.recv_timeout(super::world::PATIENCE).expect("it has logged in");
    let (_, next) = recorded("election");
    let vote = loop {
        if let (ServerId(1), Heard::Notification(bytes)) = dialing.puppets.next() {
            break bytes;
        }
    };
    assert_eq!(super::vectors::hex(&vote[..next.len()]), super::vectors::hex(&next), "what follows the login");
    counts.bytes += next.len();
    drop(dialing);

    // Server 1 follows server 2, and logs in at its quorum port.
    let (following, _dir) = world(1, settled, None);
    let mut link = following.accept(ServerId(2));
    accept_login(&mut link.stream, "quorum", &mut counts);
    let (_, next) = recorded("quorum");
    let info = link.next().unwrap();
    assert_eq!(super::vectors::hex(&info), super::vectors::hex(&next[..info.len()]), "what follows the login");
    counts.bytes += info.len();

    // It is dialed by server 2, which logs in.
    let mut stream = TcpStream::connect(following.election_addr).unwrap();
    stream.set_read_timeout(Some(super::world::PATIENCE)).unwrap();
    let mut initial = Vec::new();
    let addresses = InitialAddresses::One("127.0.0.1:1".to_owned());
    Initial { server: ServerId(2), addresses }.write(&mut initial);
    stream.write_all(&initial).unwrap();
    log_in(&mut stream, "election", &mut counts);
    drop(following);

    // Server 1 leads, and lets a learner log in.
    let (leading, _dir) = world(1, Policy::Elect, None);
    let mut link = leading.connect();
    log_in(&mut link.stream, "quorum", &mut counts);
    let info = LearnerInfo { server: ServerId(2), protocol_version: PROTOCOL_VERSION, config_version: 0 };
    link.send_packet(&QuorumPacket::FollowerInfo { accepted_epoch: Epoch(0), info });
    assert_eq!(super::world::decode(&link.next().unwrap(), true).name(), "LEADERINFO");
    println!("logins: {counts:?}");
    assert_eq!(counts.packets, 8);
}
