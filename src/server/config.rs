//! A server's configuration: which keys of `zoo.cfg` mean what here, and their defaults.
//!
//! ZooKeeper accepts any key, so an unknown one is never an error: it is kept in [`Config::unknown`] and warned about
//! once. A key whose silent loss would be dangerous (TLS between servers, hierarchical quorums) is refused.
//!
//! ZooKeeper: `QuorumPeerConfig`.

use super::properties::{self, Property};
use super::server_addr::{HostPort, PeerType, ServerAddr, config_text};
use crate::records::ServerId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Why a configuration cannot be used. Exit code 2.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is not there or not readable: check the path.
    #[error("cannot read {}: {source}", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// A value cannot be understood: correct the line.
    #[error("{at}: {key}={value}: {reason}")]
    Invalid { at: At, key: String, value: String, reason: String },
    /// A key that is needed is not there: add it.
    #[error("{at}: {key} is not set: {remedy}")]
    Missing { at: At, key: &'static str, remedy: &'static str },
    /// Keys contradict each other, or ask for what this server cannot do.
    #[error("{at}: {reason}")]
    Refused { at: At, reason: String },
}

/// Where in which file.
#[derive(Clone, Debug, Default)]
pub struct At {
    pub file: Option<PathBuf>,
    /// From 1.
    pub line: Option<usize>,
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}", file.display())?,
            None => f.write_str("configuration")?,
        }
        self.line.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

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
    /// `None`: standalone.
    pub my_id: Option<ServerId>,
    /// Snapshots, epochs and `myid`.
    pub data_dir: PathBuf,
    /// Transaction logs; `dataDir` unless set.
    pub data_log_dir: PathBuf,
    /// `clientPort` at `clientPortAddress`; port 0 is any; `None`: no clients.
    pub client_addr: Option<SocketAddr>,
    /// `clientPortListenBacklog`; -1: the system's.
    pub client_backlog: i32,
    pub tick_time_ms: u32,
    /// Ticks.
    pub init_limit: u32,
    /// Ticks.
    pub sync_limit: u32,
    /// `None`: 2 ticks.
    pub min_session_timeout_ms: Option<u32>,
    /// `None`: 20 ticks.
    pub max_session_timeout_ms: Option<u32>,
    /// For each client address; 0: no limit.
    pub max_client_cnxns: u32,
    /// In all; 0: no limit.
    pub max_cnxns: u32,
    /// `nio.sessionlessCnxnTimeout`: a connection without a connect request is closed after it.
    pub sessionless_timeout_ms: u32,
    /// `cnxTimeout`: of a connect to an election port.
    pub election_connect_timeout_ms: u32,
    /// `electionPortBindRetry`; 0: for ever.
    pub election_bind_retries: u32,
    /// `quorumListenOnAllIPs`.
    pub listen_on_all_ips: bool,
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
    /// All members, also this one; empty: standalone.
    pub servers: BTreeMap<ServerId, ServerAddr>,
    /// Version of the list of servers.
    pub servers_version: i64,
    pub four_letter_words: Whitelist,
    /// `DigestAuthenticationProvider.superDigest`: `user:base64(sha1(user:password))` of who passes every ACL.
    pub super_digest: Option<String>,
    /// Extra threads that serve client connections; 0: they live on the core's thread.
    pub workers: u32,
    /// Keys that are accepted and do nothing here; one warning each.
    pub unknown: Vec<(String, String)>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            my_id: None,
            data_dir: PathBuf::new(),
            data_log_dir: PathBuf::new(),
            client_addr: None,
            client_backlog: -1,
            tick_time_ms: 3000,
            init_limit: 0,
            sync_limit: 0,
            min_session_timeout_ms: None,
            max_session_timeout_ms: None,
            max_client_cnxns: 60,
            max_cnxns: 0,
            sessionless_timeout_ms: 10_000,
            election_connect_timeout_ms: 5000,
            election_bind_retries: 3,
            listen_on_all_ips: false,
            snap_count: 100_000,
            pre_alloc_kib: 65_536,
            retain_snapshots: 3,
            force_sync: true,
            trust_empty: false,
            auto_create: true,
            fsync_warning_ms: 1000,
            servers: BTreeMap::new(),
            servers_version: 0,
            four_letter_words: Whitelist::default(),
            super_digest: None,
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
        Reading { file: Some(path.to_owned()), ..Reading::default() }.run(&text, jvm_flags)
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
        self.min_session_timeout_ms.unwrap_or(self.tick_time_ms.saturating_mul(2))
    }

    pub fn max_session_timeout_ms(&self) -> u32 {
        self.max_session_timeout_ms.unwrap_or(self.tick_time_ms.saturating_mul(20))
    }

    /// The members that vote.
    pub fn voters(&self) -> BTreeSet<ServerId> {
        let voters = self.servers.iter().filter(|(_, server)| server.role == PeerType::Participant);
        voters.map(|(&id, _)| id).collect()
    }

    /// The text of the configuration, as in `/zookeeper/config`; empty if standalone.
    pub fn config_text(&self) -> String {
        if self.my_id.is_none() { String::new() } else { config_text(&self.servers, self.servers_version) }
    }

    /// This server's line.
    pub fn me(&self) -> Option<&ServerAddr> {
        self.servers.get(&self.my_id?)
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
        let Some(id) = self.my_id else {
            return Ok(());
        };
        if !self.servers.contains_key(&id) {
            return refuse(format!("My id {id} not in the peer list: add server.{id}=... or correct myid"));
        }
        if self.voters().is_empty() {
            return refuse("no server votes: at least one must be a participant".to_owned());
        }
        if self.me().is_some_and(|me| me.role == PeerType::Observer) {
            return refuse(format!("server.{id} is an observer, which is not supported yet: make it a participant"));
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

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// Keys that are fine as they are: they say what is so here anyway, or have no counterpart anybody would miss.
const SILENT: &[&str] =
    &["serverCnxnFactory", "metricsProvider.exportJvmInfo", "localSessionsUpgradingEnabled", "standaloneEnabled"];

/// The state of reading a configuration.
#[derive(Default)]
struct Reading {
    file: Option<PathBuf>,
    config: Config,
    client_port: Option<u16>,
    client_address: Option<String>,
    standalone_disabled: bool,
    read_only_mode: bool,
    dynamic_file: Option<PathBuf>,
    whitelist: Option<String>,
    purge_off: bool,
}

impl Reading {
    fn run(mut self, text: &str, jvm_flags: &str) -> Result<Config, ConfigError> {
        let mut last: BTreeMap<String, Property> = BTreeMap::new();
        for property in flags(jvm_flags).into_iter().chain(properties::parse(text)) {
            // Apache makes `zookeeper.zookeeper.x` of it; what was meant is plain.
            let key = property.key.strip_prefix("zookeeper.").unwrap_or(&property.key).to_owned();
            last.insert(key, property);
        }
        for (key, property) in &last {
            self.take(key, property)?;
        }
        if let Some(path) = self.dynamic_file.take() {
            self.read_dynamic(&path)?;
        }
        self.finish()
    }

    fn at(&self, line: usize) -> At {
        At { file: self.file.clone(), line: (line > 0).then_some(line) }
    }

    fn refuse<T>(&self, reason: impl Into<String>) -> Result<T, ConfigError> {
        Err(ConfigError::Refused { at: self.at(0), reason: reason.into() })
    }

    /// What one key means.
    fn take(&mut self, key: &str, property: &Property) -> Result<(), ConfigError> {
        let value = property.value.as_str();
        let at = self.at(property.line);
        let invalid = |reason: &str| ConfigError::Invalid {
            at: at.clone(),
            key: key.to_owned(),
            value: value.to_owned(),
            reason: reason.to_owned(),
        };
        let number = || value.parse::<u32>().map_err(|_| invalid("a number that is not negative is needed"));
        let signed = || value.parse::<i64>().map_err(|_| invalid("a number is needed"));
        // -1 is "the default".
        let timeout = || Ok::<_, ConfigError>(u32::try_from(signed()?).ok());
        let boolean = || match value.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(invalid("true or false is needed")),
        };
        let config = &mut self.config;
        match key {
            "dataDir" => config.data_dir = PathBuf::from(value),
            "dataLogDir" => config.data_log_dir = PathBuf::from(value),
            "clientPort" => self.client_port = Some(value.parse().map_err(|_| invalid("a port is needed"))?),
            "clientPortAddress" => self.client_address = Some(value.to_owned()),
            "clientPortListenBacklog" => config.client_backlog = signed()?.clamp(-1, 65_535) as i32,
            "tickTime" => config.tick_time_ms = number()?,
            "initLimit" => config.init_limit = number()?,
            "syncLimit" => config.sync_limit = number()?,
            "minSessionTimeout" => config.min_session_timeout_ms = timeout()?,
            "maxSessionTimeout" => config.max_session_timeout_ms = timeout()?,
            "maxClientCnxns" => config.max_client_cnxns = number()?,
            "maxCnxns" => config.max_cnxns = number()?,
            "nio.sessionlessCnxnTimeout" => config.sessionless_timeout_ms = number()?,
            "cnxTimeout" => config.election_connect_timeout_ms = number()?,
            "electionPortBindRetry" => config.election_bind_retries = number()?,
            "quorumListenOnAllIPs" => config.listen_on_all_ips = boolean()?,
            // Apache's minimum.
            "snapCount" => config.snap_count = number()?.max(2),
            "preAllocSize" => config.pre_alloc_kib = number()?,
            "autopurge.snapRetainCount" => config.retain_snapshots = number()?.max(3),
            "autopurge.purgeInterval" => self.purge_off = value == "0",
            "forceSync" => config.force_sync = value != "no",
            "snapshot.trust.empty" => config.trust_empty = boolean()?,
            "datadir.autocreate" => config.auto_create = boolean()?,
            "fsync.warningthresholdms" => config.fsync_warning_ms = number()?,
            "DigestAuthenticationProvider.superDigest" => config.super_digest = Some(value.to_owned()),
            "4lw.commands.whitelist" => self.whitelist = Some(value.to_owned()),
            "readonlymode.enabled" => self.read_only_mode = boolean()?,
            "standaloneEnabled" => self.standalone_disabled = !boolean()?,
            "dynamicConfigFile" => self.dynamic_file = Some(PathBuf::from(value)),
            "workers" => config.workers = number()?.min(64),
            "peerType" if !value.eq_ignore_ascii_case("participant") => {
                return Err(invalid("observers are not supported yet; only participant"));
            }
            "peerType" => {}
            "electionAlg" if value != "3" => return Err(invalid("only 3 (fast leader election) is supported")),
            "electionAlg" => {}
            "sslQuorum" | "quorum.auth.enableSasl" if boolean()? => {
                return Err(invalid("not supported yet; without it the servers would talk in the clear"));
            }
            "sslQuorum" | "quorum.auth.enableSasl" | "admin.enableServer" if value.eq_ignore_ascii_case("false") => {}
            _ if key.starts_with("server.") => {
                let id = key["server.".len()..].parse().map_err(|_| invalid("server.<id>: the id must be a number"))?;
                let server = ServerAddr::parse(value).map_err(|reason| invalid(&reason))?;
                config.servers.insert(ServerId(id), server);
            }
            _ if key.starts_with("group.") || key.starts_with("weight.") => {
                return Err(invalid("hierarchical quorums are not supported yet; majorities would count differently"));
            }
            _ if SILENT.contains(&key) => {}
            _ => config.unknown.push((key.to_owned(), value.to_owned())),
        }
        Ok(())
    }

    /// The file of `dynamicConfigFile`: only the ensemble's lines. Its version is the suffix of its name.
    fn read_dynamic(&mut self, path: &Path) -> Result<(), ConfigError> {
        if !self.config.servers.is_empty() {
            return self.refuse("server lines are in this file and in that of dynamicConfigFile: keep one of them");
        }
        let text = read(path)?;
        let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
        self.config.servers_version = i64::from_str_radix(suffix, 16).unwrap_or(0);
        let main = self.file.replace(path.to_owned());
        for property in properties::parse(&text) {
            if !["server.", "group.", "weight."].iter().any(|prefix| property.key.starts_with(prefix)) {
                let (key, value) = (property.key, property.value);
                let reason = "only server, group and weight lines may be in a dynamic file".to_owned();
                return Err(ConfigError::Invalid { at: self.at(property.line), key, value, reason });
            }
            self.take(&property.key.clone(), &property)?;
        }
        self.file = main;
        Ok(())
    }

    fn finish(mut self) -> Result<Config, ConfigError> {
        if self.config.data_log_dir.as_os_str().is_empty() {
            self.config.data_log_dir = self.config.data_dir.clone();
        }
        if self.purge_off {
            self.config.retain_snapshots = 0;
        }
        let mut words = Whitelist::parse(self.whitelist.as_deref().unwrap_or("srvr"));
        if let (true, Whitelist::Only(set)) = (self.read_only_mode, &mut words) {
            set.insert("isro".to_owned());
        }
        self.config.four_letter_words = words;

        match self.config.voters().len() {
            0 if !self.config.servers.is_empty() => return self.refuse("observers without participants"),
            1 if !self.standalone_disabled && self.config.servers.len() > 1 => {
                return self.refuse("observers with one participant: set standaloneEnabled=false, or add voters");
            }
            // One server on its own: its line is ignored, as Apache does.
            1 if !self.standalone_disabled => {
                self.client_from_line(0)?;
                self.config.servers.clear();
            }
            0 => {}
            _ => {
                let id = self.read_my_id()?;
                self.config.my_id = Some(id);
                self.client_from_line(id.0)?;
            }
        }
        self.config.client_addr = self.client_addr()?;
        self.config.check(self.at(0))?;
        Ok(self.config)
    }

    /// The client part of this server's own line, if `clientPort` is not set. With `id` 0: of the only line.
    fn client_from_line(&mut self, id: i64) -> Result<(), ConfigError> {
        let line = match id {
            0 => self.config.servers.values().next(),
            id => self.config.servers.get(&ServerId(id)),
        };
        let Some(HostPort { host, port }) = line.and_then(|server| server.client.clone()) else {
            return Ok(());
        };
        if self.client_port.is_some_and(|set| set != port) {
            return self.refuse(format!("clientPort differs from the client port {port} of this server's own line"));
        }
        self.client_port = Some(port);
        self.client_address.get_or_insert(host);
        Ok(())
    }

    fn client_addr(&self) -> Result<Option<SocketAddr>, ConfigError> {
        match (self.client_port, &self.client_address) {
            (None, None) => Ok(None),
            (None, Some(_)) => self.refuse("clientPortAddress is set, but clientPort is not: set both"),
            (Some(port), None) => Ok(Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))),
            (Some(port), Some(host)) => match HostPort::new(host.trim_matches(['[', ']']), port).resolve() {
                Ok(addr) => Ok(Some(addr)),
                Err(error) => self.refuse(format!("clientPortAddress {host} cannot be resolved: {error}")),
            },
        }
    }

    /// `<dataDir>/myid`: the id as decimal text in the first line.
    fn read_my_id(&self) -> Result<ServerId, ConfigError> {
        let path = self.config.data_dir.join("myid");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                let path = path.display();
                return self.refuse(format!(
                    "{path} file is missing ({error}): write the N of this server's server.N line into it"
                ));
            }
        };
        let first = text.lines().next().unwrap_or_default().trim();
        match first.parse() {
            Ok(id) => Ok(ServerId(id)),
            Err(_) => self.refuse(format!("serverid {first:?} in {} is not a number", path.display())),
        }
    }
}

/// `-Dname=value` words as properties without a line.
fn flags(words: &str) -> Vec<Property> {
    let definitions = words.split_whitespace().filter_map(|word| word.strip_prefix("-D")?.split_once('='));
    let known = definitions.filter(|(name, _)| {
        name.starts_with("zookeeper.") || ["readonlymode.enabled", "fsync.warningthresholdms"].contains(name)
    });
    known.map(|(name, value)| Property { key: name.to_owned(), value: value.to_owned(), line: 0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Config::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_standalone_file_gets_apaches_defaults() {
        let config = Config::parse("tickTime=2000\ndataDir=/data\nclientPort=2181\n").unwrap();
        assert_eq!((config.my_id, config.client_addr), (None, Some("0.0.0.0:2181".parse().unwrap())));
        assert_eq!((config.min_session_timeout_ms(), config.max_session_timeout_ms()), (4000, 40_000));
        assert_eq!((config.snap_count, config.pre_alloc_kib, config.max_client_cnxns), (100_000, 65_536, 60));
        assert_eq!((config.data_log_dir.as_path(), config.retain_snapshots), (Path::new("/data"), 3));
        assert!(config.four_letter_words.allows("srvr") && !config.four_letter_words.allows("ruok"));
    }

    #[test]
    fn the_superuser_is_known_by_a_digest_that_may_hold_equals_signs() {
        let text = "dataDir=/data\nDigestAuthenticationProvider.superDigest=super:lK75jTNcA+U9vtVEw5vB51mj/w4=\n";
        let config = Config::parse(text).unwrap();
        assert_eq!(config.super_digest.as_deref(), Some("super:lK75jTNcA+U9vtVEw5vB51mj/w4="));
        assert_eq!(config.unknown, []);
    }

    #[test]
    fn an_ensemble_takes_its_id_from_myid_and_its_client_port_from_its_line() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("myid"), "2\n").unwrap();
        let text = format!(
            "dataDir={}\ninitLimit=10\nsyncLimit=5\nserver.1=a:1:2\nserver.2=127.0.0.1:3:4:participant;127.0.0.1:0\n\
             server.3=c:5:6:observer\nzookeeper.extra=1\n4lw.commands.whitelist=mntr, ruok\n",
            dir.path().display()
        );
        let config = Config::parse(&text).unwrap();
        assert_eq!((config.my_id, config.client_addr), (Some(ServerId(2)), Some("127.0.0.1:0".parse().unwrap())));
        assert_eq!(config.voters(), BTreeSet::from([ServerId(1), ServerId(2)]));
        assert_eq!(config.unknown, [("extra".to_owned(), "1".to_owned())]);
        assert!(["mntr", "ruok", "srvr"].iter().all(|word| config.four_letter_words.allows(word)));
        assert!(config.config_text().ends_with("server.3=c:5:6:observer\nversion=0"));
        let without_limit = text.replace("syncLimit=5\n", "");
        assert!(error(&without_limit).contains("syncLimit is not set"));
        std::fs::write(dir.path().join("myid"), "9").unwrap();
        assert!(error(&text).contains("My id 9 not in the peer list"));
        std::fs::remove_file(dir.path().join("myid")).unwrap();
        assert!(error(&text).contains("myid file is missing"));
    }

    #[test]
    fn one_server_line_is_a_standalone_server() {
        let config = Config::parse("dataDir=/data\nserver.1=a:1:2:participant;127.0.0.1:2181\n").unwrap();
        assert_eq!((config.my_id, config.client_addr), (None, Some("127.0.0.1:2181".parse().unwrap())));
        assert!(config.servers.is_empty());
    }

    #[test]
    fn errors_name_the_line_and_what_to_do() {
        assert!(error("clientPort=1\n").contains("dataDir is not set"));
        assert_eq!(
            error("dataDir=/d\n\ntickTime=2s\n"),
            "configuration:3: tickTime=2s: a number that is not negative is needed"
        );
        assert!(error("dataDir=/d\nclientPortAddress=127.0.0.1\n").contains("clientPort is not"));
        assert!(error("dataDir=/d\nminSessionTimeout=9\nmaxSessionTimeout=8\n").contains("minSessionTimeout"));
        assert!(error("dataDir=/d\nsslQuorum=true\n").contains("in the clear"));
        assert!(error("dataDir=/d\npeerType=observer\n").contains("not supported yet"));
        assert!(error("dataDir=/d\nquorumListenOnAllIPs=maybe\n").contains("true or false"));
        assert!(error("dataDir=/d\nserver.1=a:1:2\nserver.2=b:1:2\ngroup.1=1:2\n").contains("hierarchical"));
        let missing = Config::from_file(Path::new("/nonexistent/zoo.cfg")).unwrap_err();
        assert!(missing.to_string().starts_with("cannot read /nonexistent/zoo.cfg"));
    }

    #[test]
    fn jvm_flags_count_unless_the_file_has_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("zoo.cfg");
        std::fs::write(&file, "dataDir=/d\nsnapCount=7\n").unwrap();
        let flags = "-Xmx1g -Dzookeeper.snapCount=9 -Dzookeeper.preAllocSize=64 -Dreadonlymode.enabled=true -Dother=1";
        let config = Config::from_file_with_flags(&file, flags).unwrap();
        assert_eq!((config.snap_count, config.pre_alloc_kib), (7, 64));
        assert!(config.four_letter_words.allows("isro") && config.unknown.is_empty());
    }

    #[test]
    fn a_dynamic_file_brings_the_servers_and_their_version() {
        let dir = tempfile::tempdir().unwrap();
        let dynamic = dir.path().join("zoo.cfg.dynamic.1f");
        std::fs::write(&dynamic, "server.1=a:1:2:participant;127.0.0.1:2181\nserver.2=b:1:2:participant;2181\n")
            .unwrap();
        std::fs::write(dir.path().join("myid"), "1").unwrap();
        let base = format!("dataDir={}\ninitLimit=5\nsyncLimit=2\n", dir.path().display());
        let text = format!("{base}dynamicConfigFile={}\n", dynamic.display());
        let config = Config::parse(&text).unwrap();
        assert_eq!((config.servers.len(), config.servers_version), (2, 0x1f));
        assert!(error(&format!("{text}server.3=c:1:2\n")).contains("keep one of them"));
        std::fs::write(&dynamic, "tickTime=1\n").unwrap();
        assert!(error(&text).contains("zoo.cfg.dynamic.1f:1: tickTime=1: only server"));
    }
}
