//! The operator of an [`Ensemble`](super::Ensemble): the one who may change its list, by a session of its own with a member.
//!
//! Each ensemble has a super user whose password nobody else knows, and who is there only for a `reconfig`. What is easy to
//! get wrong: a request that was sent and not answered may have happened, so whoever asks must be able to ask again.
//!
//! ZooKeeper: `ZooKeeperAdmin.reconfigure`, `DigestAuthenticationProvider.superDigest`.

use crate::jute::{Reader, Record};
use crate::records::{
    AUTH_XID, AuthRequest, ConnectRequest, ConnectResponse, ErrorCode, JUTE_MAX_BUFFER, NOTIFICATION_XID, PASSWORD_LEN,
    ReconfigRequest, ReplyHeader, Request, RequestHeader, SessionId, Zxid, write_frame,
};
use crate::tree::acl::digest_id;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What the operator's session asks for, in ms: it is closed at once, unless its server is lost.
const SESSION_TIMEOUT_MS: i32 = 2000;
/// How long the end of the session is waited for.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// What became of a request.
#[derive(Debug)]
pub enum Answer {
    Done,
    Refused(ErrorCode),
    /// It was not sent.
    NotAsked(io::Error),
    /// It was sent, and may have happened.
    Undecided(io::Error),
}

/// The super user of one ensemble.
pub struct Operator {
    /// `user:password`
    credential: String,
}

impl Operator {
    pub fn new() -> Operator {
        // The keys are the system's random bytes; two of its hashes are as many bits as nobody tries.
        let [a, b] = [(); 2].map(|()| RandomState::new().hash_one(std::process::id()));
        Operator { credential: format!("super:{a:016x}{b:016x}") }
    }

    /// What the servers know of it: `superDigest`.
    pub fn digest(&self) -> String {
        digest_id(&self.credential)
    }

    /// Asks the member at `addr` for a change of the list. Blocks for at most `timeout`, and a moment to say goodbye.
    pub fn reconfig(&self, addr: SocketAddr, change: &ReconfigRequest, timeout: Duration) -> Answer {
        let mut session = match self.log_in(addr, Instant::now() + timeout) {
            Ok(session) => session,
            Err(error) => return Answer::NotAsked(error),
        };
        let answer = match session.ask(1, &Request::Reconfig(change.clone())) {
            Ok(0) => Answer::Done,
            Ok(code) => Answer::Refused(ErrorCode::from_code(code).unwrap_or(ErrorCode::SystemError)),
            Err(error) => Answer::Undecided(error),
        };
        session.deadline = Instant::now() + CLOSE_LIMIT;
        let _ = session.ask(2, &Request::CloseSession); // One that is left expires.
        answer
    }

    fn log_in(&self, addr: SocketAddr, deadline: Instant) -> io::Result<Session> {
        let stream = TcpStream::connect_timeout(&addr, left(deadline)?)?;
        stream.set_nodelay(true)?;
        let mut session = Session { stream, deadline };
        let connect = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid(0),
            timeout_ms: SESSION_TIMEOUT_MS,
            session: SessionId(0),
            password: Some(vec![0; PASSWORD_LEN]),
            read_only: Some(false),
        };
        session.send(|out| connect.write(out))?;
        let response = ConnectResponse::from_bytes(&session.frame()?).map_err(io::Error::other)?;
        if response.timeout_ms <= 0 {
            return Err(io::Error::other("the session is refused"));
        }
        let (scheme, auth) = (Some("digest".to_owned()), Some(self.credential.clone().into_bytes()));
        match session.ask(AUTH_XID, &Request::Auth(AuthRequest { kind: 0, scheme, auth }))? {
            0 => Ok(session),
            code => Err(io::Error::other(format!("the operator is not let in: code {code}"))),
        }
    }
}

struct Session {
    stream: TcpStream,
    deadline: Instant,
}

impl Session {
    /// Sends the request and waits for the code of its answer.
    fn ask(&mut self, xid: i32, request: &Request) -> io::Result<i32> {
        self.send(|out| {
            RequestHeader { xid, op: request.op() }.write(out);
            request.write(out);
        })?;
        loop {
            let frame = self.frame()?;
            let header = ReplyHeader::read(&mut Reader::new(&frame)).map_err(io::Error::other)?;
            match header.xid {
                NOTIFICATION_XID => {}
                answered if answered == xid => return Ok(header.err),
                other => return Err(io::Error::other(format!("an answer to {other} instead of {xid}"))),
            }
        }
    }

    fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, write);
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        self.stream.write_all(&bytes)
    }

    fn frame(&mut self) -> io::Result<Vec<u8>> {
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > JUTE_MAX_BUFFER {
            return Err(io::Error::other(format!("a frame of {length} bytes")));
        }
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame)?;
        Ok(frame)
    }
}

/// The time until `deadline`; an error when there is none left.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// What becomes of a change when the server goes away after it has answered so many frames.
    fn answered(frames: usize) -> Answer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut session = Session { stream, deadline: Instant::now() + PATIENCE };
            let (id, password) = (SessionId(1), vec![0; PASSWORD_LEN]);
            let connected =
                ConnectResponse { protocol_version: 0, timeout_ms: 1, session: id, password, read_only: None };
            for n in 0..frames {
                let asked = session.frame().unwrap();
                if n == 0 {
                    session.send(|out| connected.write(out)).unwrap();
                    continue;
                }
                let RequestHeader { xid, .. } = RequestHeader::read(&mut Reader::new(&asked)).unwrap();
                let err = if xid == AUTH_XID { 0 } else { ErrorCode::NewConfigNoQuorum as i32 };
                session.send(|out| ReplyHeader { xid, zxid: Zxid(0), err }.write(out)).unwrap();
            }
            let _ = session.frame(); // So that what comes last is taken before the connection ends.
        });
        let change = ReconfigRequest { joining: None, leaving: None, new_members: None, current_config: -1 };
        let answer = Operator::new().reconfig(addr, &change, PATIENCE);
        server.join().unwrap();
        answer
    }

    #[test]
    fn a_change_that_was_sent_and_not_answered_may_have_happened_and_no_other() {
        assert!(matches!(answered(0), Answer::NotAsked(_)));
        assert!(matches!(answered(1), Answer::NotAsked(_)));
        assert!(matches!(answered(2), Answer::Undecided(_)));
        assert!(matches!(answered(3), Answer::Refused(ErrorCode::NewConfigNoQuorum)));
    }
}
