//! Java's names of protocols and cipher suites to what rustls has.
//!
//! A name that is not known, or that is not safe any more, is left out with a warning; nothing left is an error.

use super::super::config::tls::TlsKeys;
use super::TlsError;
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion, version};

/// What may be agreed on, and what is to be said about the settings.
pub struct Allowed {
    pub provider: CryptoProvider,
    pub versions: Vec<&'static SupportedProtocolVersion>,
    pub warnings: Vec<String>,
}

/// What the settings allow.
pub fn allowed(keys: &TlsKeys) -> Result<Allowed, TlsError> {
    let mut warnings = Vec::new();
    let mut suites = suites(keys, &mut warnings)?;
    let mut versions = versions(keys, &mut warnings)?;
    // A version without any suite would be agreed on, and then fail for clients that know the other one too.
    versions.retain(|version| suites.iter().any(|suite| suite.version().version == version.version));
    suites.retain(|suite| versions.iter().any(|version| suite.version().version == version.version));
    if versions.is_empty() {
        let reason = "no cipher suite is left for the protocols that are enabled".to_owned();
        let value = keys.ciphersuites.clone().unwrap_or_default();
        return Err(TlsError::Setting { key: format!("{}ciphersuites", keys.prefix), value, reason });
    }
    Ok(Allowed { provider: CryptoProvider { cipher_suites: suites, ..ring::default_provider() }, versions, warnings })
}

fn versions(keys: &TlsKeys, warnings: &mut Vec<String>) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let (key, text) = match (&keys.enabled_protocols, &keys.protocol) {
        (Some(enabled), _) => ("enabledProtocols", enabled.as_str()),
        (None, Some(newest)) => ("protocol", newest.as_str()),
        (None, None) => return Ok(vec![&version::TLS13, &version::TLS12]),
    };
    let mut versions = Vec::new();
    for name in names(text) {
        match name {
            "TLSv1.3" if key == "protocol" => versions.extend([&version::TLS13, &version::TLS12]),
            "TLS" | "Default" if key == "protocol" => versions.extend([&version::TLS13, &version::TLS12]),
            "TLSv1.3" => versions.push(&version::TLS13),
            "TLSv1.2" => versions.push(&version::TLS12),
            _ => warnings.push(format!("{}{key}: {name} is left out: TLSv1.3 and TLSv1.2 are supported", keys.prefix)),
        }
    }
    if versions.is_empty() {
        let reason = "nothing is left of it: TLSv1.3 and TLSv1.2 are supported".to_owned();
        return Err(TlsError::Setting { key: format!("{}{key}", keys.prefix), value: text.to_owned(), reason });
    }
    Ok(versions)
}

fn suites(keys: &TlsKeys, warnings: &mut Vec<String>) -> Result<Vec<SupportedCipherSuite>, TlsError> {
    let Some(text) = &keys.ciphersuites else {
        return Ok(ring::DEFAULT_CIPHER_SUITES.to_vec());
    };
    let mut suites = Vec::new();
    for name in names(text) {
        match ring::ALL_CIPHER_SUITES.iter().find(|suite| java_name(suite) == name) {
            Some(suite) => suites.push(*suite),
            None => warnings.push(format!("{}ciphersuites: {name} is left out: it is not supported", keys.prefix)),
        }
    }
    if suites.is_empty() {
        let known: Vec<String> = ring::ALL_CIPHER_SUITES.iter().map(java_name).collect();
        let reason = format!("nothing is left of it; supported are {}", known.join(","));
        return Err(TlsError::Setting { key: format!("{}ciphersuites", keys.prefix), value: text.clone(), reason });
    }
    Ok(suites)
}

/// The IANA name, which is Java's. rustls marks those of TLS 1.3.
fn java_name(suite: &SupportedCipherSuite) -> String {
    let name = suite.suite().as_str().unwrap_or_default();
    if suite.version().version == ProtocolVersion::TLSv1_3 {
        name.replacen("TLS13_", "TLS_", 1)
    } else {
        name.to_owned()
    }
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(protocol: &str, enabled: &str, suites: &str) -> TlsKeys {
        let set = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        TlsKeys {
            protocol: set(protocol),
            enabled_protocols: set(enabled),
            ciphersuites: set(suites),
            ..TlsKeys::default()
        }
    }

    /// Versions, suites and warnings.
    fn outcome(keys: TlsKeys) -> (Vec<ProtocolVersion>, Vec<String>, usize) {
        let allowed = allowed(&keys).unwrap();
        let suites = allowed.provider.cipher_suites.iter().map(java_name).collect();
        (allowed.versions.iter().map(|version| version.version).collect(), suites, allowed.warnings.len())
    }

    #[test]
    fn both_protocols_and_all_suites_are_the_default() {
        let (versions, suites, warnings) = outcome(TlsKeys::default());
        assert_eq!(versions, [ProtocolVersion::TLSv1_3, ProtocolVersion::TLSv1_2]);
        assert!(suites.contains(&"TLS_AES_256_GCM_SHA384".to_owned()), "{suites:?}");
        assert!(suites.contains(&"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()), "{suites:?}");
        assert_eq!((suites.len(), warnings), (9, 0));
    }

    #[test]
    fn names_that_are_not_known_are_left_out_with_a_warning() {
        let (versions, suites, warnings) = outcome(keys(
            "",
            "TLSv1.2,TLSv1.1",
            "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        ));
        assert_eq!(versions, [ProtocolVersion::TLSv1_2]);
        assert_eq!((suites, warnings), (vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()], 2));
    }

    #[test]
    fn a_protocol_without_suites_is_not_offered() {
        let (versions, ..) = outcome(keys("", "", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"));
        assert_eq!(versions, [ProtocolVersion::TLSv1_2]);
        let (versions, ..) = outcome(keys("", "", "TLS_AES_128_GCM_SHA256"));
        assert_eq!(versions, [ProtocolVersion::TLSv1_3]);
    }

    #[test]
    fn the_newest_protocol_bounds_what_is_not_listed() {
        assert_eq!(outcome(keys("TLSv1.2", "", "")).0, [ProtocolVersion::TLSv1_2]);
        assert_eq!(outcome(keys("TLSv1.3", "", "")).0.len(), 2);
        assert_eq!(outcome(keys("TLSv1.3", "TLSv1.3", "")).0, [ProtocolVersion::TLSv1_3]);
    }

    #[test]
    fn nothing_left_is_an_error_that_names_the_key() {
        for (keys, part) in [
            (keys("", "SSLv3", ""), "ssl.enabledProtocols=SSLv3: nothing is left"),
            (keys("TLSv1", "", ""), "ssl.protocol=TLSv1: nothing is left"),
            (keys("", "", "TLS_RSA_WITH_AES_128_CBC_SHA"), "ssl.ciphersuites=TLS_RSA_WITH_AES_128_CBC_SHA: nothing"),
            (keys("", "TLSv1.3", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"), "no cipher suite is left for the protocols"),
        ] {
            let error = allowed(&keys).err().unwrap().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
