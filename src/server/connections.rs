//! The client connections of a server: how many there may be, which are written to at the end of a turn, and which have
//! said or heard nothing for too long.
//!
//! ZooKeeper: `NIOServerCnxnFactory`.

use super::connection::{Conn, Flushed, Omitted};
use super::shared::{Shared, count};
use crate::peer::io::ConnId;
use crate::peer::{ConnPhase, Outbox};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// A client whose socket takes nothing for this long does not read.
const DEAF_MICROS: u64 = 1_000_000;
/// A session's connection without traffic is closed after its timeout and this. ZooKeeper: buckets of 10 s.
const IDLE_GRACE_MICROS: u64 = 10_000_000;

/// Outboxes that the core writes in one go, and how long it goes on with more of them before others have their turn.
const FLUSH_CHUNK: usize = 32;
const FLUSH_MICROS_MAX: u64 = 1000;

/// The client connections of a server.
#[derive(Default)]
pub struct Connections {
    table: Mutex<Table>,
    last_id: AtomicU64,
}

#[derive(Default)]
struct Table {
    by_id: HashMap<ConnId, Arc<Conn>>,
    plain: Port,
    secure: Port,
}

/// The connections of one port: each has the limits for itself, as in Apache, where each has a factory of its own.
#[derive(Default)]
struct Port {
    connections: usize,
    by_ip: HashMap<IpAddr, u32>,
}

impl Table {
    fn port(&mut self, is_secure: bool) -> &mut Port {
        if is_secure { &mut self.secure } else { &mut self.plain }
    }
}

/// Why a new connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `maxClientCnxns`.
    TooManyFrom(IpAddr),
    /// `maxCnxns`.
    TooMany(usize),
}

impl Refused {
    /// Says so, as Apache's server does.
    pub fn say(self, shared: &Shared) {
        count(&shared.metrics.connection_rejected, 1);
        let limits = &shared.config.limits;
        let Some(left_out) = shared.limits.repetition("refused", shared.clock.micros() / 1000) else { return };
        let more = Omitted(left_out);
        match self {
            Refused::TooManyFrom(ip) => {
                let max = limits.max_client_cnxns;
                tracing::warn!("Error accepting new connection: Too many connections from /{ip} - max is {max}{more}");
            }
            Refused::TooMany(n) => tracing::error!("Too many connections {n} - max is {}{more}", limits.max_cnxns),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Connections {
    /// Registers a connection from `ip` to one of the two ports, unless there are too many.
    pub fn reserve(&self, ip: IpAddr, is_secure: bool, max_per_ip: u32, max: u32) -> Result<ConnId, Refused> {
        let mut table = lock(&self.table);
        let port = table.port(is_secure);
        if max > 0 && port.connections >= max as usize {
            return Err(Refused::TooMany(port.connections));
        }
        let count = port.by_ip.entry(ip).or_default();
        if max_per_ip > 0 && *count >= max_per_ip {
            return Err(Refused::TooManyFrom(ip));
        }
        *count += 1;
        port.connections += 1;
        Ok(ConnId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1))
    }

    pub fn insert(&self, conn: Arc<Conn>) {
        lock(&self.table).by_id.insert(conn.outbox.conn(), conn);
    }

    pub fn release(&self, conn: ConnId, ip: IpAddr, is_secure: bool) {
        let mut table = lock(&self.table);
        table.by_id.remove(&conn);
        // Ten thousand that have gone need not be remembered by the room they took.
        if table.by_id.capacity() > 4 * table.by_id.len() + 1024 {
            table.by_id.shrink_to_fit();
        }
        let port = table.port(is_secure);
        if let Some(count) = port.by_ip.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                port.by_ip.remove(&ip);
            }
            port.connections -= 1;
        }
    }

    pub fn get(&self, conn: ConnId) -> Option<Arc<Conn>> {
        lock(&self.table).by_id.get(&conn).cloned()
    }

    /// All of them, newest first.
    pub fn all(&self) -> Vec<Arc<Conn>> {
        let mut all: Vec<Arc<Conn>> = lock(&self.table).by_id.values().cloned().collect();
        all.sort_by_key(|conn| std::cmp::Reverse(conn.outbox.conn()));
        all
    }

    /// Closes all: their tasks are gone with the runtime.
    pub fn clear(&self) {
        *lock(&self.table) = Table::default();
    }

    /// Writes what the core has put into these outboxes, and takes those that it came to out of `dirty`. Without `all`
    /// it stops after a while ([`FLUSH_MICROS_MAX`]): a change that thousands watch does not keep this thread from
    /// everything else until the last of them has been told.
    pub fn flush(&self, shared: &Shared, dirty: &mut Vec<Arc<Outbox>>, all: bool) {
        let is_long = !all && dirty.len() > FLUSH_CHUNK;
        let deadline = if is_long { shared.clock.micros() + FLUSH_MICROS_MAX } else { u64::MAX };
        let mut done = 0;
        for chunk in dirty.chunks(FLUSH_CHUNK) {
            chunk.iter().for_each(|outbox| self.flush_one(shared, outbox));
            done += chunk.len();
            if is_long && shared.clock.micros() > deadline {
                break;
            }
        }
        dirty.drain(..done);
    }

    fn flush_one(&self, shared: &Shared, outbox: &Outbox) {
        let Some(conn) = self.get(outbox.conn()) else { return };
        let flushed = conn.flush(shared);
        if flushed == Flushed::Closing {
            // The client sees the end now, not when the task has its turn: who is told that a role is over
            // (`Ensemble::kill`) finds its connections closed.
            let _ = socket2::SockRef::from(conn.write.as_ref()).shutdown(std::net::Shutdown::Write);
        }
        if flushed != Flushed::All || conn.is_paused.load(Ordering::Relaxed) {
            conn.wake.notify_one();
        }
    }

    /// Ends connections that say nothing or hear nothing: those without a session after `sessionlessCnxnTimeout`,
    /// others after their session's timeout; and if more waits for them than there is room for, those for which most
    /// waits.
    pub fn sweep(&self, shared: &Shared) {
        let now = shared.clock.micros();
        let mut deaf = Vec::new();
        for conn in self.all() {
            let idle = now.saturating_sub(conn.heard_micros.load(Ordering::Relaxed));
            let info = conn.outbox.info();
            let limit = match info.phase {
                ConnPhase::Open => u64::from(info.timeout_ms.unsigned_abs()) * 1000,
                ConnPhase::Connecting | ConnPhase::Closing => {
                    u64::from(shared.config.limits.sessionless_timeout_ms) * 1000
                }
            };
            let grace = if info.phase == ConnPhase::Open { IDLE_GRACE_MICROS } else { 0 };
            if conn.is_handshake_late(now) {
                count(&shared.metrics.tls_handshake_exceeded, 1);
                if let Some(left_out) = shared.limits.repetition("handshake", now / 1000) {
                    tracing::warn!(
                        "TLS handshake with /{} took too long, it is closed{}",
                        conn.peer,
                        Omitted(left_out)
                    );
                }
                conn.expire();
                continue;
            }
            if idle > limit + grace {
                if info.phase == ConnPhase::Connecting {
                    count(&shared.metrics.sessionless_expired, 1);
                }
                conn.expire();
                continue;
            }
            let Some((bytes, since)) = conn.unsent() else { continue };
            let blocked = now.saturating_sub(since);
            if blocked > limit.max(DEAF_MICROS) {
                // A client that hears nothing for so long has gone to another server.
                conn.say_deaf(shared, bytes);
                conn.expire();
            } else if blocked > DEAF_MICROS {
                deaf.push((bytes, conn));
            }
        }
        let mut excess = shared.limits.unsent_excess();
        deaf.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        for (bytes, conn) in deaf {
            if excess == 0 {
                return;
            }
            conn.say_deaf(shared, bytes);
            conn.expire();
            excess = excess.saturating_sub(bytes);
        }
    }
}
