//! Where the members of the ensemble are, this server among them: connects go to where they are and to where they may
//! have moved, and its own ports are opened anew where a reconfiguration moves them.
//!
//! While a reconfiguration is proposed nobody here knows whether it holds: the others may have its commit, and have
//! closed their former ports. So a member is looked for at its addresses in both lists. This server itself listens at,
//! and tells, the committed ones. A name of its own is looked up aside ([`Places::unresolved`]): the core does not wait
//! for a resolver.
//!
//! ZooKeeper: `QuorumPeer.processReconfig`, `QuorumCnxManager.connectOne`, `ServerCnxnFactory.reconfigure`.

use super::config::Config;
use super::listen::{listen, listen_on};
use crate::peer::io::Members;
use crate::records::{Configuration, HostPort, PeerAddr, ServerAddr, ServerId};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

/// The members, and where this server listens.
pub struct Places {
    my_id: Option<ServerId>,
    election: BTreeMap<ServerId, Vec<HostPort>>,
    quorum: BTreeMap<ServerId, Vec<HostPort>>,
    /// Where this server is to listen.
    me: Option<ServerAddr>,
    listening: Listening,
    on_all_ips: bool,
    client_backlog: i32,
}

/// The addresses of hosts that were looked up, or why they have none.
pub type Resolved = BTreeMap<String, Result<IpAddr, String>>;

/// Where this server listens. What could not be had is not in it, and tried again at the next change.
#[derive(Default)]
struct Listening {
    /// As the list says it.
    client: Option<HostPort>,
    /// As the socket says it.
    client_addr: Option<SocketAddr>,
    quorum: Vec<HostPort>,
    election: Vec<HostPort>,
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
    /// `config` is what is committed.
    pub fn new(config: &Config, last_seen: Option<Configuration>) -> Places {
        let mine = config.me();
        let listening = Listening {
            client: mine.and_then(|me| me.client.clone()),
            client_addr: config.client_addr,
            quorum: mine.into_iter().flat_map(|me| &me.addrs).map(|addr| addr.quorum.clone()).collect(),
            election: mine.into_iter().flat_map(|me| &me.addrs).map(|addr| addr.election.clone()).collect(),
        };
        let mut places = Places {
            my_id: config.my_id,
            election: BTreeMap::new(),
            quorum: BTreeMap::new(),
            me: None,
            listening,
            on_all_ips: config.quorum.listen_on_all_ips,
            client_backlog: config.limits.client_backlog,
        };
        places.change(&Members { committed: config.ensemble.clone(), last_seen });
        places
    }

    /// Takes over a change; [`Places::listen`] follows.
    pub fn change(&mut self, members: &Members) {
        self.quorum = addresses(members, self.my_id, |addr| &addr.quorum);
        self.election = addresses(members, self.my_id, |addr| &addr.election);
        self.me = self.my_id.and_then(|id| members.committed.servers.get(&id)).cloned();
    }

    /// Where a member takes learners while it leads.
    pub fn quorum_addresses(&self, server: ServerId) -> Vec<HostPort> {
        self.quorum.get(&server).cloned().unwrap_or_default()
    }

    /// Where the members' election ports are.
    pub fn election_addresses(&self) -> BTreeMap<ServerId, Vec<HostPort>> {
        self.election.clone()
    }

    /// The hosts of all members.
    pub fn hosts(&self) -> BTreeSet<String> {
        self.quorum.values().chain(self.election.values()).flatten().map(|addr| addr.host.clone()).collect()
    }

    /// Names that must be known before this server can listen where it is to.
    pub fn unresolved(&self) -> BTreeSet<String> {
        let client = self.client_wanted().into_iter().collect();
        let quorum = missing(&self.listening.quorum, &self.wanted(|addr| &addr.quorum), self.on_all_ips);
        let election = missing(&self.listening.election, &self.wanted(|addr| &addr.election), self.on_all_ips);
        let all = [client, quorum, election].into_iter().flatten();
        all.filter(|addr| addr.literal().is_none()).map(|addr| addr.host).collect()
    }

    /// Listens where it does not yet, as far as names are `found`; what cannot be listened at stays where it was, and is
    /// told.
    pub fn listen(&mut self, found: &Resolved) -> Moved {
        let mut moved = Moved::default();
        if let Some(client) = self.client_wanted()
            && let Some(resolved) = resolved(&client, found)
        {
            moved.client = self.listen_for_clients(&client, resolved).unwrap_or_else(|error| {
                cannot_listen("client", &client, &error);
                None
            });
        }
        let (quorum, election) = (self.wanted(|addr| &addr.quorum), self.wanted(|addr| &addr.election));
        let listening = &mut self.listening;
        moved.quorum = listen_for_servers("quorum", &mut listening.quorum, &quorum, self.on_all_ips, found);
        moved.election = listen_for_servers("election", &mut listening.election, &election, self.on_all_ips, found);
        moved
    }

    fn wanted(&self, port: fn(&PeerAddr) -> &HostPort) -> Vec<HostPort> {
        self.me.iter().flat_map(|me| &me.addrs).map(port).cloned().collect()
    }

    fn client_wanted(&self) -> Option<HostPort> {
        self.me.as_ref()?.client.clone().filter(|client| self.listening.client.as_ref() != Some(client))
    }

    /// `None`: it listens there already, by `clientPort`.
    fn listen_for_clients(
        &mut self,
        addr: &HostPort,
        resolved: io::Result<SocketAddr>,
    ) -> io::Result<Option<TcpListener>> {
        let resolved = resolved?;
        let is_new = self.listening.client_addr != Some(resolved);
        let listener = is_new.then(|| listen(resolved, self.client_backlog)).transpose()?;
        if is_new {
            tracing::info!("binding to the new client address {addr}");
        }
        self.listening.client = Some(addr.clone());
        self.listening.client_addr = Some(resolved);
        Ok(listener)
    }
}

/// `None`: its name is being looked up.
fn resolved(addr: &HostPort, found: &Resolved) -> Option<io::Result<SocketAddr>> {
    if let Some(addr) = addr.literal() {
        return Some(Ok(addr));
    }
    let ip = found.get(&addr.host)?.clone();
    Some(ip.map(|ip| SocketAddr::new(ip, addr.port)).map_err(io::Error::other))
}

/// Where each member may be: at its committed addresses, then at its proposed ones. Not where the committed list has
/// somebody else, who would be taken for it; and this server is where it listens.
fn addresses(
    members: &Members,
    my_id: Option<ServerId>,
    port: impl Fn(&PeerAddr) -> &HostPort,
) -> BTreeMap<ServerId, Vec<HostPort>> {
    let mut addresses: BTreeMap<ServerId, Vec<HostPort>> = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for (&id, server) in &members.committed.servers {
        taken.extend(server.addrs.iter().map(&port).map(|addr| (&*addr.host, addr.port)));
        addresses.insert(id, server.addrs.iter().map(|addr| port(addr).clone()).collect());
    }
    let proposed = members.last_seen.iter().flat_map(|last_seen| &last_seen.servers);
    for (&id, server) in proposed {
        if my_id == Some(id) && addresses.contains_key(&id) {
            continue;
        }
        let added = server.addrs.iter().map(&port).filter(|addr| !taken.contains(&(&*addr.host, addr.port)));
        addresses.entry(id).or_default().extend(added.cloned());
    }
    addresses
}

/// Those of the `wanted` addresses at which it does not listen yet.
fn missing(listening: &[HostPort], wanted: &[HostPort], on_all_ips: bool) -> Vec<HostPort> {
    let mut missing: Vec<HostPort> = Vec::new();
    for addr in wanted {
        if !is_in(listening, addr, on_all_ips) && !is_in(&missing, addr, on_all_ips) {
            missing.push(addr.clone());
        }
    }
    missing
}

fn is_in(addrs: &[HostPort], addr: &HostPort, on_all_ips: bool) -> bool {
    addrs.iter().any(|known| if on_all_ips { known.port == addr.port } else { known == addr })
}

/// Listens at those of the `wanted` addresses at which it does not yet.
fn listen_for_servers(
    what: &'static str,
    listening: &mut Vec<HostPort>,
    wanted: &[HostPort],
    on_all_ips: bool,
    found: &Resolved,
) -> Option<NewPorts> {
    let (mut listeners, mut added) = (Vec::new(), Vec::new());
    for addr in missing(listening, wanted, on_all_ips) {
        let Some(resolved) = resolved(&addr, found) else { continue };
        match resolved.and_then(|resolved| listen_on(resolved, on_all_ips)) {
            Ok(listener) => {
                tracing::info!("binding to the new {what} address {addr}");
                listeners.push(listener);
                added.push(addr);
            }
            Err(error) => cannot_listen(what, &addr, &error),
        }
    }
    if listeners.is_empty() {
        return None;
    }
    let replace = !wanted.iter().any(|addr| is_in(listening, addr, on_all_ips));
    if replace {
        listening.clear();
    }
    listening.extend(added);
    Some(NewPorts { listeners, replace })
}

fn cannot_listen(what: &str, addr: &HostPort, error: &io::Error) {
    tracing::error!("cannot listen at the new {what} address {addr}, the next change of the list tries again: {error}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str, my_id: i64) -> Config {
        Config { my_id: Some(ServerId(my_id)), ensemble: Configuration::parse(text).unwrap(), ..Config::default() }
    }

    fn members(committed: &str, last_seen: Option<&str>) -> Members {
        let parse = |text| Configuration::parse(text).unwrap();
        Members { committed: parse(committed), last_seen: last_seen.map(parse) }
    }

    fn election(places: &Places, server: i64) -> Vec<String> {
        places.election_addresses().get(&ServerId(server)).into_iter().flatten().map(HostPort::to_string).collect()
    }

    fn quorum(places: &Places, server: i64) -> Vec<String> {
        places.quorum_addresses(ServerId(server)).iter().map(HostPort::to_string).collect()
    }

    fn changed(places: &mut Places, members: &Members) -> Moved {
        places.change(members);
        places.listen(&Resolved::new())
    }

    /// A port of 127.0.0.1 that is taken until the listener is dropped.
    fn taken() -> (TcpListener, u16) {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)), -1).unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    const OLD: &str = "server.1=a:1:11\nserver.2=b:2:12\nserver.3=c:3:13";
    const NEW: &str = "server.1=a:1:11\nserver.2=b:2:22\nserver.3=d:3:13\nserver.4=e:4:14";

    /// The commit may have passed this server by, and the former ports are closed then.
    #[test]
    fn a_member_is_looked_for_where_it_was_and_where_a_proposed_list_has_it() {
        let mut places = Places::new(&config(OLD, 1), None);
        assert_eq!(election(&places, 2), ["b:12"]);
        places.change(&members(OLD, Some(NEW)));
        assert_eq!(
            (election(&places, 2), quorum(&places, 2)),
            (vec!["b:12".into(), "b:22".into()], vec!["b:2".into()])
        );
        assert_eq!((election(&places, 3).len(), quorum(&places, 3)), (2, vec!["c:3".into(), "d:3".into()]));
        assert_eq!((election(&places, 4), quorum(&places, 4)), (vec!["e:14".into()], vec!["e:4".into()]));
        places.change(&members(NEW, None));
        assert_eq!((election(&places, 2), quorum(&places, 3)), (vec!["b:22".into()], vec!["d:3".into()]));
    }

    #[test]
    fn a_list_that_was_proposed_before_a_restart_counts_from_the_start() {
        let places = Places::new(&config(OLD, 1), Some(Configuration::parse(NEW).unwrap()));
        assert_eq!(election(&places, 2), ["b:12", "b:22"]);
        assert_eq!(quorum(&places, 4), ["e:4"]);
    }

    /// It goes into INITIAL, where the others connect to.
    #[test]
    fn this_server_is_where_it_listens_until_a_list_that_moves_it_is_committed() {
        let places = Places::new(&config(OLD, 2), Some(Configuration::parse(NEW).unwrap()));
        assert_eq!(election(&places, 2), ["b:12"]);
        let places = Places::new(&config(OLD, 4), Some(Configuration::parse(NEW).unwrap()));
        assert_eq!(election(&places, 4), ["e:14"]);
    }

    /// Else the votes of one server could be taken for those of two.
    #[test]
    fn nobody_is_looked_for_where_the_committed_list_has_somebody_else() {
        let exchanged = "server.1=a:1:11\nserver.2=c:3:13\nserver.3=b:2:12";
        let places = Places::new(&config(OLD, 1), Some(Configuration::parse(exchanged).unwrap()));
        assert_eq!((election(&places, 2), election(&places, 3)), (vec!["b:12".into()], vec!["c:13".into()]));
        assert_eq!((quorum(&places, 2), quorum(&places, 3)), (vec!["b:2".into()], vec!["c:3".into()]));
    }

    #[test]
    fn a_port_that_could_not_be_had_is_tried_again_at_the_next_change() {
        let (client, client_port) = taken();
        let (quorum, quorum_port) = taken();
        let (election, election_port) = taken();
        let mut places = Places::new(&config("server.1=127.0.0.1:1:2;127.0.0.1:3", 1), None);
        let new = format!("server.1=127.0.0.1:{quorum_port}:{election_port};127.0.0.1:{client_port}");
        let moved = changed(&mut places, &members(&new, None));
        assert!(moved.client.is_none() && moved.quorum.is_none() && moved.election.is_none());

        drop((client, quorum, election));
        let moved = changed(&mut places, &members(&new, Some("server.1=127.0.0.1:1:2")));
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        assert_eq!(moved.client.as_ref().map(port), Some(client_port));
        let ports = |new: &Option<NewPorts>| new.as_ref().map(|new| (port(&new.listeners[0]), new.replace));
        assert_eq!(ports(&moved.quorum), Some((quorum_port, true)));
        assert_eq!(ports(&moved.election), Some((election_port, true)));

        let again = changed(&mut places, &members(&new, None));
        assert!(again.client.is_none() && again.quorum.is_none() && again.election.is_none(), "it listens there");
    }

    #[test]
    fn former_ports_are_closed_unless_one_of_them_stays() {
        let free = || taken().1;
        let (first, second, third) = (free(), free(), free());
        let mut places = Places::new(&config(&format!("server.1=127.0.0.1:1:{first}"), 1), None);
        let at = |ports: &[u16]| {
            let of = |port: &u16| format!("127.0.0.1:1:{port}");
            members(&format!("server.1={}", ports.iter().map(of).collect::<Vec<_>>().join("|")), None)
        };
        let added = changed(&mut places, &at(&[first, second])).election.unwrap();
        assert_eq!((added.listeners.len(), added.replace), (1, false));
        assert!(changed(&mut places, &at(&[second])).election.is_none());
        let replaced = changed(&mut places, &at(&[third])).election.unwrap();
        assert_eq!((replaced.listeners.len(), replaced.replace), (1, true));
    }

    #[test]
    fn a_name_is_waited_for_and_nothing_else_is() {
        let (quorum, election, client) = (taken().1, taken().1, taken().1);
        let mut places = Places::new(&config("server.1=127.0.0.1:1:2", 1), None);
        let new = format!("server.1=zk.test:{quorum}:{election};127.0.0.1:{client}");
        places.change(&members(&new, None));
        assert_eq!(places.unresolved(), ["zk.test".to_owned()].into());
        let moved = places.listen(&Resolved::new());
        assert!(moved.client.is_some() && moved.quorum.is_none() && moved.election.is_none());

        let moved = places.listen(&[("zk.test".to_owned(), Err("no such host".to_owned()))].into());
        assert!(moved.client.is_none() && moved.quorum.is_none() && moved.election.is_none());
        assert!(!places.unresolved().is_empty(), "it is looked up again");

        let moved = places.listen(&[("zk.test".to_owned(), Ok(IpAddr::from([127, 0, 0, 1])))].into());
        let port = |new: Option<NewPorts>| new.unwrap().listeners[0].local_addr().unwrap().port();
        assert_eq!((port(moved.quorum), port(moved.election)), (quorum, election));
        assert!(places.unresolved().is_empty());
    }
}
