//! The other servers' election ports: scripted members that agree with each other on who leads.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use zabkit::jute::Reader;
use zabkit::records::{Initial, InitialAddresses, Notification, NotificationForm, PeerState, ServerId, Zxid};

const PATIENCE: Duration = Duration::from_secs(30);

/// What they say to a server that looks for a leader.
#[derive(Clone, Debug)]
pub enum Policy {
    /// This one leads, and they follow.
    Settled { leader: ServerId, zxid: Zxid, peer_epoch: i64 },
    /// It should lead itself.
    Elect,
}

/// What the server under test has said on an election connection.
#[derive(Clone, Debug)]
pub enum Heard {
    Initial(Vec<u8>),
    /// With its length.
    Notification(Vec<u8>),
}

struct Common {
    /// The server under test.
    server: ServerId,
    addr: SocketAddr,
    policy: Mutex<Policy>,
    config: String,
    heard: Sender<(ServerId, Heard)>,
    links: Mutex<BTreeMap<ServerId, TcpStream>>,
    greet: Greet,
}

/// What comes behind INITIAL on a connection that the server under test has dialed and keeps.
pub type Greet = Option<Box<dyn Fn(&mut TcpStream) + Send + Sync>>;

pub struct Puppets {
    common: Arc<Common>,
    heard: Receiver<(ServerId, Heard)>,
}

impl Puppets {
    /// Plays everybody in `listeners` towards `server` at `addr`. `config` is what they say their configuration is.
    pub fn start(
        server: ServerId,
        addr: SocketAddr,
        listeners: Vec<(ServerId, TcpListener)>,
        config: String,
        policy: Policy,
        greet: Greet,
    ) -> Puppets {
        let (sender, heard) = channel();
        let (policy, links) = (Mutex::new(policy), Mutex::default());
        let common = Arc::new(Common { server, addr, policy, config, heard: sender, links, greet });
        for (id, listener) in listeners {
            let common = common.clone();
            std::thread::spawn(move || {
                while let Ok((stream, _)) = listener.accept() {
                    common.accepted(id, stream);
                }
            });
        }
        Puppets { common, heard }
    }

    pub fn set(&self, policy: Policy) {
        *self.common.policy.lock().unwrap() = policy;
    }

    /// The next that is heard of the server.
    pub fn next(&self) -> (ServerId, Heard) {
        self.heard.recv_timeout(PATIENCE).expect("the server is silent")
    }

    /// The next notification of the server, with its length.
    pub fn next_notification(&self) -> Vec<u8> {
        loop {
            if let (_, Heard::Notification(said)) = self.next() {
                return said;
            }
        }
    }

    /// As `from`, looking for a leader: what the server answers.
    pub fn ask(&self, from: ServerId) -> Vec<u8> {
        self.ask_in(from, self.question(from).form)
    }

    /// What `from` says when it looks for a leader.
    pub fn question(&self, from: ServerId) -> Notification {
        Notification {
            state: PeerState::Looking,
            leader: from,
            zxid: Zxid(0),
            election_epoch: 1,
            peer_epoch: 0,
            form: NotificationForm::V2 { version: 2, config: self.common.config.clone() },
        }
    }

    /// The same in a form of former releases.
    pub fn ask_in(&self, from: ServerId, form: NotificationForm) -> Vec<u8> {
        let question = Notification { form, ..self.question(from) };
        let mut bytes = Vec::new();
        question.write(&mut bytes);
        while self.heard.try_recv().is_ok() {}
        if !self.common.links.lock().unwrap().contains_key(&from) {
            self.common.dial(from);
        }
        self.common.links.lock().unwrap().get_mut(&from).expect("it has a link").write_all(&bytes).unwrap();
        loop {
            if let (to, Heard::Notification(bytes)) = self.next()
                && to == from
            {
                return bytes;
            }
        }
    }
}

impl Common {
    /// The server under test has dialed `id`.
    fn accepted(self: &Arc<Self>, id: ServerId, mut stream: TcpStream) {
        let Some(initial) = read_initial(&mut stream) else { return };
        let _ = self.heard.send((id, Heard::Initial(initial)));
        if id > self.server {
            drop(stream);
            return self.dial(id);
        } else if let Some(greet) = &self.greet {
            greet(&mut stream);
        }
        self.keep(id, stream);
    }

    /// `id` dials the server under test, whose id is less.
    fn dial(self: &Arc<Self>, id: ServerId) {
        let Ok(mut stream) = TcpStream::connect(self.addr) else { return };
        let mut bytes = Vec::new();
        let addresses = InitialAddresses::One("127.0.0.1:1".to_owned());
        Initial { server: id, addresses }.write(&mut bytes);
        let _ = stream.write_all(&bytes);
        self.keep(id, stream);
    }

    fn keep(self: &Arc<Self>, id: ServerId, stream: TcpStream) {
        self.links.lock().unwrap().insert(id, stream.try_clone().expect("a descriptor"));
        let common = self.clone();
        std::thread::spawn(move || common.serve(id, stream));
    }

    fn serve(&self, id: ServerId, mut stream: TcpStream) {
        loop {
            let mut frame = vec![0; 4];
            if stream.read_exact(&mut frame).is_err() {
                return;
            }
            let length = u32::from_be_bytes(*frame.first_chunk().unwrap());
            frame.resize(4 + length as usize, 0);
            if stream.read_exact(&mut frame[4..]).is_err() {
                return;
            }
            let said = Notification::decode(&frame[4..]).expect("a notification");
            let _ = self.heard.send((id, Heard::Notification(frame)));
            if said.state != PeerState::Looking {
                continue;
            }
            let answer = match self.policy.lock().unwrap().clone() {
                Policy::Settled { leader, zxid, peer_epoch } => Notification {
                    state: if leader == id { PeerState::Leading } else { PeerState::Following },
                    leader,
                    zxid,
                    election_epoch: said.election_epoch,
                    peer_epoch,
                    form: NotificationForm::V2 { version: 2, config: self.config.clone() },
                },
                Policy::Elect => said,
            };
            let mut bytes = Vec::new();
            answer.write(&mut bytes);
            if stream.write_all(&bytes).is_err() {
                return;
            }
        }
    }
}

fn read_initial(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
        if Initial::take(&mut Reader::new(&bytes)).expect("an INITIAL").is_some() {
            return Some(bytes);
        }
    }
}
