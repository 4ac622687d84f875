//! From the text of a `zoo.cfg` to a [`Config`]: which key belongs to which area, the dynamic file, the client's address.
//!
//! ZooKeeper: `QuorumPeerConfig.parseProperties`.

use super::super::listen::resolve;
use super::super::properties::{self, Property};
use super::value::Value;
use super::{At, Config, ConfigError, Whitelist};
use crate::records::{Configuration, HostPort, PeerType, ServerId};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// Keys that are fine as they are: they say what is so here anyway, or have no counterpart anybody would miss.
const SILENT: &[&str] = &["serverCnxnFactory", "metricsProvider.exportJvmInfo", "standaloneEnabled"];

/// Java's system properties that have no `zookeeper.` before their names.
const BARE_PROPERTIES: &[&str] = &[
    "fsync.warningthresholdms",
    "java.security.auth.login.config",
    "jute.maxbuffer",
    "readonlymode.enabled",
    "znode.container.checkIntervalMs",
    "znode.container.maxNeverUsedIntervalMs",
    "znode.container.maxPerMinute",
];

/// The state of reading a configuration.
#[derive(Default)]
pub(super) struct Reading {
    file: Option<PathBuf>,
    config: Config,
    client_port: Option<u16>,
    client_address: Option<String>,

    dynamic_file: Option<PathBuf>,
    whitelist: Option<String>,
    purge_off: bool,
}

impl Reading {
    /// Errors name this file.
    pub fn of_file(path: &Path) -> Reading {
        Reading { file: Some(path.to_owned()), ..Reading::default() }
    }

    /// The configuration that `text` and the words of `jvm_flags` make.
    pub fn run(mut self, text: &str, jvm_flags: &str) -> Result<Config, ConfigError> {
        let mut last: BTreeMap<String, Property> = BTreeMap::new();
        for property in flags(jvm_flags).into_iter().chain(properties::parse(text)) {
            // Apache makes `zookeeper.zookeeper.x` of it; what was meant is plain.
            let key = property.key.strip_prefix("zookeeper.").unwrap_or(&property.key).to_owned();
            last.insert(key, property);
        }
        for (key, property) in &last {
            self.take(key, property)?;
        }
        self.config.file = self.file.clone();
        if let Some(path) = self.dynamic_file.take() {
            self.config.names_dynamic_file = true;
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
        let value = Value { key, text: &property.value, at: self.at(property.line) };
        let config = &mut self.config;
        if config.auth.take(&value)?
            || config.files.take(&value)?
            || config.limits.take(&value)?
            || config.nodes.take(&value)?
            || config.quorum.take(&value)?
            || config.tls.take(&value)?
            || config.sessions.take(&value)?
        {
            return Ok(());
        }
        let text = value.text;
        match key {
            "dataDir" => config.data_dir = PathBuf::from(text),
            "dataLogDir" => config.data_log_dir = PathBuf::from(text),
            "clientPort" => self.client_port = Some(value.port()?),
            "clientPortAddress" => self.client_address = Some(text.to_owned()),
            "tickTime" => config.tick_time_ms = value.number()?,
            "initLimit" => config.init_limit = value.number()?,
            "syncLimit" => config.sync_limit = value.number()?,
            // Apache's minimum.
            "snapCount" => config.snap_count = value.number()?.max(2),
            "preAllocSize" => config.pre_alloc_kib = value.number()?,
            "autopurge.snapRetainCount" => config.retain_snapshots = value.number()?.max(3),
            "autopurge.purgeInterval" => self.purge_off = text == "0",
            "forceSync" => config.force_sync = text != "no",
            "snapshot.trust.empty" => config.trust_empty = value.boolean()?,
            "datadir.autocreate" => config.auto_create = value.boolean()?,
            "fsync.warningthresholdms" => config.fsync_warning_ms = value.number()?,
            "4lw.commands.whitelist" => self.whitelist = Some(text.to_owned()),
            "standaloneEnabled" => config.standalone_enabled = value.boolean()?,
            "dynamicConfigFile" => self.dynamic_file = Some(PathBuf::from(text)),
            "workers" => config.workers = value.number()?.min(64),
            "peerType" => {
                let unrecognised = || value.invalid("Unrecognised peertype: it is participant or observer");
                config.peer_type = Some(PeerType::parse(text).ok_or_else(unrecognised)?);
            }
            "electionAlg" if text != "3" => return Err(value.invalid("only 3 (fast leader election) is supported")),
            "electionAlg" => {}
            "admin.enableServer" if text.eq_ignore_ascii_case("false") => {}
            _ if is_of_ensemble(key) => {
                config.ensemble.take(key, text).map_err(|error| value.invalid(&error.to_string()))?;
            }
            _ if SILENT.contains(&key) => {}
            _ => config.unknown.push((key.to_owned(), text.to_owned())),
        }
        Ok(())
    }

    /// The file of `dynamicConfigFile`: only the ensemble's lines. Its version is the suffix of its name.
    fn read_dynamic(&mut self, path: &Path) -> Result<(), ConfigError> {
        if self.config.ensemble != Configuration::default() {
            return self.refuse("server lines are in this file and in that of dynamicConfigFile: keep one of them");
        }
        let text = read(path)?;
        let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
        self.config.ensemble.version = i64::from_str_radix(suffix, 16).unwrap_or(0);
        let main = self.file.replace(path.to_owned());
        for property in properties::parse(&text) {
            if !is_of_ensemble(&property.key) {
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
        if let (true, Whitelist::Only(set)) = (self.config.sessions.read_only_mode, &mut words) {
            set.insert("isro".to_owned());
        }
        self.config.four_letter_words = words;

        if let Err(error) = self.config.ensemble.check() {
            return self.refuse(error.to_string());
        }
        match self.config.ensemble.voters().len() {
            1 if self.config.standalone_enabled && self.config.ensemble.servers.len() > 1 => {
                return self.refuse("observers with one participant: set standaloneEnabled=false, or add voters");
            }
            // One server on its own: its line is ignored, as Apache does.
            1 if self.config.standalone_enabled => {
                self.client_from_line(0)?;
                self.config.ensemble = Configuration::default();
            }
            0 => {}
            _ => {
                let id = self.read_my_id()?;
                self.config.my_id = Some(id);
                self.client_from_line(id.0)?;
            }
        }
        self.config.client_addr = self.addr("clientPort", self.client_port, self.client_address.as_deref())?;
        let (port, address) = (self.config.tls.secure_port, self.config.tls.secure_address.take());
        self.config.tls.secure_client_addr = self.addr("secureClientPort", port, address.as_deref())?;
        if let Some(name) = self.config.tls.unknown_provider() {
            return self.refuse(format!(
                "No auth provider configured for the SSL authentication scheme '{name}': ssl.authProvider can be x509"
            ));
        }
        if self.config.tls.is_used() {
            self.config.auth.providers.insert("x509");
        }
        self.config.check(self.at(0))?;
        Ok(self.config)
    }

    /// The client part of this server's own line, if `clientPort` is not set. With `id` 0: of the only line.
    fn client_from_line(&mut self, id: i64) -> Result<(), ConfigError> {
        let line = match id {
            0 => self.config.ensemble.servers.values().next(),
            id => self.config.ensemble.servers.get(&ServerId(id)),
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

    /// Where to listen by `key` and `keyAddress`; `None`: nowhere.
    fn addr(&self, key: &str, port: Option<u16>, host: Option<&str>) -> Result<Option<SocketAddr>, ConfigError> {
        match (port, host) {
            (None, None) => Ok(None),
            (None, Some(_)) => self.refuse(format!("{key}Address is set, but {key} is not: set both")),
            (Some(port), None) => Ok(Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))),
            (Some(port), Some(host)) => match resolve(&HostPort::new(host.trim_matches(['[', ']']), port)) {
                Ok(addr) => Ok(Some(addr)),
                Err(error) => self.refuse(format!("{key}Address {host} cannot be resolved: {error}")),
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

/// Whether a line says who is in the ensemble.
fn is_of_ensemble(key: &str) -> bool {
    ["server.", "group.", "weight."].iter().any(|prefix| key.starts_with(prefix))
}

/// `-Dname=value` words as properties without a line.
fn flags(words: &str) -> Vec<Property> {
    let definitions = words.split_whitespace().filter_map(|word| word.strip_prefix("-D")?.split_once('='));
    let known = definitions.filter(|(name, _)| name.starts_with("zookeeper.") || BARE_PROPERTIES.contains(name));
    known.map(|(name, value)| Property { key: name.to_owned(), value: value.to_owned(), line: 0 }).collect()
}
