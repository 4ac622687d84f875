//! One key's value, read as what the key needs.

use super::{At, ConfigError};

/// A key, without the `zookeeper.` of Java's properties, and its value.
pub(super) struct Value<'a> {
    pub key: &'a str,
    /// Trimmed.
    pub text: &'a str,
    pub at: At,
}

impl Value<'_> {
    /// The error that this value is, naming the place; `reason` says what is needed.
    pub fn invalid(&self, reason: &str) -> ConfigError {
        let (key, value) = (self.key.to_owned(), self.text.to_owned());
        ConfigError::Invalid { at: self.at.clone(), key, value, reason: reason.to_owned() }
    }

    pub fn number(&self) -> Result<u32, ConfigError> {
        self.text.parse().map_err(|_| self.invalid("a number that is not negative is needed"))
    }

    pub fn signed(&self) -> Result<i64, ConfigError> {
        self.text.parse().map_err(|_| self.invalid("a number is needed"))
    }

    /// `None` for what is negative: "the default", or "off".
    pub fn number_or_none(&self) -> Result<Option<u32>, ConfigError> {
        Ok(u32::try_from(self.signed()?).ok())
    }

    pub fn port(&self) -> Result<u16, ConfigError> {
        self.text.parse().map_err(|_| self.invalid("a port is needed"))
    }

    /// As Apache's parser: nothing but these two words, in any case.
    pub fn boolean(&self) -> Result<bool, ConfigError> {
        match self.text.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.invalid("true or false is needed")),
        }
    }
}
