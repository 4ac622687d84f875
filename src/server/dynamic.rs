//! The files with the ensemble's list: which configuration is committed, and which is proposed, across restarts.
//!
//! Beside a `zoo.cfg` lie `zoo.cfg.dynamic.<version>` (hexadecimal) with the lines of the committed configuration, named
//! by `dynamicConfigFile=` in the `zoo.cfg` that is rewritten for it, and `zoo.cfg.dynamic.next` with a proposed one.
//! A server that was started without a file keeps both in its data directory, and goes by the newest there.
//!
//! A configuration that cannot be written is no reason to end: it is in the log too, and the tree that is loaded from it
//! says what was proposed last ([`last_seen`]). All of this only with `reconfigEnabled`.
//!
//! ZooKeeper: `QuorumPeerConfig.writeDynamicConfig`, `editStaticConfig`, `backupOldConfig`.

use super::config::Config;
use super::properties;
use crate::peer::Database;
use crate::records::{Configuration, ServerId};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where the files of one server are.
#[derive(Clone, Debug)]
pub struct ConfigFiles {
    my_id: ServerId,
    /// The `zoo.cfg`, or where it would be.
    path: PathBuf,
    has_static_file: bool,
}

impl ConfigFiles {
    /// `None`: the list is what the configuration says, for ever.
    pub fn of(config: &Config) -> Option<ConfigFiles> {
        let my_id = config.my_id.filter(|_| config.nodes.reconfig)?;
        let path = config.file.clone().unwrap_or_else(|| config.data_dir.join("zoo.cfg"));
        Some(ConfigFiles { my_id, path, has_static_file: config.file.is_some() })
    }

    /// Those of a server that was started without a file.
    pub fn in_directory(my_id: ServerId, data_dir: &Path) -> ConfigFiles {
        ConfigFiles { my_id, path: data_dir.join("zoo.cfg"), has_static_file: false }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        name.into()
    }

    fn next(&self) -> PathBuf {
        self.beside(".dynamic.next")
    }

    /// The newest configuration that was kept without a `zoo.cfg`, if there is one.
    pub fn newest(&self) -> Option<Configuration> {
        if self.has_static_file {
            return None; // It names the one that counts.
        }
        let names =
            fs::read_dir(self.path.parent()?).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let version = |name: String| i64::from_str_radix(name.strip_prefix("zoo.cfg.dynamic.")?, 16).ok();
        let version = names.filter_map(version).max()?;
        let text = fs::read_to_string(self.beside(&format!(".dynamic.{version:x}"))).ok()?;
        Some(Configuration { version, ..Configuration::parse(&text).ok()? })
    }

    /// The configuration that was kept as proposed.
    pub fn proposed(&self) -> Option<Configuration> {
        Configuration::parse(&fs::read_to_string(self.next()).ok()?).ok()
    }

    /// The operator's own file, with its list and its comments, is kept once.
    pub fn back_up(&self, names_dynamic_file: bool) -> io::Result<()> {
        if !self.has_static_file || names_dynamic_file {
            return Ok(());
        }
        replace_like(&self.path, &self.beside(".bak"), &fs::read(&self.path)?)
    }

    /// Keeps `configuration` as the proposed one; `None`: there is none.
    pub fn save_proposed(&self, configuration: Option<&Configuration>) -> io::Result<()> {
        match configuration {
            Some(configuration) => replace(&self.next(), lines(configuration, true).as_bytes()),
            None => remove(&self.next()),
        }
    }

    /// Keeps `configuration` as the committed one.
    pub fn save(&self, configuration: &Configuration) -> io::Result<()> {
        let path = self.beside(&format!(".dynamic.{:x}", configuration.version));
        replace(&path, lines(configuration, false).as_bytes())?;
        if self.has_static_file {
            self.point_to(&path, configuration)?;
        }
        if self.proposed().is_some_and(|proposed| proposed.version > configuration.version) {
            return Ok(());
        }
        remove(&self.next())
    }

    /// Writes the static file again, without what the dynamic one says.
    fn point_to(&self, dynamic: &Path, configuration: &Configuration) -> io::Result<()> {
        let properties = properties::parse(&fs::read_to_string(&self.path)?);
        let last: BTreeMap<&str, usize> =
            properties.iter().map(|property| (property.key.as_str(), property.line)).collect();
        let says_client = configuration.servers.get(&self.my_id).is_some_and(|me| me.client.is_some());
        let is_dynamic = |key: &str| {
            let prefixes = ["server.", "group.", "weight.", "dynamicConfigFile", "peerType"];
            // Not `clientPortListenBacklog`, which Apache loses here: no line of the list says it.
            let is_client = matches!(key, "clientPort" | "clientPortAddress");
            prefixes.iter().any(|prefix| key.starts_with(prefix)) || says_client && is_client
        };
        let mut text = String::new();
        for property in &properties {
            if !is_dynamic(&property.key) && last.get(property.key.as_str()) == Some(&property.line) {
                text += &format!("{}={}\n", property.key, property.value.replace('\\', "\\\\"));
            }
        }
        let dynamic = dynamic.canonicalize()?;
        text += &format!("dynamicConfigFile={}\n", dynamic.display());
        replace(&self.path, text.as_bytes())
    }
}

/// The sorted lines of a configuration, without a line end at the end; its version as a line or not.
fn lines(configuration: &Configuration, with_version: bool) -> String {
    let text = configuration.to_string();
    let mut lines: Vec<&str> = text.lines().filter(|line| with_version || !line.starts_with("version=")).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Replaces a file by another, durably, and never by half of it; what it permits stays.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_like(path, path, bytes)
}

/// Replaces a file by one that permits what `model` permits, if there is one: a `zoo.cfg` holds passwords.
fn replace_like(model: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let permissions = match fs::metadata(model) {
        Ok(metadata) => Some(metadata.permissions()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    if permissions.is_some() {
        options.mode(0o600); // Nobody opens it before it permits what it is to permit.
    }
    let mut file = options.open(&temporary)?;
    if let Some(permissions) = permissions {
        file.set_permissions(permissions)?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_directory(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// What was proposed last and may not be committed: by its file, or by the tree, which is the log's. A file can be lost;
/// a record of the log that was acknowledged cannot.
pub fn last_seen(files: &ConfigFiles, committed: &Configuration, db: &Database) -> Option<Configuration> {
    let node = db.tree().get("/zookeeper/config").and_then(|node| node.data().map(<[u8]>::to_vec));
    let logged = node.and_then(|data| Configuration::parse(&String::from_utf8_lossy(&data)).ok());
    let newest = files.proposed().into_iter().chain(logged).max_by_key(|of| of.version)?;
    (newest.version > committed.version && !newest.voters().is_empty()).then_some(newest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::temporary::TemporaryDir;

    fn three(version: i64) -> Configuration {
        let text = "server.2=b:1:2:participant;b:3\nserver.1=a:1:2\nserver.10=c:1:2:observer;4";
        Configuration { version, ..Configuration::parse(text).unwrap() }
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_committed_configuration_is_written_as_apache_writes_it_and_named_by_the_static_file() {
        let dir = TemporaryDir::new().unwrap();
        let path = dir.path().join("zoo.cfg");
        let text = "# ours\ntickTime=1\ntickTime=2\npeerType=participant\nserver.1=a:1:2\nclientPort=5\nx=a\\\\b\n";
        fs::write(&path, text).unwrap();
        let files = ConfigFiles { my_id: ServerId(2), path: path.clone(), has_static_file: true };
        files.back_up(false).unwrap();
        files.save_proposed(Some(&three(0x1_0000_0005))).unwrap();
        assert_eq!(files.proposed(), Some(three(0x1_0000_0005)));
        assert!(read(&files.next()).ends_with("\nversion=100000005"));

        files.save(&three(0x1_0000_0005)).unwrap();
        assert_eq!(files.proposed(), None);
        assert_eq!(read(&dir.path().join("zoo.cfg.bak")), text);
        let dynamic = dir.path().join("zoo.cfg.dynamic.100000005");
        assert_eq!(
            read(&dynamic),
            "server.10=c:1:2:observer;0.0.0.0:4\nserver.1=a:1:2:participant\nserver.2=b:1:2:participant;b:3"
        );
        let dynamic = dynamic.canonicalize().unwrap();
        assert_eq!(read(&path), format!("tickTime=2\nx=a\\\\b\ndynamicConfigFile={}\n", dynamic.display()));

        let without_client = ConfigFiles { my_id: ServerId(1), ..files };
        fs::write(&path, text).unwrap();
        without_client.save(&three(0x1_0000_0006)).unwrap();
        assert!(read(&path).contains("clientPort=5\n"));
        assert!(dir.path().join("zoo.cfg.dynamic.100000005").exists(), "older ones stay");
    }

    /// It may hold the passwords of key stores.
    #[test]
    fn a_rewritten_file_and_its_copy_permit_what_the_operators_file_permits() {
        use std::os::unix::fs::PermissionsExt;
        let dir = TemporaryDir::new().unwrap();
        let path = dir.path().join("zoo.cfg");
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        for permitted in [0o600, 0o640, 0o660] {
            fs::write(&path, "ssl.keyStore.password=secret\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(permitted)).unwrap();
            let files = ConfigFiles { my_id: ServerId(2), path: path.clone(), has_static_file: true };
            files.back_up(false).unwrap();
            files.save(&three(5)).unwrap();
            assert!(read(&path).contains("dynamicConfigFile="));
            assert_eq!((mode("zoo.cfg"), mode("zoo.cfg.bak")), (permitted, permitted));
        }
    }

    #[test]
    fn of_the_clients_port_only_what_the_list_says_leaves_the_static_file() {
        let dir = TemporaryDir::new().unwrap();
        let path = dir.path().join("zoo.cfg");
        fs::write(&path, "clientPort=5\nclientPortAddress=b\nclientPortListenBacklog=7\n").unwrap();
        let files = ConfigFiles { my_id: ServerId(2), path: path.clone(), has_static_file: true };
        files.save(&three(5)).unwrap();
        assert!(read(&path).starts_with("clientPortListenBacklog=7\ndynamicConfigFile="), "{}", read(&path));
    }

    #[test]
    fn a_server_without_a_file_goes_by_the_newest_in_its_directory() {
        let dir = TemporaryDir::new().unwrap();
        let files = ConfigFiles { my_id: ServerId(1), path: dir.path().join("zoo.cfg"), has_static_file: false };
        assert_eq!(files.newest(), None);
        for version in [0x9, 0x10, 0xf] {
            files.save(&three(version)).unwrap();
        }
        files.save_proposed(Some(&three(0x11))).unwrap();
        assert_eq!(files.newest(), Some(three(0x10)));
        files.save(&three(0x10)).unwrap();
        assert_eq!(files.proposed(), Some(three(0x11)), "it is newer");
        files.save_proposed(None).unwrap();
        files.save_proposed(None).unwrap();
        assert_eq!(files.proposed(), None);
    }
}
