//! The election port: one connection for each pair of servers, kept by the one with the larger id.
//!
//! The side that has something to say connects and writes INITIAL. If its id is the smaller one it closes at once and
//! waits for the other to connect back; the accepting side closes too and does so. For each server only the newest
//! unsent message is kept, and the last one is sent again on a fresh connection, since nobody knows whether the old
//! connection lost it. What is easy to get wrong: when both sides connect at the same moment, the larger one must not
//! throw away the connection that it has just made, or both would go on replacing each other's.
//!
//! [`manager`] decides who connects to whom, [`link`] reads and writes, [`strangers`] bounds what those may cost who
//! are in no configuration. ZooKeeper: `QuorumCnxManager`.

mod link;
mod manager;
mod strangers;
#[cfg(test)]
mod tests;

use super::channel::{Channel, Security};
use super::net_faults::Network;
use super::places::NewPorts;
use super::shared::Event;
use super::task;
use crate::records::{HostPort, Initial, Notification, ServerId};
use manager::Manager;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Election addresses of servers; of each at least one.
pub type Members = BTreeMap<ServerId, Vec<HostPort>>;

/// What the links need to know.
#[derive(Clone)]
pub struct ElectionConfig {
    pub my_id: ServerId,
    /// All members; this server's own addresses go into INITIAL.
    pub members: Members,
    /// `multiAddress.enabled`: INITIAL tells all addresses.
    pub multi_address: bool,
    /// After which the next of several addresses is tried beside one that does not answer.
    pub reachability_timeout: Duration,
    pub connect_timeout: Duration,
    /// How long an accepted connection may take to send INITIAL.
    pub initial_timeout: Duration,
    pub security: Arc<Security>,
}

/// What happens on the election port.
#[derive(Debug, PartialEq, Eq)]
pub enum ElectionEvent {
    Message {
        from: ServerId,
        notification: Notification,
    },
    /// The connection is open, or is known to be closed or refused.
    Link {
        server: ServerId,
        up: bool,
    },
}

/// The handle: what the core says to the links.
pub struct ElectionLinks {
    inbox: mpsc::UnboundedSender<Internal>,
}

impl ElectionLinks {
    /// Starts the links on the current runtime. `events` is called on it for whatever happens; a panic of a task goes to
    /// `panics`.
    pub fn start(
        config: ElectionConfig,
        network: Network,
        listeners: Vec<TcpListener>,
        panics: mpsc::UnboundedSender<Event>,
        events: impl Fn(ElectionEvent) + Send + Sync + 'static,
    ) -> ElectionLinks {
        let (inbox, internal) = mpsc::unbounded_channel();
        let manager = Manager::new(config, network, panics.clone(), Arc::new(events), inbox.clone());
        task::spawn("the election port", &panics, manager.run(listeners, internal));
        ElectionLinks { inbox }
    }

    /// Sends to `to`, or replaces what is still unsent.
    pub fn send(&self, to: ServerId, notification: Notification) {
        let _ = self.inbox.send(Internal::Send { to, notification });
    }

    /// While this server is looking for a leader, refused connects are tried again by themselves.
    pub fn set_looking(&self, looking: bool) {
        let _ = self.inbox.send(Internal::Looking(looking));
    }

    /// From now on these are the members: new ones are known by their addresses, former ones are strangers. With
    /// `ports` this server's own are others.
    pub fn set_members(&self, members: Members, ports: Option<NewPorts>) {
        let _ = self.inbox.send(Internal::Members { members, ports });
    }
}

/// What the manager's task is told: by the core, and by the tasks of its connections.
enum Internal {
    Send { to: ServerId, notification: Notification },
    Looking(bool),
    Members { members: Members, ports: Option<NewPorts> },
    Accepting { stream: TcpStream },
    Accepted { initial: Initial, channel: Box<Channel> },
    Dialed { server: ServerId, result: io::Result<Box<Channel>> },
    Closed { server: ServerId, link: u64, reason: String },
}

type Events = Arc<dyn Fn(ElectionEvent) + Send + Sync>;
