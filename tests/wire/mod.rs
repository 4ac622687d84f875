//! A client for tests: one socket, one request at a time, in the bytes of the records.

#![allow(dead_code, reason = "each test crate uses a part of it")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use zabkit::jute::{Reader, Record};
use zabkit::records::*;

pub struct Client {
    stream: TcpStream,
    xid: i32,
    pub session: SessionId,
}

impl Client {
    /// Connects and opens a session.
    pub fn connect(addr: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut client = Client { stream, xid: 0, session: SessionId(0) };
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid(0),
            timeout_ms: 30_000,
            session: SessionId(0),
            password: Some(vec![0; PASSWORD_LEN]),
            read_only: Some(false),
        };
        client.send(|out| request.write(out));
        let response = ConnectResponse::from_bytes(&client.frame()?).map_err(io::Error::other)?;
        client.session = response.session;
        Ok(client)
    }

    fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, write);
        self.send_raw(&bytes);
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        // A closed connection shows when the answer is read.
        let _ = self.stream.write_all(bytes);
    }

    fn frame(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        Ok(frame)
    }

    /// The next reply: xid, error code, body.
    pub fn reply(&mut self) -> io::Result<(i32, i32, Vec<u8>)> {
        let frame = self.frame()?;
        let mut from = Reader::new(&frame);
        let header = ReplyHeader::read(&mut from).map_err(io::Error::other)?;
        Ok((header.xid, header.err, from.rest().to_vec()))
    }

    /// Sends the request and waits for its answer: the code in it.
    pub fn ask(&mut self, request: &Request) -> io::Result<i32> {
        self.xid += 1;
        let (xid, op) = (self.xid, request.op());
        self.send(|out| {
            RequestHeader { xid, op }.write(out);
            request.write(out);
        });
        let (answered, err, _) = self.reply()?;
        assert_eq!(answered, xid);
        Ok(err)
    }

    fn call(&mut self, request: Request) -> io::Result<Response> {
        self.xid += 1;
        let (xid, op) = (self.xid, request.op());
        self.send(|out| {
            RequestHeader { xid, op }.write(out);
            request.write(out);
        });
        let (answered, err, body) = self.reply()?;
        assert_eq!(answered, xid);
        if err != 0 {
            return Err(io::Error::other(format!("code {err}")));
        }
        Response::read(op, &mut Reader::new(&body)).map_err(io::Error::other)
    }

    pub fn create(&mut self, path: &str, data: &[u8]) -> io::Result<String> {
        let acl = vec![RequestAcl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) }];
        let request = CreateRequest { path: Some(path.into()), data: Some(data.to_vec()), acl: Some(acl), flags: 0 };
        match self.call(Request::Create(request))? {
            Response::Path(reply) => Ok(reply.path.unwrap_or_default()),
            other => panic!("{other:?}"),
        }
    }

    pub fn get(&mut self, path: &str) -> io::Result<Vec<u8>> {
        match self.call(Request::GetData(PathWatch { path: Some(path.into()), watch: false }))? {
            Response::DataStat(reply) => Ok(reply.data.unwrap_or_default()),
            other => panic!("{other:?}"),
        }
    }

    /// Sets a data watch; an error where there is no node, with the watch set all the same.
    pub fn watch(&mut self, path: &str) -> io::Result<()> {
        self.call(Request::Exists(PathWatch { path: Some(path.into()), watch: true })).map(|_| ())
    }

    /// Sets a watch on the list of children.
    pub fn watch_children(&mut self, path: &str) -> io::Result<()> {
        self.call(Request::GetChildren(PathWatch { path: Some(path.into()), watch: true })).map(|_| ())
    }

    pub fn delete(&mut self, path: &str) -> io::Result<()> {
        self.call(Request::Delete(PathVersion { path: Some(path.into()), version: -1 })).map(|_| ())
    }

    /// The event that comes next.
    pub fn event(&mut self) -> io::Result<(Zxid, WatcherEvent)> {
        let frame = self.frame()?;
        let mut from = Reader::new(&frame);
        let header = ReplyHeader::read(&mut from).map_err(io::Error::other)?;
        assert_eq!(header.xid, NOTIFICATION_XID);
        Ok((header.zxid, WatcherEvent::read(&mut from).map_err(io::Error::other)?))
    }

    pub fn sync(&mut self) -> io::Result<()> {
        self.call(Request::Sync(PathOnly { path: Some("/".into()) })).map(|_| ())
    }

    /// Sends the request and does not wait for its answer; its xid.
    pub fn send_request(&mut self, request: &Request) -> i32 {
        self.xid += 1;
        let (xid, op) = (self.xid, request.op());
        self.send(|out| {
            RequestHeader { xid, op }.write(out);
            request.write(out);
        });
        xid
    }

    /// Sends `n` reads in one write; their xids.
    pub fn send_gets(&mut self, path: &str, n: i32) -> Vec<i32> {
        let mut bytes = Vec::new();
        let xids: Vec<i32> = (self.xid + 1..=self.xid + n).collect();
        for &xid in &xids {
            let request = Request::GetData(PathWatch { path: Some(path.into()), watch: false });
            write_frame(&mut bytes, |out| {
                RequestHeader { xid, op: request.op() }.write(out);
                request.write(out);
            });
        }
        self.xid += n;
        self.send_raw(&bytes);
        xids
    }

    /// Sends `n` writes in one go; their xids. What the server does not take any more is not sent.
    pub fn send_sets(&mut self, path: &str, n: i32) -> Vec<i32> {
        let mut bytes = Vec::new();
        let xids: Vec<i32> = (self.xid + 1..=self.xid + n).collect();
        for &xid in &xids {
            let request =
                Request::SetData(SetDataRequest { path: Some(path.into()), data: Some(vec![1; 100]), version: -1 });
            write_frame(&mut bytes, |out| {
                RequestHeader { xid, op: request.op() }.write(out);
                request.write(out);
            });
        }
        self.xid += n;
        let mut stream = self.stream.try_clone().expect("a descriptor");
        std::thread::spawn(move || {
            let _ = stream.write_all(&bytes);
        });
        xids
    }

    /// Reads to the end; how many replies there were.
    pub fn replies_until_closed(&mut self) -> usize {
        std::iter::from_fn(|| self.reply().ok()).count()
    }

    /// Whether the server closes the connection, without another byte.
    pub fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0; 1]) {
            Ok(n) => n == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// The answer to a four-letter word; the sender half-closes at once, as `echo ruok | nc` does.
pub fn word(addr: SocketAddr, word: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(word).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
