//! A server's configuration: which keys of `zoo.cfg` mean what here, and their defaults.
//!
//! ZooKeeper accepts any key, so an unknown one is never an error: it is kept in [`Config::unknown`] and warned about
//! once. A key whose silent loss would be dangerous (TLS between servers, hierarchical quorums) is refused.
//!
//! ZooKeeper: `QuorumPeerConfig`.

mod auth;
mod error;
mod files;
mod limits;
mod nodes;
pub mod quorum;
mod reading;
mod sessions;
pub mod tls;
mod value;

pub use auth::{AuthConfig, Password, QuorumLogins};
pub use error::{At, ConfigError};
pub use files::FilesConfig;
pub use limits::{ConnectionThrottleConfig, LimitsConfig};
pub use nodes::NodesConfig;
pub use quorum::QuorumConfig;
pub use sessions::SessionsConfig;
pub use tls::TlsConfig;

use crate::records::{Configuration, PeerType, ServerAddr, ServerId};
use reading::{Reading, read};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Which four-letter words are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whitelist {
    All,
    Only(BTreeSet<String>),
}

impl Whitelist {
    /// The value of `4lw.commands.whitelist`; `srvr` is always in it.
    pub fn parse(text: &str) -> Whitelist {
        let words: BTreeSet<String> = text.split(',').map(|word| word.trim().to_owned()).collect();
        if words.contains("*") {
            return Whitelist::All;
        }
        Whitelist::Only(words.into_iter().chain(["srvr".to_owned()]).filter(|word| !word.is_empty()).collect())
    }

    pub fn allows(&self, word: &str) -> bool {
        match self {
            Whitelist::All => true,
            Whitelist::Only(words) => words.contains(word),
        }
    }
}

impl Default for Whitelist {
    fn default() -> Self {
        Whitelist::parse("srvr")
    }
}

/// One server's configuration, from a zoo.cfg or from keywords. Apache's key names and defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// The `zoo.cfg` that it was read from.
    pub file: Option<PathBuf>,
    /// That file names another one with the ensemble's list (`dynamicConfigFile`).
    pub names_dynamic_file: bool,
    /// `None`: standalone.
    pub my_id: Option<ServerId>,
    /// Snapshots, epochs and `myid`.
    pub data_dir: PathBuf,
    /// Transaction logs; `dataDir` unless set.
    pub data_log_dir: PathBuf,
    /// `clientPort` at `clientPortAddress`; port 0 is any; `None`: no clients.
    pub client_addr: Option<SocketAddr>,
    pub tick_time_ms: u32,
    /// Ticks.
    pub init_limit: u32,
    /// Ticks.
    pub sync_limit: u32,
    /// Transactions between snapshots.
    pub snap_count: u32,
    /// `preAllocSize`.
    pub pre_alloc_kib: u32,
    /// Snapshots that purge keeps; 0: purge is off (`autopurge.purgeInterval=0`).
    pub retain_snapshots: u32,
    /// `forceSync=no` gives up durability.
    pub force_sync: bool,
    /// `snapshot.trust.empty`.
    pub trust_empty: bool,
    /// `datadir.autocreate`.
    pub auto_create: bool,
    /// `fsync.warningthresholdms`.
    pub fsync_warning_ms: u32,
    /// All members, also this one, as the files say at the start; empty: standalone.
    pub ensemble: Configuration,
    /// `peerType`. This server's own line counts; one that says something else is warned about.
    pub peer_type: Option<PeerType>,
    /// `standaloneEnabled`: one server on its own is none of an ensemble, and a reconfiguration leaves at least two voters.
    pub standalone_enabled: bool,
    pub four_letter_words: Whitelist,
    pub auth: AuthConfig,
    pub files: FilesConfig,
    pub limits: LimitsConfig,
    pub nodes: NodesConfig,
    pub quorum: QuorumConfig,
    pub sessions: SessionsConfig,
    pub tls: TlsConfig,
    /// Extra threads that serve client connections; 0: they live on the core's thread.
    pub workers: u32,
    /// Keys that are accepted and do nothing here; one warning each.
    pub unknown: Vec<(String, String)>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            file: None,
            names_dynamic_file: false,
            my_id: None,
            data_dir: PathBuf::new(),
            data_log_dir: PathBuf::new(),
            client_addr: None,
            tick_time_ms: 3000,
            init_limit: 0,
            sync_limit: 0,
            snap_count: 100_000,
            pre_alloc_kib: 65_536,
            retain_snapshots: 3,
            force_sync: true,
            trust_empty: false,
            auto_create: true,
            fsync_warning_ms: 1000,
            ensemble: Configuration::default(),
            peer_type: None,
            standalone_enabled: true,
            four_letter_words: Whitelist::default(),
            auth: AuthConfig::default(),
            files: FilesConfig::default(),
            limits: LimitsConfig::default(),
            nodes: NodesConfig::default(),
            quorum: QuorumConfig::default(),
            sessions: SessionsConfig::default(),
            tls: TlsConfig::default(),
            workers: 0,
            unknown: Vec::new(),
        }
    }
}

impl Config {
    /// Reads a `zoo.cfg`, and the `myid` beside its data if it names an ensemble.
    pub fn from_file(path: &Path) -> Result<Config, ConfigError> {
        Config::from_file_with_flags(path, "")
    }

    /// As [`Config::from_file`]; `jvm_flags` holds words as of `SERVER_JVMFLAGS`, of which `-Dzookeeper.key=value` and
    /// the few properties without that prefix count, unless the file has the key.
    pub fn from_file_with_flags(path: &Path, jvm_flags: &str) -> Result<Config, ConfigError> {
        let text = read(path)?;
        Reading::of_file(path).run(&text, jvm_flags)
    }

    /// The text of a `zoo.cfg`.
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        Reading::default().run(text, "")
    }

    /// `<clientPort> <dataDir> [tickTime] [maxClientCnxns]`: standalone.
    pub fn standalone(client_port: u16, data_dir: PathBuf) -> Config {
        Config {
            client_addr: Some(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), client_port)),
            data_log_dir: data_dir.clone(),
            data_dir,
            ..Config::default()
        }
    }

    /// What `from_file` checks beyond the syntax; for configurations made by hand.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.check(At::default())
    }

    pub fn min_session_timeout_ms(&self) -> u32 {
        self.sessions.min_timeout_ms.unwrap_or(self.tick_time_ms.saturating_mul(2))
    }

    pub fn max_session_timeout_ms(&self) -> u32 {
        self.sessions.max_timeout_ms.unwrap_or(self.tick_time_ms.saturating_mul(20))
    }

    /// This server's line.
    pub fn me(&self) -> Option<&ServerAddr> {
        self.ensemble.servers.get(&self.my_id?)
    }

    /// What this server is under a leader: its own line says so, whatever `peerType` says.
    pub fn peer_type(&self) -> PeerType {
        self.me().map(|me| me.role).unwrap_or_default()
    }

    fn check(&self, at: At) -> Result<(), ConfigError> {
        let refuse = |reason: String| Err(ConfigError::Refused { at: at.clone(), reason });
        if self.data_dir.as_os_str().is_empty() {
            let remedy = "name the directory for snapshots and logs, as in dataDir=/var/lib/zookeeper";
            return Err(ConfigError::Missing { at, key: "dataDir", remedy });
        }
        if self.tick_time_ms == 0 {
            return refuse("tickTime must be at least 1 ms".to_owned());
        }
        let (min, max) = (self.min_session_timeout_ms(), self.max_session_timeout_ms());
        if min > max {
            return refuse(format!("minSessionTimeout must not be larger than maxSessionTimeout ({min} > {max} ms)"));
        }
        self.auth.check(&at)?;
        if let Some(reason) = self.quorum.sasl.contradiction() {
            return refuse(reason.to_owned());
        }
        let Some(id) = self.my_id else {
            return Ok(());
        };
        if self.nodes.extended_types == Some(true) && id.0 > nodes::EXTENDED_SERVER_ID_MAX {
            let max = nodes::EXTENDED_SERVER_ID_MAX;
            return refuse(format!(
                "extendedTypesEnabled is true but Server ID is too large. Cannot be larger than {max}"
            ));
        }
        if !self.ensemble.servers.contains_key(&id) {
            return refuse(format!("My id {id} not in the peer list: add server.{id}=... or correct myid"));
        }
        let several = self.ensemble.servers.iter().find(|(_, server)| server.addrs.len() > 1);
        if let (false, Some((id, _))) = (self.quorum.multi_address, several) {
            return refuse(format!(
                "server.{id} has several addresses: set multiAddress.enabled=true on all servers, or name one"
            ));
        }
        if self.ensemble.voters().is_empty() {
            return refuse("no server votes: at least one must be a participant".to_owned());
        }
        if let Err(error) = self.ensemble.check() {
            return refuse(error.to_string());
        }
        for (limit, key) in [(self.init_limit, "initLimit"), (self.sync_limit, "syncLimit")] {
            if limit == 0 {
                let remedy = "an ensemble needs it, in ticks (the sample has initLimit=10, syncLimit=5)";
                return Err(ConfigError::Missing { at, key, remedy });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
