//! A client of a server that is replayed as a learner: what it does makes the server say what it said in the recording.

use super::world::PATIENCE;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;
use zabkit::jute::Record;
use zabkit::records::*;
use zabkit::server::Server;

/// Who the recorded client was, beside its address.
const LOGIN: &[u8] = b"bob:secret";
/// The xid of an auth packet and of its answer.
const AUTH_XID: i32 = -4;

pub struct Client {
    stream: TcpStream,
    is_connected: bool,
    has_logged_in: bool,
}

impl Client {
    /// Asks for a session, or to come back to one: 0 is a new one.
    pub fn connect(server: &Server, timeout_ms: i32, session: SessionId) -> Client {
        let deadline = Instant::now() + PATIENCE;
        let mut status = server.status();
        while !status.serving {
            assert!(Instant::now() < deadline, "{status:?}");
            status = server.wait_status(status.version, deadline);
        }
        let mut stream = TcpStream::connect(server.client_addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let password = if session == SessionId(0) { [0; PASSWORD_LEN] } else { session_password(session) };
        let connect = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid(0),
            timeout_ms,
            session,
            password: Some(password.to_vec()),
            read_only: Some(false),
        };
        let mut bytes = Vec::new();
        write_frame(&mut bytes, |out| connect.write(out));
        stream.write_all(&bytes).unwrap();
        Client { stream, is_connected: false, has_logged_in: false }
    }

    /// Sends the request that the server forwards so.
    pub fn send(&mut self, request: &ForwardedRequest) {
        if !self.is_connected {
            self.read_frame();
            self.is_connected = true;
        }
        if !self.has_logged_in && request.auth.iter().any(|id| id.scheme == "digest") {
            let (scheme, auth) = (Some("digest".to_owned()), Some(LOGIN.to_vec()));
            self.write(AUTH_XID, &Request::Auth(AuthRequest { kind: 0, scheme, auth }));
            while self.read_frame()[..4] != AUTH_XID.to_be_bytes() {}
            self.has_logged_in = true;
        }
        let ForwardedBody::Request(body) = &request.body else { panic!("a body is needed") };
        self.write(request.cxid, body);
    }

    fn write(&mut self, xid: i32, body: &Request) {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, |out| {
            RequestHeader { xid, op: body.op() }.write(out);
            body.write(out);
        });
        self.stream.write_all(&bytes).unwrap();
    }

    fn read_frame(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).unwrap();
        frame
    }
}
