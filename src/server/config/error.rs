//! Why a configuration cannot be used, and where in which file.

use std::path::PathBuf;

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
