//! Login by SASL, both sides of DIGEST-MD5 (RFC 2831): bytes in, bytes out. Clients log in at servers, and servers at
//! servers.
//!
//! The client's first token only asks; the server sends a challenge with a nonce, the client an answer that nobody can
//! make without the password, the server one that proves the same of itself. The nonce comes in with the connection. A
//! login is one try: after it, done or failed, a connection has no other.
//!
//! ZooKeeper: `ZooKeeperSaslServer`, `SaslServerCallbackHandler`; the JDK's `DigestMD5Server`, whose manner this has
//! where the RFC leaves a choice: one realm, protection `auth` (not said, as it is the default), nonce count 1.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use std::collections::BTreeMap;
use std::fmt;
use subtle::{Choice, ConstantTimeEq};

/// Random bytes of a nonce, as many as Java takes.
pub const NONCE_BYTES: usize = 30;
/// Bytes of a client's token at most. RFC 2831, 2.1.2.
const TOKEN_BYTES_MAX: usize = 4096;

/// The realm and the server's name: the same everywhere, so that a password's hash does not depend on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaslService {
    realm: &'static str,
    digest_uri: &'static str,
}

/// A client at a server.
pub const CLIENTS: SaslService = SaslService { realm: "zk-sasl-md5", digest_uri: "zookeeper/zk-sasl-md5" };
/// A server at another one.
pub const SERVERS: SaslService =
    SaslService { realm: "zk-quorum-sasl-md5", digest_uri: "zookeeper-quorum/zk-quorum-sasl-md5" };

/// Users and their passwords.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SaslUsers(BTreeMap<String, String>);

impl FromIterator<(String, String)> for SaslUsers {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(users: T) -> SaslUsers {
        SaslUsers(users.into_iter().collect())
    }
}

impl SaslUsers {
    /// Changes the password of `user`, if there is this user.
    pub fn set_password(&mut self, user: &str, password: &str) {
        if let Some(old) = self.0.get_mut(user) {
            password.clone_into(old);
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Without the passwords: settings are printed.
impl fmt::Debug for SaslUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Why a login has failed. For our own eyes: clients are told only that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SaslError {
    #[error("a token after the last one")]
    OutOfTurn,
    #[error("a token that is too long")]
    TooLong,
    #[error("not a list of directives, or one of them twice")]
    Malformed,
    #[error("{0} is missing, or not as it was asked for")]
    Directive(&'static str),
    #[error("no such user, or another password")]
    Mismatch,
    #[error("the other side does not know the password")]
    Unproved,
}

/// What a good token is answered with.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Challenge(Vec<u8>),
    /// The client is `user`.
    Done {
        user: String,
        token: Vec<u8>,
    },
}

/// The login of one connection.
#[derive(Debug)]
pub struct Exchange {
    service: SaslService,
    nonce: String,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fresh,
    Challenged,
    /// Well or ill.
    Over,
}

impl Exchange {
    /// `nonce`: random, never used before.
    pub fn new(service: SaslService, nonce: [u8; NONCE_BYTES]) -> Exchange {
        Exchange { service, nonce: STANDARD.encode(nonce), state: State::Fresh }
    }

    /// Takes the client's next token.
    pub fn step(&mut self, token: &[u8], users: &SaslUsers) -> Result<Answer, SaslError> {
        let state = std::mem::replace(&mut self.state, State::Over);
        match state {
            State::Over => Err(SaslError::OutOfTurn),
            _ if token.len() > TOKEN_BYTES_MAX => Err(SaslError::TooLong),
            State::Fresh => {
                self.state = State::Challenged;
                let (realm, nonce) = (self.service.realm, &self.nonce);
                let challenge = format!("realm=\"{realm}\",nonce=\"{nonce}\",charset=utf-8,algorithm=md5-sess");
                Ok(Answer::Challenge(challenge.into_bytes()))
            }
            State::Challenged => self.judge(token, users),
        }
    }

    /// ZooKeeper: the JDK's `DigestMD5Server.validateClientResponse`.
    fn judge(&self, token: &[u8], users: &SaslUsers) -> Result<Answer, SaslError> {
        let directives = Directives::parse(token).ok_or(SaslError::Malformed)?;
        let get = |name: &'static str| directives.get(name).ok_or(SaslError::Directive(name));
        let is = |name: &'static str, expected: &str, default: &str| {
            let value = directives.get(name).unwrap_or(default.as_bytes());
            if value == expected.as_bytes() { Ok(()) } else { Err(SaslError::Directive(name)) }
        };
        is("charset", "utf-8", "utf-8")?;
        is("realm", self.service.realm, "")?;
        is("nonce", &self.nonce, "")?;
        is("qop", "auth", "auth")?;
        let count = directives.get("nc").unwrap_or(b"1");
        if std::str::from_utf8(count).ok().and_then(|count| u32::from_str_radix(count, 16).ok()) != Some(1) {
            return Err(SaslError::Directive("nc"));
        }
        let uri = get("digest-uri")?;
        if !uri.eq_ignore_ascii_case(self.service.digest_uri.as_bytes()) {
            return Err(SaslError::Directive("digest-uri"));
        }
        let (user, cnonce, response) = (get("username")?, get("cnonce")?, get("response")?);
        let user = text(user);
        // An unknown user costs as much time as a wrong password.
        let known = users.0.get(&user);
        let password = known.map_or("", |password| password.as_str());
        // Characters of ISO 8859-1 are hashed as such by the RFC and by Java; other clients hash UTF-8 as it is.
        for encoding in [latin1_if_possible, utf8] {
            let proof = Proof {
                user: &encoding(&user),
                realm: self.service.realm.as_bytes(),
                password: &encoding(password),
                nonce: self.nonce.as_bytes(),
                cnonce,
                uri,
                authzid: directives.get("authzid"),
            };
            let is_equal = proof.of("AUTHENTICATE").as_bytes().ct_eq(response);
            if (is_equal & Choice::from(u8::from(known.is_some()))).into() {
                let token = format!("rspauth={}", proof.of("")).into_bytes();
                return Ok(Answer::Done { user, token });
            }
        }
        Err(SaslError::Mismatch)
    }
}

/// The login of who asks for it, by a name and a password.
#[derive(Debug)]
pub struct Login {
    service: SaslService,
    user: String,
    password: Secret,
    cnonce: String,
    /// What the server has to answer, once it was answered itself.
    expected: Option<Vec<u8>>,
}

/// Not printed.
struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Login {
    /// `nonce`: random, never used before. The first token is empty.
    pub fn new(service: SaslService, user: &str, password: &str, nonce: [u8; NONCE_BYTES]) -> Login {
        let (user, password) = (user.to_owned(), Secret(password.to_owned()));
        Login { service, user, password, cnonce: STANDARD.encode(nonce), expected: None }
    }

    /// Takes the server's next token. What to answer; `None`: the server has proved that it knows the password.
    ///
    /// ZooKeeper: the JDK's `DigestMD5Client`, to the byte.
    pub fn step(&mut self, token: &[u8]) -> Result<Option<Vec<u8>>, SaslError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(SaslError::TooLong);
        }
        if let Some(expected) = self.expected.take() {
            let is_equal: bool = expected.ct_eq(token).into();
            return if is_equal { Ok(None) } else { Err(SaslError::Unproved) };
        }
        let directives = Directives::parse(token).ok_or(SaslError::Malformed)?;
        let nonce = directives.get("nonce").ok_or(SaslError::Directive("nonce"))?;
        let realm = directives.get("realm").unwrap_or_default();
        if realm != self.service.realm.as_bytes() {
            return Err(SaslError::Directive("realm"));
        }
        if directives.get("charset").is_some_and(|charset| charset != b"utf-8") {
            return Err(SaslError::Directive("charset"));
        }
        let offered = directives.get("qop").unwrap_or(b"auth");
        if !offered.split(|byte| *byte == b',').any(|qop| qop.trim_ascii() == b"auth") {
            return Err(SaslError::Directive("qop"));
        }
        let nonce = std::str::from_utf8(nonce).map_err(|_| SaslError::Directive("nonce"))?;
        let (user, cnonce, SaslService { realm, digest_uri }) = (quoted(&self.user), &self.cnonce, self.service);
        let proof = Proof {
            user: &latin1_if_possible(&self.user),
            realm: realm.as_bytes(),
            password: &latin1_if_possible(&self.password.0),
            nonce: nonce.as_bytes(),
            cnonce: cnonce.as_bytes(),
            uri: digest_uri.as_bytes(),
            authzid: Some(self.user.as_bytes()),
        };
        self.expected = Some(format!("rspauth={}", proof.of("")).into_bytes());
        let (nonce, response) = (quoted(nonce), proof.of("AUTHENTICATE"));
        let answer = format!(
            "charset=utf-8,username={user},realm=\"{realm}\",nonce={nonce},nc=00000001,cnonce=\"{cnonce}\",\
             digest-uri=\"{digest_uri}\",maxbuf=65536,response={response},qop=auth,authzid={user}"
        );
        Ok(Some(answer.into_bytes()))
    }
}

fn quoted(text: &str) -> String {
    let escaped: String =
        text.chars().flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c])).collect();
    format!("\"{escaped}\"")
}

/// What the two sides prove to each other that they know.
struct Proof<'a> {
    user: &'a [u8],
    realm: &'a [u8],
    password: &'a [u8],
    nonce: &'a [u8],
    cnonce: &'a [u8],
    uri: &'a [u8],
    /// Whom the client wants to act as. It is part of the proof, and nothing else: who one is decides.
    authzid: Option<&'a [u8]>,
}

impl Proof<'_> {
    /// The value of `response` (`method`: AUTHENTICATE) and of `rspauth` (none). RFC 2831, 2.1.2.1.
    fn of(&self, method: &str) -> String {
        let secret = Md5::new().chain_update(self.user).chain_update(b":").chain_update(self.realm);
        let secret = secret.chain_update(b":").chain_update(self.password).finalize();
        let mut a1 = Md5::new().chain_update(secret);
        for part in [Some(self.nonce), Some(self.cnonce), self.authzid].into_iter().flatten() {
            a1 = a1.chain_update(b":").chain_update(part);
        }
        let a2 = Md5::new().chain_update(method).chain_update(b":").chain_update(self.uri);
        let (a1, a2) = (hex(&a1.finalize()), hex(&a2.finalize()));
        let all = Md5::new().chain_update(a1).chain_update(b":").chain_update(self.nonce).chain_update(b":00000001:");
        hex(&all.chain_update(self.cnonce).chain_update(b":auth:").chain_update(a2).finalize())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A user's name: UTF-8, or else ISO 8859-1.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

fn latin1_if_possible(text: &str) -> Vec<u8> {
    let latin1: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
    latin1.unwrap_or_else(|_| utf8(text))
}

fn utf8(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// `name=value, name="quoted \"value\""`, in any order; each name once.
struct Directives(Vec<(&'static str, Vec<u8>)>);

impl Directives {
    /// Those that count; others may be there.
    const NAMES: [&'static str; 10] =
        ["authzid", "charset", "cnonce", "digest-uri", "nc", "nonce", "qop", "realm", "response", "username"];

    fn parse(mut rest: &[u8]) -> Option<Directives> {
        let mut directives = Directives(Vec::new());
        loop {
            rest = rest.trim_ascii_start();
            let Some((&first, behind)) = rest.split_first() else {
                return Some(directives);
            };
            if first == b',' {
                rest = behind; // An empty element.
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'=' | b',' | b'"'))?;
            let (name, behind) = rest.split_at(end);
            let (value, behind) = take_value(behind.strip_prefix(b"=")?.trim_ascii_start())?;
            rest = behind.trim_ascii_start();
            if !(rest.is_empty() || rest.starts_with(b",")) {
                return None;
            }
            let name = name.trim_ascii_end();
            if let Some(known) = Self::NAMES.into_iter().find(|known| known.as_bytes().eq_ignore_ascii_case(name)) {
                if directives.get(known).is_some() {
                    return None;
                }
                directives.0.push((known, value));
            }
        }
    }

    fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_slice())
    }
}

/// The value at the start, without its quotes, and what follows.
fn take_value(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|byte| *byte == b',' || byte.is_ascii_whitespace()).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return Some((value.to_vec(), rest));
    };
    let mut value = Vec::new();
    let mut bytes = quoted.iter().enumerate();
    loop {
        match bytes.next()? {
            (at, b'"') => return Some((value, quoted.get(at + 1..)?)),
            (_, b'\\') => value.push(*bytes.next()?.1),
            (_, byte) => value.push(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// The example of RFC 2831, 4.
    #[test]
    fn proofs_are_those_of_the_rfc() {
        let proof = Proof {
            user: b"chris",
            realm: b"elwood.innosoft.com",
            password: b"secret",
            nonce: b"OA6MG9tEQGm2hh",
            cnonce: b"OA6MHXh6VqTrRk",
            uri: b"imap/elwood.innosoft.com",
            authzid: None,
        };
        assert_eq!(proof.of("AUTHENTICATE"), "d388dad90d4bbd760a152321f2143af7");
        assert_eq!(proof.of(""), "ea40f60335c427b5527b84dbabcdfffd");
    }

    fn users() -> SaslUsers {
        [("bob", "secret"), ("jörg", "straße")]
            .map(|(user, password)| (user.to_owned(), password.to_owned()))
            .into_iter()
            .collect()
    }

    fn challenged() -> Exchange {
        let mut exchange = Exchange::new(CLIENTS, [7; NONCE_BYTES]);
        let challenge = exchange.step(b"", &users()).unwrap();
        let nonce = STANDARD.encode([7; NONCE_BYTES]);
        let expected = format!("realm=\"zk-sasl-md5\",nonce=\"{nonce}\",charset=utf-8,algorithm=md5-sess");
        assert_eq!(challenge, Answer::Challenge(expected.into_bytes()));
        exchange
    }

    /// A client's answer with `changes` to the directives of a good one; an empty value leaves one out.
    fn answer(user: &str, password: &[u8], changes: &[(&str, &str)]) -> Vec<u8> {
        let nonce = STANDARD.encode([7; NONCE_BYTES]);
        let authzid = changes.iter().find(|(name, _)| *name == "authzid").map(|(_, value)| value.as_bytes());
        let user_hashed = if password.is_ascii() { utf8(user) } else { latin1_if_possible(user) };
        let proof = Proof {
            user: &user_hashed,
            realm: CLIENTS.realm.as_bytes(),
            password,
            nonce: nonce.as_bytes(),
            cnonce: b"c\"n",
            uri: CLIENTS.digest_uri.as_bytes(),
            authzid,
        };
        let response = proof.of("AUTHENTICATE");
        let mut all = vec![
            ("charset", "utf-8".to_owned()),
            ("username", format!("\"{user}\"")),
            ("realm", "\"zk-sasl-md5\"".to_owned()),
            ("nonce", format!("\"{nonce}\"")),
            ("nc", "00000001".to_owned()),
            ("cnonce", "\"c\\\"n\"".to_owned()),
            ("digest-uri", format!("\"{}\"", CLIENTS.digest_uri)),
            ("maxbuf", "65536".to_owned()),
            ("response", response),
            ("qop", "auth".to_owned()),
        ];
        for (name, value) in changes {
            all.retain(|(known, _)| known != name);
            if !value.is_empty() {
                all.push((name, (*value).to_owned()));
            }
        }
        all.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",").into_bytes()
    }

    fn judged(token: &[u8]) -> Result<String, SaslError> {
        match challenged().step(token, &users()) {
            Ok(Answer::Done { user, token }) => {
                assert!(token.starts_with(b"rspauth=") && token.len() == 40);
                Ok(user)
            }
            Ok(Answer::Challenge(_)) => panic!("a second challenge"),
            Err(error) => Err(error),
        }
    }

    #[test]
    fn the_right_password_is_taken_and_no_other() {
        assert_eq!(judged(&answer("bob", b"secret", &[])), Ok("bob".to_owned()));
        assert_eq!(judged(&answer("bob", b"Secret", &[])), Err(SaslError::Mismatch));
        assert_eq!(judged(&answer("bob", b"", &[])), Err(SaslError::Mismatch));
        assert_eq!(judged(&answer("eve", b"secret", &[])), Err(SaslError::Mismatch));
        assert_eq!(judged(&answer("eve", b"", &[])), Err(SaslError::Mismatch), "the password of nobody");
    }

    #[test]
    fn passwords_beyond_ascii_may_be_hashed_as_either_encoding() {
        assert_eq!(judged(&answer("jörg", &latin1_if_possible("straße"), &[])), Ok("jörg".to_owned()));
        let nonce = STANDARD.encode([7; NONCE_BYTES]);
        let proof = Proof {
            user: "jörg".as_bytes(),
            realm: CLIENTS.realm.as_bytes(),
            password: "straße".as_bytes(),
            nonce: nonce.as_bytes(),
            cnonce: b"x",
            uri: CLIENTS.digest_uri.as_bytes(),
            authzid: None,
        };
        let response = proof.of("AUTHENTICATE");
        let token = answer("jörg", b"", &[("response", response.as_str()), ("cnonce", "x")]);
        assert_eq!(judged(&token), Ok("jörg".to_owned()));
    }

    #[test]
    fn who_one_wants_to_act_as_is_proved_and_does_not_count() {
        assert_eq!(judged(&answer("bob", b"secret", &[("authzid", "super")])), Ok("bob".to_owned()));
        let mut forged = answer("bob", b"secret", &[]);
        forged.extend_from_slice(b",authzid=super");
        assert_eq!(judged(&forged), Err(SaslError::Mismatch));
    }

    #[test]
    fn directives_must_be_those_that_were_asked_for() {
        let judged = |changes: &[(&str, &str)]| judged(&answer("bob", b"secret", changes));
        for (name, value, missing_is_fine) in [
            ("charset", "iso-8859-1", true),
            ("username", "", false),
            ("realm", "\"elsewhere\"", false),
            ("nonce", "\"another\"", false),
            ("nc", "00000002", true),
            ("nc", "x", true),
            ("cnonce", "", false),
            ("digest-uri", "zookeeper/host", false),
            ("qop", "auth-conf", true),
            ("response", "", false),
        ] {
            let name: &'static str = name;
            if !value.is_empty() {
                assert_eq!(judged(&[(name, value)]), Err(SaslError::Directive(name)), "{name}={value}");
            }
            assert_eq!(judged(&[(name, "")]).is_ok(), missing_is_fine, "{name}");
        }
        assert_eq!(
            judged(&[("digest-uri", "\"ZooKeeper/zk-sasl-md5\"")]),
            Err(SaslError::Mismatch),
            "part of the proof"
        );
        assert!(judged(&[("unknown", "x")]).is_ok());
    }

    #[test]
    fn a_login_is_one_try() {
        let mut exchange = challenged();
        assert_eq!(exchange.step(&answer("bob", b"wrong", &[]), &users()), Err(SaslError::Mismatch));
        assert_eq!(exchange.step(&answer("bob", b"secret", &[]), &users()), Err(SaslError::OutOfTurn));
        assert_eq!(exchange.step(b"", &users()), Err(SaslError::OutOfTurn));
        let mut exchange = challenged();
        assert!(exchange.step(&answer("bob", b"secret", &[]), &users()).is_ok());
        assert_eq!(exchange.step(&answer("bob", b"secret", &[]), &users()), Err(SaslError::OutOfTurn));
        let mut exchange = Exchange::new(CLIENTS, [1; NONCE_BYTES]);
        assert!(matches!(exchange.step(b"whatever", &users()), Ok(Answer::Challenge(_))));
    }

    #[test]
    fn nonsense_is_refused() {
        let long = vec![b'a'; TOKEN_BYTES_MAX + 1];
        assert_eq!(judged(&long), Err(SaslError::TooLong));
        for token in ["x", "nc", "nc=\"", "nc=\"a", "nc=\"a\\", "nc=\"a\"b", "=", "nc=1,nc=1", "nc=1 2", "\"nc\"=1"] {
            let error = judged(token.as_bytes()).unwrap_err();
            assert!(matches!(error, SaslError::Malformed | SaslError::Directive(_)), "{token}: {error}");
        }
        for token in ["x", "nc=\"a", "nc=\"a\"b", "nc=1,nc=1", "nc=1 2"] {
            assert_eq!(judged(token.as_bytes()), Err(SaslError::Malformed), "{token}");
        }
    }

    #[test]
    fn lists_may_have_blanks_and_empty_elements_and_any_case() {
        let directives = Directives::parse(b" , NC = 1 ,\t realm=\"a\\\"b\" ,, other=x").unwrap();
        assert_eq!((directives.get("nc"), directives.get("realm")), (Some(&b"1"[..]), Some(&b"a\"b"[..])));
        assert_eq!(directives.0.len(), 2);
    }

    /// The exchange on the election port in `tests/testdata/quorum/sasl.json`, user test, password mypassword.
    #[test]
    fn a_server_logs_in_at_another_with_the_bytes_that_were_recorded() {
        let nonce = "H60jgebLURtQhoWANyF63C3o9fJRR0BjMDPIfN2F";
        let cnonce = STANDARD.decode("2nkE7eP5nY1oFG4ki0rRkJRw/fX5LRFXYpVOhi1w").unwrap();
        let mut login = Login::new(SERVERS, "test", "mypassword", cnonce.try_into().unwrap());
        let challenge = format!("realm=\"zk-quorum-sasl-md5\",nonce=\"{nonce}\",charset=utf-8,algorithm=md5-sess");
        let answer = login.step(challenge.as_bytes()).unwrap().unwrap();
        let recorded = "charset=utf-8,username=\"test\",realm=\"zk-quorum-sasl-md5\",\
            nonce=\"H60jgebLURtQhoWANyF63C3o9fJRR0BjMDPIfN2F\",nc=00000001,\
            cnonce=\"2nkE7eP5nY1oFG4ki0rRkJRw/fX5LRFXYpVOhi1w\",digest-uri=\"zookeeper-quorum/zk-quorum-sasl-md5\",\
            maxbuf=65536,response=e7f3cee15057f3dfc528914552c80b66,qop=auth,authzid=\"test\"";
        assert_eq!(String::from_utf8(answer.clone()).unwrap(), recorded);

        let users = [("test".to_owned(), "mypassword".to_owned())].into_iter().collect();
        let mut exchange = Exchange::new(SERVERS, STANDARD.decode(nonce).unwrap().try_into().unwrap());
        assert_eq!(exchange.step(b"", &users), Ok(Answer::Challenge(challenge.into_bytes())));
        let token = b"rspauth=55601a4b8387febc1caee2f9df3ac035".to_vec();
        assert_eq!(exchange.step(&answer, &users), Ok(Answer::Done { user: "test".to_owned(), token: token.clone() }));
        assert_eq!(login.step(&token), Ok(None));
    }

    #[test]
    fn who_logs_in_wants_a_proof_too() {
        let mut login = Login::new(SERVERS, "a\"b", "x", [1; NONCE_BYTES]);
        let answer = login.step(b"realm=\"zk-quorum-sasl-md5\",nonce=\"n\",charset=utf-8").unwrap().unwrap();
        assert!(answer.windows(15).any(|part| part == b"username=\"a\\\"b\""), "{}", String::from_utf8_lossy(&answer));
        assert_eq!(login.step(b"rspauth=00000000000000000000000000000000"), Err(SaslError::Unproved));
        for (challenge, error) in [
            (&b"realm=\"other\",nonce=\"n\""[..], SaslError::Directive("realm")),
            (b"realm=\"zk-quorum-sasl-md5\"", SaslError::Directive("nonce")),
            (b"realm=\"zk-quorum-sasl-md5\",nonce=\"n\",qop=\"auth-conf\"", SaslError::Directive("qop")),
            (b"realm", SaslError::Malformed),
        ] {
            assert_eq!(Login::new(SERVERS, "a", "x", [1; NONCE_BYTES]).step(challenge), Err(error));
        }
        assert!(!format!("{:?}", Login::new(SERVERS, "a", "secret", [1; NONCE_BYTES])).contains("secret"));
    }

    proptest! {
        /// Neither bytes of any kind, nor a good answer with one piece replaced, do anything but fail.
        #[test]
        fn no_token_panics(bytes in vec(any::<u8>(), 0..300), at in 0..400usize, cut in 0..8usize, piece in "[=,\"\\\\a-z ]{0,4}") {
            prop_assert!(judged(&bytes).is_err());
            let good = answer("bob", b"secret", &[]);
            let at = at.min(good.len());
            let mut bent = good.clone();
            bent.splice(at..(at + cut).min(good.len()), piece.bytes());
            // What is left may mean the same: a blank more, another `maxbuf`.
            prop_assert!(matches!(judged(&bent).as_deref(), Err(_) | Ok("bob")));
        }
    }

    #[test]
    fn passwords_are_not_printed() {
        let printed = format!("{:?}", users());
        assert!(printed.contains("bob") && !printed.contains("secret"));
    }
}
