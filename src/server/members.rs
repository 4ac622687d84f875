//! The members of an [`Ensemble`](super::Ensemble): who they are at its start, and what each keeps from one life of its
//! server to the next: ports, a disk that can be hurt, and the list that a server is started with.
//!
//! Ports are new with each ensemble, the data need not be. So a directory says who is a member, by the list that the last
//! ensemble in it has left if that one grew or shrank, and never where. What is easy to get wrong: the list with the new
//! ports must be newer than what is kept there, or the servers would go by that.

use super::disk_faults::DiskFaults;
use super::dynamic::ConfigFiles;
use super::listen::{Listeners, Reserved};
use super::{Server, StartError};
use crate::records::{Configuration, HostPort, PeerType, ServerAddr, ServerId};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The version of an ensemble's first list: what the first leader would give it, for which all servers would write it to
/// a file at each start. A list without a version is an older one, as whoever joins must have it.
const FIRST_VERSION: i64 = 0x1_0000_0000;

/// One member.
#[derive(Clone)]
pub struct Member {
    pub ports: Arc<MemberPorts>,
    pub disk: Arc<DiskFaults>,
    pub role: PeerType,
    /// The ensemble's list names it; else it is about to join.
    pub is_listed: bool,
    /// What its server is started with. The newest list in its directory counts more.
    pub list: Arc<Configuration>,
    /// `None`: it was not started yet.
    pub server: Option<Arc<Server>>,
}

impl Member {
    pub fn line(&self) -> ServerAddr {
        self.ports.line(self.role)
    }
}

/// The ports of one member, reserved for its life.
pub struct MemberPorts {
    pub client: Reserved,
    quorum: Reserved,
    election: Reserved,
}

impl MemberPorts {
    pub fn reserve() -> Result<MemberPorts, StartError> {
        let reserve = |what: &'static str| {
            Reserved::new().map_err(|source| StartError::Bind { what, addr: "127.0.0.1:0".to_owned(), source })
        };
        Ok(MemberPorts { client: reserve("client")?, quorum: reserve("quorum")?, election: reserve("election")? })
    }

    pub fn listen(&self) -> Result<Listeners, StartError> {
        let listen = |what: &'static str, reserved: &Reserved| {
            let addr = || format!("127.0.0.1:{}", reserved.port());
            reserved.listen().map(Some).map_err(|source| StartError::Bind { what, addr: addr(), source })
        };
        Ok(Listeners {
            client: listen("client", &self.client)?,
            election: listen("election", &self.election)?,
            quorum: listen("quorum", &self.quorum)?,
        })
    }

    fn line(&self, role: PeerType) -> ServerAddr {
        let client = Some(HostPort::new("127.0.0.1", self.client.port()));
        ServerAddr { client, role, ..ServerAddr::at("127.0.0.1", self.quorum.port(), self.election.port()) }
    }
}

/// Who is a member at the start of an ensemble.
pub struct First {
    pub roles: BTreeMap<ServerId, PeerType>,
    /// Of the list with their ports.
    pub version: i64,
    /// What the next one gets: no server has had it, and no folder is named so.
    pub next_id: i64,
}

impl First {
    /// Those that `dir` was left with; else `voters` servers that vote, and then `observers` that do not.
    pub fn in_directory(dir: &Path, voters: usize, observers: usize) -> First {
        let names = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let ids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok().filter(|id| *id > 0));
        let ids: Vec<i64> = ids.collect();
        let files = || ids.iter().map(|id| ConfigFiles::in_directory(ServerId(*id), &dir.join(id.to_string())));
        let kept = files().filter_map(|files| files.newest()).max_by_key(|list| list.version);
        let proposed =
            files().filter_map(|files| files.proposed(&Configuration::default())).map(|list| list.version).max();
        let versions = kept.iter().map(|list| list.version).chain(proposed);
        let version = versions.max().unwrap_or(0).max(FIRST_VERSION);

        let count = (voters + observers) as i64;
        let role = |id: i64| if id <= voters as i64 { PeerType::Participant } else { PeerType::Observer };
        let roles: BTreeMap<ServerId, PeerType> = match kept {
            Some(list) => list.servers.into_iter().map(|(id, server)| (id, server.role)).collect(),
            None => (1..=count).map(|id| (ServerId(id), role(id))).collect(),
        };
        let newest = roles.keys().map(|id| id.0).chain(ids).max().unwrap_or(0);
        First { roles, version, next_id: newest + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_ensemble_is_as_its_directory_was_left_and_its_list_newer() {
        let dir = tempfile::tempdir().unwrap();
        let first = First::in_directory(dir.path(), 2, 1);
        let roles: Vec<_> = first.roles.into_iter().map(|(id, role)| (id.0, role)).collect();
        assert_eq!(roles, [(1, PeerType::Participant), (2, PeerType::Participant), (3, PeerType::Observer)]);
        assert_eq!((first.version, first.next_id), (FIRST_VERSION, 4));

        let write = |id: i64, name: &str, text: &str| {
            let folder = dir.path().join(id.to_string());
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(name), text).unwrap();
        };
        write(2, "zoo.cfg.dynamic.300000001", "server.2=a:1:2:participant;3\nserver.4=b:1:2:observer;3");
        write(1, "zoo.cfg.dynamic.200000005", "server.1=a:1:2:participant;3");
        write(7, "zoo.cfg.dynamic.next", "server.7=a:1:2:participant;3\nversion=300000009");
        fs::create_dir(dir.path().join("version-2")).unwrap();
        let first = First::in_directory(dir.path(), 1, 0);
        let roles: Vec<_> = first.roles.into_iter().map(|(id, role)| (id.0, role)).collect();
        assert_eq!(roles, [(2, PeerType::Participant), (4, PeerType::Observer)]);
        assert_eq!((first.version, first.next_id), (0x3_0000_0009, 8));
    }
}
