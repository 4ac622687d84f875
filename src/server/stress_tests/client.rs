//! A client that pipelines: one socket, one thread, requests in batches, every frame judged by [`Watched`].

use super::watched::{Awaited, Violation, Watched, What};
use crate::jute::{Reader, Record};
use crate::records::*;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What all sessions write and watch.
pub const SHARED: &str = "/shared";

/// What a client does over and over.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    SetOwn,
    GetOwn,
    SetShared,
    GetShared,
}

/// Why a client has stopped.
#[derive(Debug)]
pub enum End {
    Seen(Violation, String),
    /// The connection is gone.
    Gone(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Gone(error)
    }
}

pub struct Client {
    stream: TcpStream,
    /// Received, not judged yet.
    input: Vec<u8>,
    xid: i32,
    pub session: SessionId,
    /// The node that only this session writes.
    own: String,
    /// Sets of it that were sent, by its version.
    pub own_sent: i32,
    pub watched: Watched,
}

impl Client {
    /// Opens a session, with a node of its own and the shared one.
    pub fn open(addr: SocketAddr) -> io::Result<Client> {
        let mut client = Client::connect(addr, SessionId(0), Zxid::ZERO)?;
        let own = client.own.clone();
        for path in [SHARED, &own] {
            let acl = vec![RequestAcl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) }];
            let data = Some(b"0".to_vec());
            let create = CreateRequest { path: Some(path.into()), data, acl: Some(acl), flags: 0 };
            client.ask(Request::Create(create))?;
        }
        Ok(client)
    }

    /// Moves the session to another connection; its own node tells which of its sets have come to be.
    pub fn reopen(&self, addr: SocketAddr) -> Result<Client, End> {
        let mut client = Client::connect(addr, self.session, self.watched.last_zxid)?;
        if client.session != self.session {
            return Err(End::Seen(Violation::Nonsense, "the session is lost".to_owned()));
        }
        let get = PathWatch { path: Some(client.own.clone()), watch: false };
        let (zxid, body) = client.ask(Request::GetData(get))?;
        let version = DataStat::read(&mut Reader::new(&body)).map_err(io::Error::other)?.stat.version;
        let (acked, sent) = (self.watched.own_version, self.own_sent);
        if zxid < self.watched.last_zxid {
            return Err(End::Seen(Violation::BackInTime, format!("{zxid} after {}", self.watched.last_zxid)));
        }
        if version < acked {
            return Err(End::Seen(Violation::EarlierWriteMissed, format!("version {version}, {acked} acknowledged")));
        }
        if version > sent {
            return Err(End::Seen(Violation::LaterWriteSeen, format!("version {version}, {sent} were sent")));
        }
        client.watched = Watched::new(zxid, version);
        client.own_sent = version;
        Ok(client)
    }

    fn connect(addr: SocketAddr, session: SessionId, last_zxid_seen: Zxid) -> io::Result<Client> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let (input, watched) = (Vec::new(), Watched::new(last_zxid_seen, 0));
        let mut client = Client { stream, input, xid: 0, session, own: String::new(), own_sent: 0, watched };
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen,
            timeout_ms: 30_000,
            session,
            password: Some(session_password(session).to_vec()),
            read_only: Some(false),
        };
        let mut bytes = Vec::new();
        write_frame(&mut bytes, |out| request.write(out));
        client.stream.write_all(&bytes)?;
        client.session = ConnectResponse::from_bytes(&client.frame()?).map_err(io::Error::other)?.session;
        client.own = format!("/{}", client.session);
        Ok(client)
    }

    /// Sends `ops` in one write. Nothing may be answered that is sent after the role has ended.
    pub fn send(&mut self, ops: &[Op], is_after_role: bool) -> io::Result<()> {
        let mut bytes = Vec::new();
        for &op in ops {
            self.xid += 1;
            let request = self.request(op);
            write_frame(&mut bytes, |out| {
                RequestHeader { xid: self.xid, op: request.op() }.write(out);
                request.write(out);
            });
            self.own_sent += i32::from(matches!(op, Op::SetOwn));
            let what = match op {
                Op::SetOwn => What::SetOwn,
                Op::GetOwn => What::GetOwn { path: self.own.clone(), sets: self.own_sent },
                Op::SetShared => What::SetShared,
                Op::GetShared => What::GetShared { path: SHARED.to_owned() },
            };
            self.watched.sent(Awaited { xid: self.xid, what, is_after_role });
        }
        self.stream.write_all(&bytes)
    }

    /// Takes what the server sends until at most `waiting` requests are without a reply.
    pub fn receive(&mut self, waiting: usize) -> Result<(), End> {
        while self.watched.waiting() > waiting {
            let frame = self.frame()?;
            self.watched.see(&frame).map_err(|(violation, text)| End::Seen(violation, text))?;
        }
        Ok(())
    }

    /// Sends one request and waits for its reply: zxid and body. For what goes before and after the stress.
    pub fn ask(&mut self, request: Request) -> io::Result<(Zxid, Vec<u8>)> {
        self.xid += 1;
        let mut bytes = Vec::new();
        write_frame(&mut bytes, |out| {
            RequestHeader { xid: self.xid, op: request.op() }.write(out);
            request.write(out);
        });
        self.stream.write_all(&bytes)?;
        loop {
            let frame = self.frame()?;
            let mut from = Reader::new(&frame);
            let header = ReplyHeader::read(&mut from).map_err(io::Error::other)?;
            if header.xid == self.xid {
                return Ok((header.zxid, from.rest().to_vec()));
            }
        }
    }

    pub fn request(&self, op: Op) -> Request {
        let data = Some(self.xid.to_be_bytes().to_vec());
        let path = Some(if matches!(op, Op::SetShared | Op::GetShared) { SHARED } else { &self.own }.to_owned());
        match op {
            Op::SetOwn | Op::SetShared => Request::SetData(SetDataRequest { path, data, version: -1 }),
            Op::GetOwn | Op::GetShared => Request::GetData(PathWatch { path, watch: true }),
        }
    }

    /// Ends the connection from another thread.
    pub fn handle(&self) -> io::Result<TcpStream> {
        self.stream.try_clone()
    }

    /// Blocks until the server has closed the connection, whatever it sends before.
    pub fn wait_closed(mut self) -> io::Result<()> {
        match io::copy(&mut self.stream, &mut io::sink()) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
            _ => Ok(()),
        }
    }

    fn frame(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some((length, rest)) = self.input.split_first_chunk::<4>()
                && let length = u32::from_be_bytes(*length) as usize
                && let Some(frame) = rest.get(..length)
            {
                let frame = frame.to_vec();
                self.input.drain(..4 + length);
                return Ok(frame);
            }
            let mut buffer = [0; 16 << 10];
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.input.extend_from_slice(&buffer[..n]),
            }
        }
    }
}
