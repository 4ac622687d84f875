//! The files with the ensemble's list: which configuration is committed, and which is proposed, across restarts.
//!
//! Beside a `zoo.cfg` lie `zoo.cfg.dynamic.<version>` (hexadecimal) with the lines of the committed configuration, named
//! by `dynamicConfigFile=` in the `zoo.cfg` that is rewritten for it, and `zoo.cfg.dynamic.next` with a proposed one.
//! A server that was started without a file keeps both in its data directory, and goes by the newest there.
//!
//! What is proposed is written before the log has its record, and before anybody is told. So a server whose list
//! cannot be written ends, unless nothing but a number has changed. The tree's `/zookeeper/config` is not asked: in a
//! directory that was copied it tells of another ensemble. All of this only with `reconfigEnabled`.
//!
//! ZooKeeper: `QuorumPeerConfig.writeDynamicConfig`, `editStaticConfig`, `backupOldConfig`.

use super::config::Config;
use super::properties;
use crate::peer::io::Members;
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

    /// The configuration that was kept as proposed, behind the committed one.
    pub fn proposed(&self, committed: &Configuration) -> Option<Configuration> {
        let proposed = Configuration::parse(&fs::read_to_string(self.next()).ok()?).ok()?;
        (proposed.version > committed.version && !proposed.voters().is_empty()).then_some(proposed)
    }

    /// The operator's own file, with its list and its comments, is kept once.
    pub fn back_up(&self, names_dynamic_file: bool) -> io::Result<()> {
        if !self.has_static_file || names_dynamic_file {
            return Ok(());
        }
        replace_like(&self.path, &self.beside(".bak"), &fs::read(&self.path)?)
    }

    /// Keeps the list of `new` in the place of that of `old`. The committed one first: who has that one alone has what was
    /// proposed before it, or what is not in any log yet.
    pub fn save(&self, old: &Members, new: &Members) -> Result<(), String> {
        if new.committed.version != old.committed.version {
            self.save_committed(&new.committed)?;
        }
        let next = self.next();
        let saved = match &new.last_seen {
            Some(proposed) => replace(&next, lines(proposed, true).as_bytes()),
            None => remove(&next),
        };
        saved.map_err(|error| format!("{}: {error}", next.display()))
    }

    fn save_committed(&self, configuration: &Configuration) -> Result<(), String> {
        let path = self.beside(&format!(".dynamic.{:x}", configuration.version));
        let text = lines(configuration, false);
        replace(&path, text.as_bytes()).map_err(|error| format!("{}: {error}", path.display()))?;
        if self.has_static_file {
            let pointed = self.point_to(&path, configuration);
            pointed.map_err(|error| format!("{}: {error}", self.path.display()))?;
        }
        Ok(())
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

/// The list as the files have it, and the files.
pub struct List {
    files: ConfigFiles,
    kept: Members,
}

impl List {
    /// `kept` is what the files hold.
    pub fn new(files: ConfigFiles, kept: Members) -> List {
        List { files, kept }
    }

    /// Keeps `members` from now on. An error says which file cannot be written, and ends the server: others may count by
    /// a list that it would not know after its next start.
    pub fn keep(&mut self, members: &Members) -> Result<(), String> {
        let saved = self.files.save(&self.kept, members);
        let everybody = |of: &Members| of.last_seen.iter().all(|last_seen| last_seen.is_same_as(&self.kept.committed));
        let is_same = members.committed.is_same_as(&self.kept.committed) && everybody(members) && everybody(&self.kept);
        match saved {
            Err(error) if is_same => {
                tracing::error!("the version of the ensemble's list cannot be written: {error}");
                Ok(())
            }
            Err(error) => Err(format!("the ensemble's list cannot be written: {error}")),
            Ok(()) => {
                self.kept = members.clone();
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::temporary::TemporaryDir;

    fn three(version: i64) -> Configuration {
        let text = "server.2=b:1:2:participant;b:3\nserver.1=a:1:2\nserver.10=c:1:2:observer;4";
        Configuration { version, ..Configuration::parse(text).unwrap() }
    }

    fn at(committed: i64, last_seen: Option<i64>) -> Members {
        Members { committed: three(committed), last_seen: last_seen.map(three) }
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
        files.save(&at(0, None), &at(0, Some(0x1_0000_0005))).unwrap();
        assert_eq!(files.proposed(&three(0)), Some(three(0x1_0000_0005)));
        assert!(read(&files.next()).ends_with("\nversion=100000005"));
        assert_eq!(files.proposed(&three(0x1_0000_0005)), None, "it is committed");

        files.save(&at(0, Some(0x1_0000_0005)), &at(0x1_0000_0005, None)).unwrap();
        assert!(!files.next().exists());
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
        without_client.save(&at(0x1_0000_0005, None), &at(0x1_0000_0006, None)).unwrap();
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
            files.save(&at(0, None), &at(5, None)).unwrap();
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
        files.save(&at(0, None), &at(5, None)).unwrap();
        assert!(read(&path).starts_with("clientPortListenBacklog=7\ndynamicConfigFile="), "{}", read(&path));
    }

    #[test]
    fn a_server_without_a_file_goes_by_the_newest_in_its_directory() {
        let dir = TemporaryDir::new().unwrap();
        let files = ConfigFiles { my_id: ServerId(1), path: dir.path().join("zoo.cfg"), has_static_file: false };
        assert_eq!(files.newest(), None);
        for version in [0x9, 0x10, 0xf] {
            files.save(&at(0, None), &at(version, None)).unwrap();
        }
        files.save(&at(0x10, None), &at(0x10, Some(0x11))).unwrap();
        assert_eq!(files.newest(), Some(three(0x10)));
        assert_eq!(files.proposed(&three(0x10)), Some(three(0x11)));
        files.save(&at(0x10, Some(0x11)), &at(0x11, Some(0x12))).unwrap();
        assert_eq!((files.newest(), files.proposed(&three(0x11))), (Some(three(0x11)), Some(three(0x12))));
        files.save(&at(0x11, Some(0x12)), &at(0x11, None)).unwrap();
        files.save(&at(0x11, None), &at(0x11, None)).unwrap();
        assert_eq!(files.proposed(&three(0x11)), None);
    }

    #[test]
    fn a_list_that_cannot_be_written_ends_the_server_unless_only_its_number_is_new() {
        let dir = TemporaryDir::new().unwrap();
        let path = dir.path().join("gone").join("zoo.cfg");
        let files = ConfigFiles { my_id: ServerId(1), path, has_static_file: false };
        let mut list = List::new(files, at(0, None));
        list.keep(&at(0, Some(1 << 32))).unwrap();
        list.keep(&at(1 << 32, None)).unwrap();
        let alone = Configuration { version: 9 << 32, ..Configuration::of_voters([ServerId(1)]) };
        let other = Members { committed: alone, last_seen: None };
        let error = list.keep(&Members { last_seen: Some(other.committed.clone()), ..at(0, None) }).unwrap_err();
        assert!(error.contains("zoo.cfg.dynamic.next: "), "{error}");
        list.keep(&other).unwrap_err();
    }
}
