//! The `server.N=` lines: who is in the ensemble, and where.
//!
//! `host:quorumPort:electionPort[:participant|:observer][;[clientHost:]clientPort]`, IPv6 hosts in brackets.
//!
//! ZooKeeper: `QuorumPeer.QuorumServer`.

use crate::records::ServerId;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// What a server is in the ensemble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerType {
    /// Votes in elections and counts in quorums.
    Participant,
    /// Gets the history, never votes.
    Observer,
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

    /// The first address of the host; asks the system's resolver (and waits) unless it is an IP literal.
    pub fn resolve(&self) -> io::Result<SocketAddr> {
        if let Some(addr) = self.literal() {
            return Ok(addr);
        }
        let found = (self.host.as_str(), self.port).to_socket_addrs()?.next();
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", self.host)))
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

/// One member of the ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddr {
    /// For learners, used while the server leads.
    pub quorum: HostPort,
    pub election: HostPort,
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
        if server.contains('|') {
            return Err("several addresses for one server (multiAddress) are not supported".to_owned());
        }
        let (host, rest) = split_host(server.trim())?;
        let parts: Vec<&str> = rest.split(':').map(str::trim).collect();
        let (quorum, election, role) = match parts[..] {
            [quorum, election] => (quorum, election, PeerType::Participant),
            [quorum, election, role] if role.eq_ignore_ascii_case("participant") => {
                (quorum, election, PeerType::Participant)
            }
            [quorum, election, role] if role.eq_ignore_ascii_case("observer") => (quorum, election, PeerType::Observer),
            [_, _, role] => return Err(format!("{role:?} is neither participant nor observer")),
            _ => return Err("not of the form host:quorumPort:electionPort[:role][;clientPort]".to_owned()),
        };
        Ok(ServerAddr {
            quorum: HostPort::new(host, port(quorum)?),
            election: HostPort::new(host, port(election)?),
            role,
            client: client.filter(|text| !text.is_empty()).map(parse_client).transpose()?,
        })
    }

    fn client_text(&self) -> String {
        self.client.as_ref().map_or_else(String::new, |client| format!(";{client}"))
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

/// The text of the configuration as servers send and store it: sorted server lines, then the version, without a line
/// end at the end.
pub fn config_text(servers: &BTreeMap<ServerId, ServerAddr>, version: i64) -> String {
    let mut text = String::new();
    for (id, server) in servers {
        let host = match server.quorum.host.contains(':') {
            true => format!("[{}]", server.quorum.host),
            false => server.quorum.host.clone(),
        };
        let role = match server.role {
            PeerType::Participant => "participant",
            PeerType::Observer => "observer",
        };
        let (quorum, election, client) = (server.quorum.port, server.election.port, server.client_text());
        text.push_str(&format!("server.{id}={host}:{quorum}:{election}:{role}{client}\n"));
    }
    text.push_str(&format!("version={version:x}"));
    text
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
        ];
        for (line, printed) in lines {
            let servers = BTreeMap::from([(ServerId(1), ServerAddr::parse(line).unwrap())]);
            assert_eq!(config_text(&servers, 0x10), format!("server.1={printed}\nversion=10"));
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
            ("a:1:2|b:1:2", "multiAddress"),
        ] {
            let error = ServerAddr::parse(line).unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}
