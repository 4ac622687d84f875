//! Who is in the ensemble, and where: the `server.N=`, `group.G=` and `weight.N=` lines and their version, as dynamic
//! files, notifications, NEWLEADER, reconfigurations and `/zookeeper/config` carry them.
//!
//! `server.N=host:quorumPort:electionPort[|host:…][:participant|:observer][;[clientHost:]clientPort]`, IPv6 hosts in
//! brackets. ZooKeeper: `QuorumPeer.QuorumServer`, `QuorumMaj`, `QuorumHierarchical`.

use super::ServerId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// What a server is in the ensemble.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerType {
    /// Votes in elections and counts in quorums.
    #[default]
    Participant,
    /// Gets the history, never votes.
    Observer,
}

impl PeerType {
    /// `participant` or `observer`, in any case.
    pub fn parse(text: &str) -> Option<PeerType> {
        match text.to_ascii_lowercase().as_str() {
            "participant" => Some(PeerType::Participant),
            "observer" => Some(PeerType::Observer),
            _ => None,
        }
    }
}

impl fmt::Display for PeerType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PeerType::Participant => "participant",
            PeerType::Observer => "observer",
        })
    }
}

/// A host with a port; the host's name is resolved when it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Name or IP address, without brackets.
    pub host: String,
    pub port: u16,
}

impl HostPort {
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        HostPort { host: host.into(), port }
    }

    /// `host:port`, the host in brackets if it is an IPv6 address.
    pub fn parse(text: &str) -> Option<HostPort> {
        let (host, port) = text.trim().rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']')?,
            None if host.contains(':') => return None,
            None => host,
        };
        (!host.is_empty()).then_some(HostPort::new(host, port.parse().ok()?))
    }

    /// The address, if the host is an IP literal; else its name must be looked up.
    pub fn literal(&self) -> Option<SocketAddr> {
        self.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port))
    }

    /// Whether it names no host but all interfaces of whichever machine reads it.
    pub fn is_wildcard(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The two ports of a server at one of its hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddr {
    /// For learners, used while the server leads.
    pub quorum: HostPort,
    pub election: HostPort,
}

/// One member of the ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddr {
    /// At least one; more than one with `multiAddress.enabled`.
    pub addrs: Vec<PeerAddr>,
    pub role: PeerType,
    /// The client part behind the semicolon; without a host: all interfaces (`0.0.0.0`).
    pub client: Option<HostPort>,
}

impl ServerAddr {
    /// The value of a `server.N` line; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<ServerAddr, String> {
        let (server, client) = match text.split_once(';') {
            None => (text, None),
            Some((server, client)) => (server, Some(client.trim())),
        };
        let mut addrs = Vec::new();
        let mut role = PeerType::Participant;
        for text in server.split('|') {
            let (host, rest) = split_host(text.trim())?;
            let parts: Vec<&str> = rest.split(':').map(str::trim).collect();
            let (quorum, election) = match parts[..] {
                [quorum, election] => (quorum, election),
                [quorum, election, text] => {
                    role =
                        PeerType::parse(text).ok_or_else(|| format!("{text:?} is neither participant nor observer"))?;
                    (quorum, election)
                }
                _ => return Err("not of the form host:quorumPort:electionPort[:role][;clientPort]".to_owned()),
            };
            addrs.push(PeerAddr {
                quorum: HostPort::new(host, port(quorum)?),
                election: HostPort::new(host, port(election)?),
            });
        }
        // As ZooKeeper prints and compares them.
        addrs.sort_by(|a, b| a.quorum.host.cmp(&b.quorum.host));
        let client = client.filter(|text| !text.is_empty()).map(parse_client).transpose()?;
        Ok(ServerAddr { addrs, role, client })
    }

    /// A server at one host.
    pub fn at(host: &str, quorum: u16, election: u16) -> ServerAddr {
        let addr = PeerAddr { quorum: HostPort::new(host, quorum), election: HostPort::new(host, election) };
        ServerAddr { addrs: vec![addr], role: PeerType::Participant, client: None }
    }

    /// Where learners reach it, the first of its hosts.
    pub fn quorum(&self) -> &HostPort {
        &self.addrs[0].quorum
    }

    /// Where election messages reach it, the first of its hosts.
    pub fn election(&self) -> &HostPort {
        &self.addrs[0].election
    }
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, PeerAddr { quorum, election }) in self.addrs.iter().enumerate() {
            write!(f, "{}{quorum}:{}", if index > 0 { "|" } else { "" }, election.port)?;
        }
        write!(f, ":{}", self.role)?;
        self.client.as_ref().map_or(Ok(()), |client| write!(f, ";{client}"))
    }
}

fn split_host(text: &str) -> Result<(&str, &str), String> {
    let split = match text.strip_prefix('[') {
        Some(inner) => inner.split_once("]:"),
        None => text.split_once(':'),
    };
    split.filter(|(host, _)| !host.is_empty()).ok_or_else(|| format!("{text:?} does not begin with host:port"))
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("{text:?} is not a port"))
}

fn parse_client(text: &str) -> Result<HostPort, String> {
    if text.contains(':') {
        return HostPort::parse(text).ok_or_else(|| format!("{text:?} is not a client address"));
    }
    Ok(HostPort::new("0.0.0.0", port(text)?))
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ConfigurationError {
    pub reason: String,
}

impl ConfigurationError {
    fn because(reason: impl Into<String>) -> ConfigurationError {
        ConfigurationError { reason: reason.into() }
    }

    fn in_two_groups(server: ServerId) -> ConfigurationError {
        ConfigurationError::because(format!("server {server} is in a group already"))
    }
}

/// The members of an ensemble at one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The zxid of the reconfiguration that made it; 0: as the servers' files say.
    pub version: i64,
    pub servers: BTreeMap<ServerId, ServerAddr>,
    /// The groups of voters of a hierarchical quorum; empty: majorities.
    pub groups: BTreeMap<i64, BTreeSet<ServerId>>,
    /// Only of servers for which it is not 1.
    pub weights: BTreeMap<ServerId, u64>,
}

impl Configuration {
    /// Reads the text of a configuration, with or without its `version` line.
    pub fn parse(text: &str) -> Result<Configuration, ConfigurationError> {
        let mut configuration = Configuration::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (key, value) = line
                .split_once('=')
                .ok_or_else(|| ConfigurationError::because(format!("{line:?} is not of the form key=value")))?;
            let taken = configuration.take(key.trim(), value.trim());
            taken.map_err(|error| ConfigurationError::because(format!("{line}: {error}")))?;
        }
        configuration.check()?;
        Ok(configuration)
    }

    /// What one line means; the error does not repeat it.
    pub fn take(&mut self, key: &str, value: &str) -> Result<(), ConfigurationError> {
        let wrong = |reason: &str| ConfigurationError::because(reason);
        let number = |text: &str| text.trim().parse::<i64>().map_err(|_| wrong("the id must be a number"));
        if let Some(id) = key.strip_prefix("server.") {
            let server = ServerAddr::parse(value).map_err(|reason| wrong(&reason))?;
            self.servers.insert(ServerId(number(id)?), server);
        } else if let Some(id) = key.strip_prefix("group.") {
            let group = self.groups.entry(number(id)?).or_default();
            for member in value.split(':') {
                let member = ServerId(number(member)?);
                if !group.insert(member) {
                    return Err(ConfigurationError::in_two_groups(member));
                }
            }
        } else if let Some(id) = key.strip_prefix("weight.") {
            let weight = value.parse().map_err(|_| wrong("a weight is a whole number from 0 on"))?;
            self.weights.insert(ServerId(number(id)?), weight);
        } else if key == "version" {
            self.version = i64::from_str_radix(value, 16).map_err(|_| wrong("the version is a hexadecimal number"))?;
        } else {
            return Err(wrong("only server, group, weight and version lines may be here"));
        }
        Ok(())
    }

    /// Whether the lines fit each other.
    pub fn check(&self) -> Result<(), ConfigurationError> {
        if !self.servers.is_empty() && self.voters().is_empty() {
            return Err(ConfigurationError::because("Observers w/o participants is an invalid configuration"));
        }
        // By one look at each: lists of any length come from the network.
        let mut grouped = BTreeSet::new();
        if let Some(twice) = self.groups.values().flatten().find(|member| !grouped.insert(**member)) {
            return Err(ConfigurationError::in_two_groups(*twice));
        }
        match self.voters().into_iter().find(|voter| !grouped.contains(voter)) {
            Some(voter) if !self.groups.is_empty() => {
                Err(ConfigurationError::because(format!("server {voter} votes and is in no group: add it to one")))
            }
            _ => Ok(()),
        }
    }

    /// Voters with these ids, at addresses that nobody has; for machines that only count.
    pub fn of_voters(ids: impl IntoIterator<Item = ServerId>) -> Configuration {
        let server = |id: ServerId| (id, ServerAddr::at("127.0.0.1", 20_000 + id.0 as u16, 30_000 + id.0 as u16));
        Configuration { servers: ids.into_iter().map(server).collect(), ..Configuration::default() }
    }

    fn with_role(&self, role: PeerType) -> BTreeSet<ServerId> {
        self.servers.iter().filter(|(_, server)| server.role == role).map(|(id, _)| *id).collect()
    }

    /// The members that vote.
    pub fn voters(&self) -> BTreeSet<ServerId> {
        self.with_role(PeerType::Participant)
    }

    pub fn observers(&self) -> BTreeSet<ServerId> {
        self.with_role(PeerType::Observer)
    }

    pub fn is_voter(&self, server: ServerId) -> bool {
        self.servers.get(&server).is_some_and(|server| server.role == PeerType::Participant)
    }

    /// Whether both name the same members with the same addresses, roles, groups and weights, at whatever version.
    pub fn is_same_as(&self, other: &Configuration) -> bool {
        let all = self.servers.keys();
        self.servers == other.servers
            && self.groups == other.groups
            && all.into_iter().all(|id| self.weight(*id) == other.weight(*id))
    }

    /// What the vote of `server` weighs within its group.
    pub fn weight(&self, server: ServerId) -> u64 {
        self.weights.get(&server).copied().unwrap_or(1)
    }
}

/// The text, without a line end at the end.
impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, server) in &self.servers {
            writeln!(f, "server.{id}={server}")?;
        }
        for (group, members) in &self.groups {
            let members: Vec<String> = members.iter().map(ServerId::to_string).collect();
            writeln!(f, "group.{group}={}", members.join(":"))?;
        }
        if !self.groups.is_empty() {
            for id in self.servers.keys() {
                writeln!(f, "weight.{id}={}", self.weight(*id))?;
            }
        }
        write!(f, "version={:x}", self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_lines_of_all_forms_are_read_and_printed() {
        let lines = [
            ("zk1:2888:3888", "zk1:2888:3888:participant"),
            ("zk1:2888:3888:observer;2181", "zk1:2888:3888:observer;0.0.0.0:2181"),
            ("[::1]:2888:3888:PARTICIPANT;[::1]:2181", "[::1]:2888:3888:participant;[::1]:2181"),
            ("10.0.0.1:2888:3888;localhost:0", "10.0.0.1:2888:3888:participant;localhost:0"),
            ("b:1:2|a:3:4:observer;5", "a:3:4|b:1:2:observer;0.0.0.0:5"),
        ];
        for (line, printed) in lines {
            let configuration = Configuration::parse(&format!("server.9=x:1:2\nserver.1={line}\nversion=10")).unwrap();
            let want = format!("server.1={printed}\nserver.9=x:1:2:participant\nversion=10");
            assert_eq!(configuration.to_string(), want);
            assert_eq!(Configuration::parse(&want), Ok(configuration));
        }
    }

    #[test]
    fn malformed_server_lines_are_refused_with_a_reason() {
        for (line, reason) in [
            ("zk1", "host:port"),
            ("zk1:2888", "not of the form"),
            ("zk1:2888:x", "not a port"),
            ("zk1:1:2:leader", "neither participant nor observer"),
            ("zk1:1:2;a:b", "not a client address"),
            ("a:1:2|b:1", "not of the form"),
        ] {
            let error = ServerAddr::parse(line).unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }

    #[test]
    fn groups_and_weights_are_read_and_printed() {
        let text = "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\ngroup.1=1:2\ngroup.2=3\nweight.3=0";
        let configuration = Configuration::parse(text).unwrap();
        assert_eq!((configuration.weight(ServerId(2)), configuration.weight(ServerId(3))), (1, 0));
        let printed = configuration.to_string();
        assert!(
            printed.ends_with("group.1=1:2\ngroup.2=3\nweight.1=1\nweight.2=1\nweight.3=0\nversion=0"),
            "{printed}"
        );
        assert_eq!(Configuration::parse(&printed).unwrap().to_string(), printed);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_a_reason() {
        for (text, reason) in [
            ("server.1=a:1:2:observer", "Observers w/o participants"),
            ("server.1=a:1:2\nserver.2=b:1:2\ngroup.1=1", "server 2 votes and is in no group"),
            ("server.1=a:1:2\ngroup.1=1\ngroup.2=1", "server 1 is in a group already"),
            ("server.1=a:1:2\ngroup.1=1:1", "server 1 is in a group already"),
            ("server.x=a:1:2", "must be a number"),
            ("server.1=a:1:2\nweight.1=-1", "a whole number"),
            ("server.1=a:1:2\nversion=xyz", "hexadecimal"),
            ("server.1=a:1:2\ntickTime=2000", "only server, group, weight and version"),
            ("server.1", "key=value"),
        ] {
            let error = Configuration::parse(text).unwrap_err();
            assert!(error.to_string().contains(reason), "{text}: {error}");
        }
    }
}
