//! A network that can be hurt: what an [`Ensemble`](super::Ensemble) does to the connections between its members.
//!
//! Connections stay real sockets. Who reads from one holds back what has arrived: for ever while the two are cut apart
//! (then it does not even read, so the other side's kernel keeps what it takes, as it would keep what is not
//! acknowledged), or until the delay of the link is over. So an end of the connection is not seen through a cut either,
//! a dial hangs in it, and what waited flows in its order when it is healed. Clients' connections know none of it.
//!
//! While nothing is set, a read costs one relaxed load of a flag, and a production server, which has no
//! [`NetFaults`], a look at an `Option`.

use crate::records::HostPort;
use crate::records::ServerId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// Bytes that may be on their way in one direction of one connection; then no more is read, and TCP says so.
const WAITING_BYTES_MAX: usize = 256 << 20;
/// What a TCP segment carries on an Ethernet: as much as is lost at once.
const SEGMENT_BYTES: usize = 1448;
/// Linux' TCP_RTO_MIN: the least time after which a lost segment is sent again.
const RETRANSMISSION_MIN: Duration = Duration::from_millis(200);
/// Linux' TCP_RTO_MAX is 120 s; a test that has lost so often in a row has waited long enough.
const RETRANSMISSION_MAX: Duration = Duration::from_secs(5);

/// How long one direction of a link takes, and how often a segment is lost in it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slow {
    pub latency: Duration,
    /// From 0 to below 1.
    pub loss: f64,
}

/// All that is wrong with the network.
#[derive(Clone, Debug, Default)]
struct Plan {
    /// Who is in which group; a server in none is cut off from all. `None`: nobody is cut off.
    groups: Option<BTreeMap<ServerId, usize>>,
    /// From, to.
    slow: BTreeMap<(ServerId, ServerId), Slow>,
}

/// The network between the members of one ensemble.
#[derive(Debug)]
pub struct NetFaults {
    /// False: nothing is wrong, and nothing else is looked at.
    is_set: AtomicBool,
    plan: watch::Sender<Plan>,
    /// Whose a connection is, by the address that it comes from; taken out when it is accepted.
    dialed: Mutex<BTreeMap<SocketAddr, ServerId>>,
}

impl Default for NetFaults {
    fn default() -> Self {
        NetFaults { is_set: AtomicBool::new(false), plan: watch::Sender::default(), dialed: Mutex::default() }
    }
}

impl NetFaults {
    /// From now on no byte passes between these groups.
    pub fn partition(&self, groups: &[BTreeSet<ServerId>]) {
        let group_of = |(n, ids): (usize, &BTreeSet<ServerId>)| ids.iter().map(move |&id| (id, n)).collect::<Vec<_>>();
        let groups = groups.iter().enumerate().flat_map(group_of).collect();
        self.change(|plan| plan.groups = Some(groups));
    }

    /// From now on the link from `from` to `to` is so slow; not at all takes it back.
    pub fn slow(&self, from: ServerId, to: ServerId, slow: Slow) {
        self.change(|plan| {
            if slow == Slow::default() {
                plan.slow.remove(&(from, to));
            } else {
                plan.slow.insert((from, to), slow);
            }
        });
    }

    /// The network is as good as new.
    pub fn heal(&self) {
        self.change(|plan| *plan = Plan::default());
    }

    /// Whether nothing passes between `a` and `b`.
    pub fn is_cut(&self, a: ServerId, b: ServerId) -> bool {
        self.is_set.load(Ordering::Relaxed) && self.plan.borrow().is_cut(a, b)
    }

    fn change(&self, change: impl FnOnce(&mut Plan)) {
        self.plan.send_modify(|plan| {
            change(plan);
            // Before anybody hears of the change.
            self.is_set.store(plan.groups.is_some() || !plan.slow.is_empty(), Ordering::Relaxed);
        });
    }

    fn dialed(&self) -> std::sync::MutexGuard<'_, BTreeMap<SocketAddr, ServerId>> {
        self.dialed.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Plan {
    fn is_cut(&self, a: ServerId, b: ServerId) -> bool {
        self.groups.as_ref().is_some_and(|groups| match (groups.get(&a), groups.get(&b)) {
            (Some(a), Some(b)) => a != b,
            _ => true,
        })
    }

    fn slow(&self, from: ServerId, to: ServerId) -> Slow {
        self.slow.get(&(from, to)).copied().unwrap_or_default()
    }
}

/// One server's place in the network.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// `None`: the world's network, which needs nobody to hurt it.
    faults: Option<(Arc<NetFaults>, ServerId)>,
}

impl Network {
    pub fn new(faults: Arc<NetFaults>, me: ServerId) -> Network {
        Network { faults: Some((faults, me)) }
    }

    /// Connects to another server's port.
    pub async fn connect(&self, peer: ServerId, addr: &HostPort) -> io::Result<TcpStream> {
        match (&self.faults, addr.literal()) {
            (Some((faults, me)), Some(addr)) => {
                let pair = self.pair(peer);
                pair.open().await;
                // The handshake goes there and back.
                let (there, back) = {
                    let plan = faults.plan.borrow();
                    (plan.slow(*me, peer).latency, plan.slow(peer, *me).latency)
                };
                if !(there + back).is_zero() {
                    sleep(there + back).await;
                    pair.open().await;
                }
                let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
                socket.bind(SocketAddr::new(addr.ip(), 0))?;
                faults.dialed().insert(socket.local_addr()?, *me);
                socket.connect(addr).await
            }
            (_, Some(addr)) => TcpStream::connect(addr).await,
            (_, None) => TcpStream::connect((addr.host.as_str(), addr.port)).await,
        }
    }

    /// This server and another, on a connection that was made by [`Network::connect`].
    pub fn pair(&self, peer: ServerId) -> Pair {
        Pair { faults: self.faults.clone().map(|(faults, me)| (faults, me, peer)) }
    }

    /// This server and who has dialed it.
    pub fn accepted(&self, stream: &TcpStream) -> Pair {
        let Some((faults, me)) = &self.faults else { return Pair::default() };
        let from = stream.peer_addr().ok().and_then(|addr| faults.dialed().remove(&addr));
        Pair { faults: from.map(|peer| (faults.clone(), *me, peer)) }
    }
}

/// Two servers with a connection between them, as the one who holds it sees them.
#[derive(Clone, Debug, Default)]
pub struct Pair {
    /// The network, this server, the other one.
    faults: Option<(Arc<NetFaults>, ServerId, ServerId)>,
}

impl Pair {
    /// Whether nothing passes now.
    pub fn is_cut(&self) -> bool {
        self.faults.as_ref().is_some_and(|(faults, me, peer)| faults.is_cut(*me, *peer))
    }

    /// Returns when something may pass.
    pub async fn open(&self) {
        if let Some((faults, me, peer)) = &self.faults {
            let mut plan = faults.plan.subscribe();
            // The sender is held by `faults`.
            let _ = plan.wait_for(|plan| !plan.is_cut(*me, *peer)).await;
        }
    }

    /// What comes from the other one.
    pub fn line(&self) -> Line {
        Line {
            delayed: self.faults.clone().map(|(faults, me, peer)| Delayed {
                plan: faults.plan.subscribe(),
                faults,
                from: peer,
                to: me,
                waiting: VecDeque::new(),
                waiting_bytes: 0,
                last_due: None,
                has_ended: false,
                read: Vec::new(),
                random: RandomState::new().hash_one(0) | 1,
            }),
        }
    }
}

/// One direction of a connection, at the end where it is read.
#[derive(Debug, Default)]
pub struct Line {
    delayed: Option<Delayed>,
}

impl Line {
    /// Appends what has arrived to `buffer`; how many bytes, 0 at the end of the stream. Nothing is lost when the
    /// future is dropped.
    pub async fn read(&mut self, stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> io::Result<usize> {
        match &mut self.delayed {
            None => stream.read_buf(buffer).await,
            Some(delayed) => delayed.read(stream, buffer).await,
        }
    }
}

/// What has left one server and has not arrived at the other.
#[derive(Debug)]
struct Delayed {
    faults: Arc<NetFaults>,
    plan: watch::Receiver<Plan>,
    from: ServerId,
    to: ServerId,
    /// When what arrives; no bytes are the end of the stream.
    waiting: VecDeque<(Instant, io::Result<Vec<u8>>)>,
    waiting_bytes: usize,
    last_due: Option<Instant>,
    has_ended: bool,
    /// Read from the socket just now.
    read: Vec<u8>,
    /// State of a xorshift generator.
    random: u64,
}

impl Delayed {
    async fn read(&mut self, stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            if self.waiting.is_empty() && !self.faults.is_set.load(Ordering::Relaxed) {
                let before = buffer.len();
                let result = stream.read_buf(buffer).await;
                if !self.faults.is_set.load(Ordering::Relaxed) {
                    return result;
                }
                // Something was set meanwhile.
                let bytes = buffer.split_off(before);
                self.put(result.map(|_| bytes));
                continue;
            }
            let (is_cut, slow) = {
                let plan = self.plan.borrow_and_update();
                (plan.is_cut(self.from, self.to), plan.slow(self.from, self.to))
            };
            let due = self.waiting.front().filter(|_| !is_cut).map(|(due, _)| *due);
            if let Some(due) = due
                && (slow == Slow::default() || due <= Instant::now())
                && let Some((_, arrived)) = self.waiting.pop_front()
            {
                let bytes = arrived?;
                self.waiting_bytes -= bytes.len();
                buffer.extend_from_slice(&bytes);
                return Ok(bytes.len());
            }
            let reads = !is_cut && !self.has_ended && self.waiting_bytes < WAITING_BYTES_MAX;
            tokio::select! {
                result = stream.read_buf(&mut self.read), if reads => {
                    let bytes = std::mem::take(&mut self.read);
                    self.put(result.map(|_| bytes));
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                // The sender is held by `faults`.
                _ = self.plan.changed() => {}
            }
        }
    }

    /// Puts what has left the other server on its way.
    fn put(&mut self, what: io::Result<Vec<u8>>) {
        let bytes = what.as_ref().map_or(0, Vec::len);
        self.has_ended |= bytes == 0;
        self.waiting_bytes += bytes;
        let (there, back) = {
            let plan = self.plan.borrow();
            (plan.slow(self.from, self.to), plan.slow(self.to, self.from))
        };
        let round_trip = there.latency + back.latency;
        let segments = 0..bytes.div_ceil(SEGMENT_BYTES).max(1);
        let late = segments.map(|_| self.retransmissions(there.loss, round_trip)).max().unwrap_or_default();
        let due = Instant::now() + there.latency + late;
        // What was sent before arrives before.
        let due = self.last_due.map_or(due, |last| due.max(last));
        self.last_due = Some(due);
        self.waiting.push_back((due, what));
    }

    /// How much later a segment arrives for being lost, perhaps several times.
    fn retransmissions(&mut self, loss: f64, round_trip: Duration) -> Duration {
        let mut late = Duration::ZERO;
        let mut timeout = RETRANSMISSION_MIN + round_trip;
        while loss > 0.0 && self.chance() < loss && timeout <= RETRANSMISSION_MAX + round_trip {
            late += timeout;
            timeout *= 2;
        }
        late
    }

    /// From 0 to below 1.
    fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    const A: ServerId = ServerId(1);
    const B: ServerId = ServerId(2);

    struct World {
        faults: Arc<NetFaults>,
        line: Line,
        read: TcpStream,
        write: TcpStream,
    }

    /// A connection that A has dialed and B has accepted.
    async fn world() -> World {
        let faults = Arc::new(NetFaults::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = HostPort::new("127.0.0.1", listener.local_addr().unwrap().port());
        let write = Network::new(faults.clone(), A).connect(B, &addr).await.unwrap();
        let (read, _) = listener.accept().await.unwrap();
        let line = Network::new(faults.clone(), B).accepted(&read).line();
        World { faults, line, read, write }
    }

    impl World {
        async fn read(&mut self) -> Vec<u8> {
            let mut bytes = Vec::new();
            self.line.read(&mut self.read, &mut bytes).await.unwrap();
            bytes
        }

        /// Whether nothing arrives though it has every chance.
        async fn is_silent(&mut self) -> bool {
            tokio::time::timeout(Duration::from_millis(20), self.read()).await.is_err()
        }
    }

    fn groups(groups: &[&[ServerId]]) -> Vec<BTreeSet<ServerId>> {
        groups.iter().map(|ids| ids.iter().copied().collect()).collect()
    }

    #[tokio::test]
    async fn nothing_passes_a_cut_and_all_of_it_comes_in_order_when_it_is_healed() {
        let mut world = world().await;
        world.write.write_all(b"before").await.unwrap();
        assert_eq!(world.read().await, b"before");
        world.faults.partition(&groups(&[&[A], &[B]]));
        world.write.write_all(b"in the cut").await.unwrap();
        world.write.shutdown().await.unwrap();
        assert!(world.is_silent().await, "the end is not seen either");
        world.faults.heal();
        assert_eq!(world.read().await, b"in the cut");
        assert_eq!(world.read().await, b"");
    }

    #[tokio::test]
    async fn a_read_that_waits_already_is_cut_too() {
        let World { faults, mut line, mut read, mut write } = world().await;
        let reading = tokio::spawn(async move {
            let mut bytes = Vec::new();
            line.read(&mut read, &mut bytes).await.unwrap();
            bytes
        });
        tokio::task::yield_now().await;
        faults.partition(&groups(&[&[B, A], &[]]));
        faults.partition(&groups(&[&[B]]));
        write.write_all(b"x").await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!reading.is_finished());
        faults.heal();
        assert_eq!(reading.await.unwrap(), b"x");
    }

    #[tokio::test]
    async fn a_server_in_no_group_is_cut_off_from_all_and_one_group_is_together() {
        let faults = NetFaults::default();
        faults.partition(&groups(&[&[A, ServerId(3)]]));
        assert!(faults.is_cut(A, B) && faults.is_cut(B, A) && faults.is_cut(B, ServerId(4)));
        assert!(!faults.is_cut(A, ServerId(3)));
        faults.heal();
        assert!(!faults.is_cut(A, B));
    }

    #[tokio::test]
    async fn a_slow_link_delays_each_packet_by_the_same_and_keeps_their_order() {
        let mut world = world().await;
        let latency = Duration::from_millis(60);
        world.faults.slow(A, B, Slow { latency, loss: 0.0 });
        let began = Instant::now();
        let mut sent = Vec::new();
        for n in 0..20u8 {
            world.write.write_all(&[n]).await.unwrap();
            sent.push(n);
        }
        let mut read = Vec::new();
        while read.len() < sent.len() {
            read.extend(world.read().await);
            assert!(began.elapsed() >= latency);
        }
        assert_eq!(read, sent);

        // What is on its way when the link is healed arrives.
        world.faults.slow(A, B, Slow { latency: Duration::from_secs(3600), loss: 0.0 });
        world.write.write_all(b"late").await.unwrap();
        assert!(world.is_silent().await);
        world.faults.slow(A, B, Slow::default());
        assert_eq!(world.read().await, b"late");
    }

    #[tokio::test]
    async fn packets_are_on_their_way_together() {
        let mut world = world().await;
        let latency = Duration::from_secs(3600);
        world.faults.slow(A, B, Slow { latency, loss: 0.0 });
        let mut delayed = world.line.delayed.take().unwrap();
        for n in 0..100u8 {
            delayed.put(Ok(vec![n]));
        }
        assert!(delayed.waiting[99].0 - delayed.waiting[0].0 < latency);
    }

    #[tokio::test]
    async fn a_lost_segment_comes_late_and_never_before_its_elders() {
        let mut world = world().await;
        world.faults.slow(A, B, Slow { latency: Duration::ZERO, loss: 0.5 });
        let mut delayed = world.line.delayed.take().unwrap();
        for n in 0..100u8 {
            delayed.put(Ok(vec![n]));
        }
        let due: Vec<Instant> = delayed.waiting.iter().map(|(due, _)| *due).collect();
        assert!(due.is_sorted());
        assert!(due[99] > Instant::now(), "none of a hundred was lost");
        assert!(due[99] < Instant::now() + 4 * RETRANSMISSION_MAX);
    }

    #[tokio::test]
    async fn a_dial_hangs_in_a_cut_and_connects_when_it_is_healed() {
        let faults = Arc::new(NetFaults::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = HostPort::new("127.0.0.1", listener.local_addr().unwrap().port());
        faults.partition(&groups(&[&[A], &[B]]));
        let dialing = tokio::spawn({
            let network = Network::new(faults.clone(), A);
            async move { network.connect(B, &addr).await.map(drop) }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!dialing.is_finished());
        faults.heal();
        listener.accept().await.unwrap();
        dialing.await.unwrap().unwrap();
    }
}
