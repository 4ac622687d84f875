//! One connection of a session, in the bytes of the records: replies in order, events apart.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use zabkit::jute::{Reader, Record};
use zabkit::records::*;

/// What a session takes along to its next connection.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    pub session: SessionId,
    /// The newest state that it has seen, by the headers of replies.
    pub last_zxid: Zxid,
    pub xid: i32,
}

impl Identity {
    pub const NEW: Identity = Identity { session: SessionId(0), last_zxid: Zxid::ZERO, xid: 0 };
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub zxid: Zxid,
    pub kind: i32,
    pub path: String,
}

pub struct Link {
    stream: TcpStream,
    received: Vec<u8>,
    pub identity: Identity,
    /// Those that nobody has looked at yet.
    pub events: Vec<Event>,
}

pub type Answer = Result<Response, i32>;

impl Link {
    /// Opens a session, or goes on with one; the server must agree.
    pub fn open(addr: SocketAddr, identity: Identity) -> io::Result<Link> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut link = Link { stream, received: Vec::new(), identity, events: Vec::new() };
        let Identity { session, last_zxid, .. } = identity;
        let password = if session.0 == 0 { vec![0; PASSWORD_LEN] } else { session_password(session).to_vec() };
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: last_zxid,
            timeout_ms: 20_000,
            session,
            password: Some(password),
            read_only: Some(false),
        };
        let mut bytes = Vec::new();
        write_frame(&mut bytes, |out| request.write(out));
        link.stream.write_all(&bytes)?;
        let response = ConnectResponse::from_bytes(&link.frame()?).map_err(io::Error::other)?;
        assert!(response.timeout_ms > 0, "session {session} was refused");
        assert!(session.0 == 0 || response.session == session, "{session} became {}", response.session);
        link.identity.session = response.session;
        Ok(link)
    }

    /// Sends requests in one write; their xids.
    pub fn send(&mut self, requests: &[Request]) -> io::Result<Vec<i32>> {
        let mut bytes = Vec::new();
        let mut xids = Vec::new();
        for request in requests {
            self.identity.xid += 1;
            let (xid, op) = (self.identity.xid, request.op());
            xids.push(xid);
            write_frame(&mut bytes, |out| {
                RequestHeader { xid, op }.write(out);
                request.write(out);
            });
        }
        self.stream.write_all(&bytes)?;
        Ok(xids)
    }

    /// The next reply: its header, and its body without an error. Events before it are kept.
    pub fn reply(&mut self) -> io::Result<(ReplyHeader, Vec<u8>)> {
        loop {
            let frame = self.frame()?;
            let mut from = Reader::new(&frame);
            let header = ReplyHeader::read(&mut from).map_err(io::Error::other)?;
            if header.xid == NOTIFICATION_XID {
                let event = WatcherEvent::read(&mut from).map_err(io::Error::other)?;
                self.events.push(Event { zxid: header.zxid, kind: event.kind, path: event.path });
                continue;
            }
            self.identity.last_zxid = self.identity.last_zxid.max(header.zxid);
            return Ok((header, from.rest().to_vec()));
        }
    }

    /// Asks, and waits for the answer. The zxid is that of the reply's header.
    pub fn ask(&mut self, request: Request) -> io::Result<(Zxid, Answer)> {
        let op = request.op();
        let xid = self.send(&[request])?[0];
        let (header, body) = self.reply()?;
        assert_eq!(header.xid, xid, "another request was answered");
        let answer = match header.err {
            0 => Ok(Response::read(op, &mut Reader::new(&body)).map_err(io::Error::other)?),
            err => Err(err),
        };
        Ok((header.zxid, answer))
    }

    /// Closes the connection.
    pub fn shut(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Whether the server ends the connection without another reply.
    pub fn ends(&mut self) -> bool {
        let ended =
            |error: io::Error| matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset);
        self.reply().map(drop).err().is_some_and(ended)
    }

    fn frame(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some((length, rest)) = self.received.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if rest.len() >= length {
                    let frame = rest[..length].to_vec();
                    self.received.drain(..4 + length);
                    return Ok(frame);
                }
            }
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.received.extend(&chunk[..n]),
            }
        }
    }
}

pub fn create(path: &str, flags: i32) -> Request {
    let acl = vec![RequestAcl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) }];
    Request::Create(CreateRequest { path: Some(path.into()), data: Some(b"x".to_vec()), acl: Some(acl), flags })
}

pub fn delete(path: &str) -> Request {
    Request::Delete(PathVersion { path: Some(path.into()), version: -1 })
}

pub fn set(path: &str) -> Request {
    Request::SetData(SetDataRequest { path: Some(path.into()), data: Some(b"y".to_vec()), version: -1 })
}

pub fn sync() -> Request {
    Request::Sync(PathOnly { path: Some("/".into()) })
}

pub fn watch(path: &str, watch: bool) -> PathWatch {
    PathWatch { path: Some(path.into()), watch }
}
