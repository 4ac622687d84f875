//! How snapshots and logs are written, and which empty directory is a new server's.
//!
//! ZooKeeper: `SnapStream`, `FileTxnLog`, `SyncRequestProcessor`, `FileTxnSnapLog`.

use super::ConfigError;
use super::value::Value;
use crate::storage::Compression;

/// How snapshots and logs are written, and which empty directory is a new server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilesConfig {
    /// `snapshot.compression.method`: `gz`, `snappy`, or nothing.
    pub compression: Compression,
    /// `db.autocreate`: an empty directory is a new server's, also without the file `initialize`.
    pub create_db: bool,
    /// `snapSizeLimitInKb`: a snapshot is taken after half of this to this much log; `None`: whatever its size.
    pub snapshot_log_kib: Option<u32>,
    /// `txnLogSizeLimitInKb`: a log file larger than this is followed by another; `None`: of any size.
    pub log_kib_max: Option<u32>,
}

impl Default for FilesConfig {
    fn default() -> Self {
        FilesConfig {
            compression: Compression::None,
            create_db: true,
            snapshot_log_kib: Some(4 << 20),
            log_kib_max: None,
        }
    }
}

impl FilesConfig {
    /// Takes the key if it is one of this area.
    pub(super) fn take(&mut self, value: &Value<'_>) -> Result<bool, ConfigError> {
        let above_zero = || Ok::<_, ConfigError>(value.number_or_none()?.filter(|&kib| kib > 0));
        match value.key {
            "snapshot.compression.method" => match Compression::parse(value.text) {
                Some(compression) => self.compression = compression,
                None => return Err(value.invalid("gz or snappy, or nothing for plain files")),
            },
            "db.autocreate" => self.create_db = value.boolean()?,
            "snapSizeLimitInKb" => self.snapshot_log_kib = above_zero()?,
            "txnLogSizeLimitInKb" => self.log_kib_max = above_zero()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn the_keys_of_files_are_apaches() {
        let files = |text: &str| Config::parse(&format!("dataDir=/data\n{text}")).map(|config| config.files);
        assert_eq!(files("").unwrap(), FilesConfig::default());
        let text = "zookeeper.snapshot.compression.method=snappy\ndb.autocreate=false\nsnapSizeLimitInKb=-1\n\
                    txnLogSizeLimitInKb=2048\n";
        let set = FilesConfig {
            compression: Compression::Snappy,
            create_db: false,
            snapshot_log_kib: None,
            log_kib_max: Some(2048),
        };
        assert_eq!(files(text).unwrap(), set);
        assert!(files("snapshot.compression.method=zip").unwrap_err().to_string().contains("gz or snappy"));
    }
}
