//! Where the members of the ensemble are, this server among them: connects go to their newest addresses, and its own
//! ports are opened anew where a reconfiguration moves them.
//!
//! ZooKeeper: `QuorumPeer.processReconfig`, `ServerCnxnFactory.reconfigure`.

use super::config::Config;
use super::listen::{listen, resolve};
use super::start::open_each;
use crate::peer::io::Members;
use crate::records::{HostPort, PeerAddr, ServerAddr, ServerId};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};

/// The members, and where this server listens.
pub struct Places {
    my_id: Option<ServerId>,
    members: BTreeMap<ServerId, ServerAddr>,
    me: Option<ServerAddr>,
    client: Option<SocketAddr>,
    on_all_ips: bool,
    client_backlog: i32,
}

/// Ports of this server that a reconfiguration has moved.
#[derive(Default)]
pub struct Moved {
    pub client: Option<TcpListener>,
    pub quorum: Option<NewPorts>,
    pub election: Option<NewPorts>,
}

/// Where to listen from now on.
pub struct NewPorts {
    pub listeners: Vec<TcpListener>,
    /// None of the former ports is one of the new addresses: they are closed.
    pub replace: bool,
}

impl Places {
    pub fn new(config: &Config) -> Places {
        Places {
            my_id: config.my_id,
            members: config.ensemble.servers.clone(),
            me: config.me().cloned(),
            client: config.client_addr,
            on_all_ips: config.quorum.listen_on_all_ips,
            client_backlog: config.limits.client_backlog,
        }
    }

    pub fn of(&self, server: ServerId) -> Option<&ServerAddr> {
        self.members.get(&server)
    }

    /// Where the members' election ports are.
    pub fn election_addresses(&self) -> BTreeMap<ServerId, Vec<HostPort>> {
        let of = |server: &ServerAddr| server.addrs.iter().map(|addr| addr.election.clone()).collect();
        self.members.iter().map(|(&id, server)| (id, of(server))).collect()
    }

    /// Takes over a change; what cannot be listened at stays where it was, and is told.
    pub fn change(&mut self, members: &Members) -> Moved {
        let proposed = members.last_seen.as_ref().map(|last_seen| &last_seen.servers);
        self.members = proposed.cloned().unwrap_or_default();
        self.members.extend(members.committed.servers.iter().map(|(id, server)| (*id, server.clone())));
        let mut moved = Moved::default();
        let Some(new) = self.my_id.and_then(|id| members.committed.servers.get(&id)) else { return moved };
        let old = self.me.replace(new.clone());
        let old_client = old.as_ref().and_then(|old| old.client.as_ref());
        if let Some(client) = new.client.as_ref().filter(|client| old_client != Some(*client)) {
            moved.client = match self.listen_for_clients(client) {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::error!("cannot listen at the new client address {client}: {error}");
                    None
                }
            };
        }
        let old = old.map(|old| old.addrs).unwrap_or_default();
        moved.quorum = self.listen_for_servers("quorum", &old, &new.addrs, |addr| &addr.quorum);
        moved.election = self.listen_for_servers("election", &old, &new.addrs, |addr| &addr.election);
        moved
    }

    /// `None`: it listens there already, by `clientPort`.
    fn listen_for_clients(&mut self, addr: &HostPort) -> io::Result<Option<TcpListener>> {
        let resolved = resolve(addr)?;
        if self.client == Some(resolved) {
            return Ok(None);
        }
        let listener = listen(resolved, self.client_backlog)?;
        self.client = Some(resolved);
        tracing::info!("binding to the new client address {addr}");
        Ok(Some(listener))
    }

    /// Listens at those addresses that are new.
    fn listen_for_servers(
        &self,
        what: &'static str,
        old: &[PeerAddr],
        new: &[PeerAddr],
        port: impl Fn(&PeerAddr) -> &HostPort,
    ) -> Option<NewPorts> {
        let is_old = |addr: &HostPort| {
            let same = |old: &HostPort| if self.on_all_ips { old.port == addr.port } else { old == addr };
            old.iter().any(|old| same(port(old)))
        };
        let added = || new.iter().map(&port).filter(|addr| !is_old(addr));
        added().next()?;
        match open_each(what, None, 1, self.on_all_ips, added) {
            Ok(listeners) => {
                tracing::info!("binding to the new {what} address");
                Some(NewPorts { listeners, replace: !new.iter().any(|addr| is_old(port(addr))) })
            }
            Err(error) => {
                tracing::error!("{error}");
                None
            }
        }
    }
}
