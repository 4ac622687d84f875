//! The connections on the election port: one for each pair of servers, kept by the larger id, with INITIAL first.

use super::network::{Delivery, Host, Port, Socket};
use super::world::Ctx;
use crate::jute::Reader;
use crate::peer::io::{Input, Members};
use crate::records::{Initial, InitialAddresses, Notification, ServerId};
use std::collections::BTreeMap;

/// How long to wait before another attempt, in microseconds.
const RETRY: u64 = 50_000;

/// A server's election connections.
pub struct ElectionLinks {
    me: ServerId,
    peers: BTreeMap<ServerId, Peer>,
    sockets: BTreeMap<Socket, Conn>,
}

#[derive(Default)]
struct Peer {
    live: Option<Socket>,
    dialing: Option<Socket>,
    /// Not sent yet; only the newest counts.
    pending: Option<Notification>,
    last_sent: Option<Notification>,
}

struct Conn {
    /// Known once connected, or once INITIAL has come.
    peer: Option<ServerId>,
    received: Vec<u8>,
}

/// What the core is told, and whom to dial again after how many microseconds.
pub type Told = (Vec<Input>, Option<(ServerId, u64)>);

impl ElectionLinks {
    pub fn new(me: ServerId, servers: usize) -> ElectionLinks {
        let others = (1..=servers as i64).map(ServerId).filter(|id| *id != me);
        ElectionLinks { me, peers: others.map(|id| (id, Peer::default())).collect(), sockets: BTreeMap::new() }
    }

    /// Who left is not dialed any more; who joined is, like everybody who has connected.
    pub fn set_members(&mut self, members: &Members) {
        let is_member = |id: &ServerId| {
            let proposed = members.last_seen.iter().any(|of| of.servers.contains_key(id));
            proposed || members.committed.servers.contains_key(id)
        };
        for (id, peer) in &mut self.peers {
            if !is_member(id) && peer.live.is_none() {
                (peer.pending, peer.last_sent) = (None, None);
            }
        }
    }

    pub fn send(&mut self, host: Host, to: ServerId, notification: Notification, ctx: &mut Ctx) {
        let Some(peer) = self.peers.get_mut(&to) else {
            return;
        };
        peer.pending = Some(notification);
        match peer.live {
            Some(_) => self.flush(to, ctx),
            None => self.dial(host, to, ctx),
        }
    }

    fn flush(&mut self, to: ServerId, ctx: &mut Ctx) {
        if let Some(peer) = self.peers.get_mut(&to)
            && let Some(socket) = peer.live
            && let Some(notification) = peer.pending.take()
        {
            let mut bytes = Vec::new();
            notification.write(&mut bytes);
            peer.last_sent = Some(notification);
            ctx.send(socket, bytes);
        }
    }

    /// Connects, if there is something to send and no connection for it.
    pub fn dial(&mut self, host: Host, to: ServerId, ctx: &mut Ctx) {
        let Some(peer) = self.peers.get_mut(&to) else {
            return;
        };
        if peer.live.is_some() || peer.dialing.is_some() || peer.pending.is_none() {
            return;
        }
        let socket = ctx.connect(host, (to.0 - 1) as Host, Port::Election);
        peer.dialing = Some(socket);
        self.sockets.insert(socket, Conn { peer: Some(to), received: Vec::new() });
    }

    pub fn accepted(&mut self, socket: Socket) {
        self.sockets.insert(socket, Conn { peer: None, received: Vec::new() });
    }

    pub fn on_net(&mut self, host: Host, socket: Socket, delivery: Delivery, ctx: &mut Ctx) -> Told {
        let Some(conn) = self.sockets.get_mut(&socket) else {
            return (vec![], None);
        };
        match (delivery, conn.peer) {
            (Delivery::Connected, Some(peer)) => self.connected(socket, peer, ctx),
            (Delivery::Bytes(bytes), _) => {
                conn.received.extend_from_slice(&bytes);
                self.read(host, socket, ctx)
            }
            (_, None) => {
                self.sockets.remove(&socket);
                (vec![], None)
            }
            (_, Some(peer)) => {
                self.sockets.remove(&socket);
                self.lost(socket, peer)
            }
        }
    }

    fn connected(&mut self, socket: Socket, to: ServerId, ctx: &mut Ctx) -> Told {
        let mut bytes = Vec::new();
        Initial { server: self.me, addresses: InitialAddresses::One(format!("127.0.0.1:{}", 3000 + self.me.0)) }
            .write(&mut bytes);
        ctx.send(socket, bytes);
        let peer = self.peers.entry(to).or_default();
        peer.dialing = None;
        if self.me < to {
            // The larger id keeps the connection: it will connect back.
            ctx.close(socket);
            self.sockets.remove(&socket);
            return (vec![], Some((to, RETRY)));
        }
        (self.use_socket(socket, to, ctx), None)
    }

    fn use_socket(&mut self, socket: Socket, to: ServerId, ctx: &mut Ctx) -> Vec<Input> {
        let peer = self.peers.entry(to).or_default();
        if let Some(old) = peer.live.replace(socket) {
            ctx.close(old);
            self.sockets.remove(&old);
        }
        if peer.pending.is_none() {
            peer.pending = peer.last_sent.clone(); // It may have been lost with the connection before.
        }
        self.flush(to, ctx);
        vec![Input::ElectionLink { server: to, up: true }]
    }

    fn lost(&mut self, socket: Socket, peer: ServerId) -> Told {
        let state = self.peers.entry(peer).or_default();
        if state.dialing == Some(socket) {
            state.dialing = None;
        } else if state.live == Some(socket) {
            state.live = None;
        } else {
            return (vec![], None);
        }
        if state.live.is_some() {
            return (vec![], None);
        }
        (vec![Input::ElectionLink { server: peer, up: false }], Some((peer, RETRY)))
    }

    fn read(&mut self, host: Host, socket: Socket, ctx: &mut Ctx) -> Told {
        let Some(conn) = self.sockets.get_mut(&socket) else {
            return (vec![], None);
        };
        let received = std::mem::take(&mut conn.received);
        let mut from = Reader::new(&received);
        let mut inputs = Vec::new();
        if conn.peer.is_none() {
            let initial = match Initial::take(&mut from) {
                Ok(Some(initial)) => initial,
                Ok(None) => {
                    conn.received = received;
                    return (vec![], None);
                }
                Err(error) => {
                    ctx.checkers.fail(|| format!("INITIAL cannot be read: {error}"));
                    return (vec![], None);
                }
            };
            conn.peer = Some(initial.server);
            if initial.server < self.me {
                ctx.close(socket);
                self.sockets.remove(&socket);
                return self.connect_back(host, initial.server, ctx);
            }
            inputs = self.use_socket(socket, initial.server, ctx);
        }
        let conn = self.sockets.get_mut(&socket).expect("still there");
        let peer = conn.peer.unwrap_or_default();
        loop {
            let mut ahead = from.clone();
            let Ok(Some(message)) = ahead.buffer() else {
                break;
            };
            match Notification::decode(message) {
                Ok(notification) => inputs.push(Input::Notification { from: peer, notification }),
                Err(error) => ctx.checkers.fail(|| format!("a notification cannot be read: {error}")),
            }
            from = ahead;
        }
        conn.received = from.rest().to_vec();
        (inputs, None)
    }

    fn connect_back(&mut self, host: Host, to: ServerId, ctx: &mut Ctx) -> Told {
        let peer = self.peers.entry(to).or_default();
        let mut inputs = Vec::new();
        if let Some(old) = peer.live.take() {
            ctx.close(old);
            self.sockets.remove(&old);
            inputs.push(Input::ElectionLink { server: to, up: false });
        }
        if peer.dialing.is_none() {
            let socket = ctx.connect(host, (to.0 - 1) as Host, Port::Election);
            peer.dialing = Some(socket);
            self.sockets.insert(socket, Conn { peer: Some(to), received: Vec::new() });
        }
        (inputs, None)
    }
}
