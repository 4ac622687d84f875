//! The simulated network: TCP connections between hosts, each direction a FIFO with a delay.
//!
//! Bytes arrive in pieces cut anywhere, in order, or not at all. A direction can be blocked (a partition may be of one
//! direction only): what is sent then waits, as TCP would retransmit it, and neither side is told. So a connection can
//! be half-open: one side has closed it or died, and the other learns it only when something gets through again.

use super::rng::Rng;
use super::scheduler::Scheduler;
use std::collections::{BTreeMap, VecDeque};

/// A machine: servers from 0 on, then clients.
pub type Host = usize;

/// Which of a server's ports a connection goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Client,
    Election,
    Quorum,
    /// Of followers that take observers.
    ObserverMaster,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Socket {
    pub conn: u64,
    /// 0: the side that connected, 1: the side that accepted.
    pub side: u8,
}

impl Socket {
    pub fn other(self) -> Socket {
        Socket { conn: self.conn, side: 1 - self.side }
    }
}

/// Something of the network is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetEvent {
    /// The next item on its way to this end.
    Arrive(Socket),
    /// The connection attempt is given up if it is not answered yet.
    ConnectTimeout(u64),
    /// This end takes the connection for closed, whatever the other thinks.
    Broken(Socket),
}

/// What an owner of an end is told.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Somebody connected to `port`.
    Accepted {
        from: Host,
        port: Port,
    },
    Connected,
    /// Refused, or not answered in time.
    Refused,
    Bytes(Vec<u8>),
    Closed,
}

/// On its way in one direction.
#[derive(Debug, PartialEq, Eq)]
enum Item {
    Syn,
    SynAck,
    Bytes(Vec<u8>),
    Fin,
    /// Also what a refused connection is answered with.
    Rst,
}

#[derive(Debug)]
struct Direction {
    items: VecDeque<Item>,
    /// The last item asked for arrives then; later ones not before.
    last_arrival: u64,
    /// Items whose event came while the direction was blocked; they wait at the head of `items`.
    stalled: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Opening,
    Open,
    /// Its owner has closed it, has been told of the end, or is dead.
    Gone,
}

#[derive(Debug)]
struct Conn {
    hosts: [Host; 2],
    port: Port,
    ends: [End; 2],
    /// Indexed by the side it leads to.
    to: [Direction; 2],
}

/// How long bytes are under way, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    pub base: u64,
    /// Mean of what is added to each.
    pub jitter: u64,
    /// One piece in so many is late by up to `spike`; 0: none.
    pub spike_one_in: u64,
    pub spike: u64,
}

/// How long a connect waits for an answer, in microseconds.
const CONNECT_TIMEOUT: u64 = 400_000;

/// All connections of a run.
#[derive(Debug)]
pub struct Network {
    rng: Rng,
    hosts: usize,
    conns: BTreeMap<u64, Conn>,
    last_conn: u64,
    /// `blocked[from * hosts + to]`
    blocked: Vec<bool>,
    /// Whether a process runs on the host (else it is down, and answers nothing or refuses).
    up: Vec<bool>,
    pub latency: Latency,
    /// One write in so many is cut into pieces.
    pub cut_one_in: u64,
    /// Connections that were cut with bytes under way.
    pub cut_with_bytes_under_way: u64,
}

impl Network {
    pub fn new(hosts: usize, latency: Latency, cut_one_in: u64, rng: Rng) -> Network {
        Network {
            rng,
            hosts,
            conns: BTreeMap::new(),
            last_conn: 0,
            blocked: vec![false; hosts * hosts],
            up: vec![true; hosts],
            latency,
            cut_one_in,
            cut_with_bytes_under_way: 0,
        }
    }

    fn is_blocked(&self, from: Host, to: Host) -> bool {
        self.blocked[from * self.hosts + to]
    }

    /// Starts to connect; the caller's end is told `Connected` or `Refused` later.
    pub fn connect<E: From<NetEvent>>(&mut self, s: &mut Scheduler<E>, from: Host, to: Host, port: Port) -> Socket {
        self.last_conn += 1;
        let conn = self.last_conn;
        let direction = || Direction { items: VecDeque::new(), last_arrival: 0, stalled: 0 };
        let ends = [End::Opening, End::Opening];
        self.conns.insert(conn, Conn { hosts: [from, to], port, ends, to: [direction(), direction()] });
        let socket = Socket { conn, side: 0 };
        self.put(s, socket.other(), Item::Syn);
        s.after(CONNECT_TIMEOUT, NetEvent::ConnectTimeout(conn).into());
        socket
    }

    /// Sends bytes from `socket`'s side; nothing happens if that end is gone.
    pub fn send<E: From<NetEvent>>(&mut self, s: &mut Scheduler<E>, socket: Socket, mut bytes: Vec<u8>) {
        if bytes.is_empty() || self.end(socket) != Some(End::Open) {
            return;
        }
        while bytes.len() > 1 && self.cut_one_in > 0 && self.rng.one_in(self.cut_one_in) {
            let at = self.rng.range(1..bytes.len() as u64) as usize;
            let tail = bytes.split_off(at);
            self.put(s, socket.other(), Item::Bytes(bytes));
            bytes = tail;
        }
        self.put(s, socket.other(), Item::Bytes(bytes));
    }

    /// Closes `socket`'s end after what was sent; the other side is told when it has got all of it.
    pub fn close<E: From<NetEvent>>(&mut self, s: &mut Scheduler<E>, socket: Socket) {
        if matches!(self.end(socket), Some(End::Open | End::Opening)) {
            self.put(s, socket.other(), Item::Fin);
            self.set_gone(socket);
        }
    }

    /// Breaks the connection: what is under way in either direction is lost, both sides are told (if it gets through).
    pub fn reset<E: From<NetEvent>>(&mut self, s: &mut Scheduler<E>, conn: u64) {
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        for direction in &mut state.to {
            let bytes = direction.items.iter().any(|item| matches!(item, Item::Bytes(_)));
            self.cut_with_bytes_under_way += u64::from(bytes);
            // Their events find what is put now, or nothing.
            direction.items.clear();
            direction.stalled = 0;
        }
        for side in [0, 1] {
            self.put(s, Socket { conn, side }, Item::Rst);
        }
    }

    /// Cuts what is under way to `socket` at a random item and resets the connection there: a stream that ends inside
    /// a packet.
    pub fn cut<E: From<NetEvent>>(&mut self, s: &mut Scheduler<E>, socket: Socket) {
        let Some(state) = self.conns.get_mut(&socket.conn) else {
            return;
        };
        let direction = &mut state.to[usize::from(socket.side)];
        if let Some(Item::Bytes(bytes)) = direction.items.back_mut() {
            let keep = self.rng.below(bytes.len() as u64) as usize;
            bytes.truncate(keep);
            self.cut_with_bytes_under_way += 1;
        }
        self.put(s, socket, Item::Rst);
        self.put(s, socket.other(), Item::Rst);
    }

    /// The process on `host` is gone. `silent`: its machine too, so that nobody is told; else its kernel closes.
    pub fn host_down<E: From<NetEvent>>(&mut self, s: &mut Scheduler<E>, host: Host, silent: bool) {
        self.up[host] = false;
        let of_host = |conn: &Conn, side: u8| conn.hosts[usize::from(side)] == host;
        let sockets: Vec<Socket> = self
            .conns
            .iter()
            .flat_map(|(&conn, state)| [0, 1].map(|side| (Socket { conn, side }, of_host(state, side))))
            .filter_map(|(socket, hit)| hit.then_some(socket))
            .collect();
        for socket in sockets {
            if !silent && matches!(self.end(socket), Some(End::Open | End::Opening)) {
                let item = if self.rng.one_in(2) { Item::Fin } else { Item::Rst };
                self.put(s, socket.other(), item);
            }
            self.set_gone(socket);
        }
    }

    /// No process runs on the host yet: who connects is refused.
    pub fn not_up_yet(&mut self, host: Host) {
        self.up[host] = false;
    }

    pub fn host_up(&mut self, host: Host) {
        self.up[host] = true;
    }

    /// Blocks or opens the direction; what waited goes on its way.
    pub fn set_blocked<E: From<NetEvent>>(&mut self, s: &mut Scheduler<E>, from: Host, to: Host, blocked: bool) {
        self.blocked[from * self.hosts + to] = blocked;
        if blocked {
            return;
        }
        let mut again = Vec::new();
        for (&conn, state) in &mut self.conns {
            for side in [0u8, 1] {
                let ends = [state.hosts[usize::from(1 - side)], state.hosts[usize::from(side)]];
                let direction = &mut state.to[usize::from(side)];
                if ends == [from, to] && direction.stalled > 0 {
                    again.push((Socket { conn, side }, std::mem::take(&mut direction.stalled)));
                }
            }
        }
        for (socket, count) in again {
            for _ in 0..count {
                self.schedule(s, socket);
            }
        }
    }

    pub fn heal<E: From<NetEvent>>(&mut self, s: &mut Scheduler<E>) {
        for from in 0..self.hosts {
            for to in 0..self.hosts {
                if self.is_blocked(from, to) {
                    self.set_blocked(s, from, to, false);
                }
            }
        }
    }

    /// The other ends of the host's connections to `port`, on the hosts that `by` says, are told that they are closed;
    /// the host is not.
    pub fn desert<E: From<NetEvent>>(
        &mut self,
        s: &mut Scheduler<E>,
        host: Host,
        port: Port,
        by: impl Fn(Host) -> bool,
    ) {
        for (&conn, state) in &self.conns {
            for side in [0, 1] {
                let is_theirs = state.hosts[side] == host && by(state.hosts[1 - side]);
                if state.port == port && is_theirs && state.ends == [End::Open; 2] {
                    s.after(0, NetEvent::Broken(Socket { conn, side: 1 - side as u8 }).into());
                }
            }
        }
    }

    /// The hosts at the two ends of a connection.
    pub fn hosts(&self, conn: u64) -> Option<[Host; 2]> {
        self.conns.get(&conn).map(|state| state.hosts)
    }

    /// The open connections between servers (`port` Quorum or Election) or of clients, for faults to choose from.
    pub fn open_conns(&self, port: Port) -> Vec<u64> {
        let open = |state: &Conn| state.port == port && state.ends == [End::Open; 2];
        self.conns.iter().filter(|(_, state)| open(state)).map(|(&conn, _)| conn).collect()
    }

    /// Handles a due event; whom to tell what. `None`: nothing to tell.
    pub fn arrive<E: From<NetEvent>>(
        &mut self,
        s: &mut Scheduler<E>,
        event: NetEvent,
    ) -> Option<(Host, Socket, Delivery)> {
        let socket = match event {
            NetEvent::ConnectTimeout(conn) => {
                let socket = Socket { conn, side: 0 };
                if self.end(socket) != Some(End::Opening) {
                    return None;
                }
                let host = self.conns[&conn].hosts[0];
                self.set_gone(socket);
                return Some((host, socket, Delivery::Refused));
            }
            NetEvent::Broken(socket) => {
                let host = *self.hosts(socket.conn)?.get(usize::from(socket.side))?;
                if self.end(socket) != Some(End::Open) {
                    return None;
                }
                self.set_gone(socket);
                return Some((host, socket, Delivery::Closed));
            }
            NetEvent::Arrive(socket) => socket,
        };
        let state = self.conns.get_mut(&socket.conn)?;
        let side = usize::from(socket.side);
        let (from, host, port) = (state.hosts[1 - side], state.hosts[side], state.port);
        if self.blocked[from * self.hosts + host] {
            let direction = &mut state.to[side];
            direction.stalled = (direction.stalled + 1).min(direction.items.len());
            return None;
        }
        let item = state.to[side].items.pop_front()?;
        let end = state.ends[side];
        let delivery = match (item, end) {
            (Item::Syn, End::Opening) if self.up[host] => {
                state.ends[side] = End::Open;
                self.put(s, socket.other(), Item::SynAck);
                Delivery::Accepted { from, port }
            }
            (Item::Syn, _) => {
                self.put(s, socket.other(), Item::Rst);
                self.set_gone(socket);
                return None;
            }
            (Item::SynAck, End::Opening) => {
                state.ends[side] = End::Open;
                Delivery::Connected
            }
            (Item::Bytes(bytes), End::Open) => Delivery::Bytes(bytes),
            (Item::Fin | Item::Rst, End::Open) => {
                self.set_gone(socket);
                Delivery::Closed
            }
            (Item::Rst | Item::Fin, End::Opening) if socket.side == 0 => {
                self.set_gone(socket);
                Delivery::Refused
            }
            // Bytes for somebody who is gone: a live kernel answers with a reset, a dead machine not at all.
            (Item::Bytes(_) | Item::SynAck, End::Gone) => {
                if self.up[host] {
                    self.put(s, socket.other(), Item::Rst);
                }
                return None;
            }
            _ => {
                self.forget_if_over(socket.conn);
                return None;
            }
        };
        Some((host, socket, delivery))
    }

    fn end(&self, socket: Socket) -> Option<End> {
        self.conns.get(&socket.conn).map(|state| state.ends[usize::from(socket.side)])
    }

    fn set_gone(&mut self, socket: Socket) {
        if let Some(state) = self.conns.get_mut(&socket.conn) {
            state.ends[usize::from(socket.side)] = End::Gone;
        }
        self.forget_if_over(socket.conn);
    }

    /// Drops the state of a connection whose ends are both gone.
    fn forget_if_over(&mut self, conn: u64) {
        if self.conns.get(&conn).is_some_and(|state| state.ends == [End::Gone; 2]) {
            self.conns.remove(&conn);
        }
    }

    fn put<E: From<NetEvent>>(&mut self, s: &mut Scheduler<E>, to: Socket, item: Item) {
        if let Some(state) = self.conns.get_mut(&to.conn) {
            state.to[usize::from(to.side)].items.push_back(item);
            self.schedule(s, to);
        }
    }

    fn schedule<E: From<NetEvent>>(&mut self, s: &mut Scheduler<E>, to: Socket) {
        let Latency { base, jitter, spike_one_in, spike } = self.latency;
        let mut delay = base + self.rng.about(jitter);
        if spike_one_in > 0 && self.rng.one_in(spike_one_in) {
            delay += self.rng.below(spike + 1);
        }
        let Some(state) = self.conns.get_mut(&to.conn) else {
            return;
        };
        let direction = &mut state.to[usize::from(to.side)];
        direction.last_arrival = direction.last_arrival.max(s.now() + delay);
        s.at(direction.last_arrival, NetEvent::Arrive(to).into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Latency = Latency { base: 100, jitter: 50, spike_one_in: 0, spike: 0 };

    fn run(net: &mut Network, s: &mut Scheduler<NetEvent>) -> Vec<(Host, Delivery)> {
        let mut told = Vec::new();
        while let Some(event) = s.next_event() {
            told.extend(net.arrive(s, event).map(|(host, _, delivery)| (host, delivery)));
        }
        told
    }

    fn connected() -> (Network, Scheduler<NetEvent>, Socket) {
        let mut net = Network::new(2, CALM, 2, Rng::new(1));
        let mut s = Scheduler::default();
        let socket = net.connect(&mut s, 0, 1, Port::Quorum);
        let told = run(&mut net, &mut s);
        assert_eq!(told, [(1, Delivery::Accepted { from: 0, port: Port::Quorum }), (0, Delivery::Connected)]);
        (net, s, socket)
    }

    fn bytes_of(told: &[(Host, Delivery)]) -> Vec<u8> {
        told.iter()
            .flat_map(|(_, delivery)| match delivery {
                Delivery::Bytes(bytes) => bytes.clone(),
                _ => vec![],
            })
            .collect()
    }

    #[test]
    fn bytes_arrive_in_order_whatever_the_pieces_and_the_close_comes_last() {
        let (mut net, mut s, socket) = connected();
        let sent: Vec<u8> = (0..=255).collect();
        sent.chunks(64).for_each(|chunk| net.send(&mut s, socket, chunk.to_vec()));
        net.close(&mut s, socket);
        let told = run(&mut net, &mut s);
        assert!(told.len() > 5, "some write was cut into pieces");
        assert_eq!(bytes_of(&told), sent);
        assert_eq!(told.last(), Some(&(1, Delivery::Closed)));
    }

    #[test]
    fn a_blocked_direction_delivers_nothing_until_it_is_opened() {
        let (mut net, mut s, socket) = connected();
        net.set_blocked(&mut s, 0, 1, true);
        net.send(&mut s, socket, vec![1, 2, 3]);
        net.send(&mut s, socket.other(), vec![9]);
        assert_eq!(run(&mut net, &mut s), [(0, Delivery::Bytes(vec![9]))], "the other direction is open");
        net.set_blocked(&mut s, 0, 1, false);
        assert_eq!(bytes_of(&run(&mut net, &mut s)), [1, 2, 3]);
    }

    #[test]
    fn a_machine_that_died_silently_is_noticed_when_it_is_back_and_bytes_reach_it() {
        let (mut net, mut s, socket) = connected();
        net.host_down(&mut s, 1, true);
        net.send(&mut s, socket, vec![1]);
        assert_eq!(run(&mut net, &mut s), [], "half-open");
        net.host_up(1);
        net.send(&mut s, socket, vec![2]);
        assert_eq!(run(&mut net, &mut s), [(0, Delivery::Closed)]);
    }

    #[test]
    fn a_connect_is_refused_by_a_host_without_process_and_times_out_behind_a_partition() {
        let mut net = Network::new(2, CALM, 0, Rng::new(1));
        let mut s: Scheduler<NetEvent> = Scheduler::default();
        net.host_down(&mut s, 1, false);
        net.connect(&mut s, 0, 1, Port::Client);
        assert_eq!(run(&mut net, &mut s), [(0, Delivery::Refused)]);
        net.host_up(1);
        net.set_blocked(&mut s, 0, 1, true);
        net.connect(&mut s, 0, 1, Port::Client);
        assert_eq!(run(&mut net, &mut s), [(0, Delivery::Refused)]);
        assert!(s.now() >= CONNECT_TIMEOUT);
    }

    #[test]
    fn a_reset_loses_what_is_under_way_and_tells_both_sides() {
        let (mut net, mut s, socket) = connected();
        net.send(&mut s, socket, vec![1; 100]);
        net.reset(&mut s, socket.conn);
        let mut told = run(&mut net, &mut s);
        told.sort_by_key(|(host, _)| *host);
        assert_eq!(told, [(0, Delivery::Closed), (1, Delivery::Closed)]);
    }
}
