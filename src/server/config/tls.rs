//! TLS on the client ports: stores, protocols, who must show a certificate.
//!
//! Every key that begins with `ssl.` is the same for clients (`ssl.x`) and between servers (`ssl.quorum.x`), so those are one struct that is told its prefix. Files are read when the server starts, not here.
//!
//! ZooKeeper: `X509Util`, `ClientX509Util`, `QuorumPeerConfig`.

use super::ConfigError;
use super::value::Value;
use std::net::SocketAddr;
use std::path::PathBuf;

/// TLS on the client ports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsConfig {
    /// `secureClientPort` at `secureClientPortAddress`; port 0 is any; `None`: no port of its own.
    pub secure_client_addr: Option<SocketAddr>,
    /// `client.portUnification`: `clientPort` takes TLS as well, told apart by the first byte.
    pub port_unification: bool,
    /// `ssl.*`.
    pub client: TlsKeys,
    /// `ssl.authProvider`, the scheme of the ids that certificates give; only `x509` is known.
    pub(super) auth_provider: Option<String>,
    pub(super) secure_port: Option<u16>,
    pub(super) secure_address: Option<String>,
}

/// Whether the other side must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    None,
    /// It may; one that it shows must be good.
    Want,
    #[default]
    Need,
}

/// One file of keys or certificates.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreConfig {
    pub location: Option<PathBuf>,
    pub password: String,
    /// A file whose contents are the password; wins over `password`.
    pub password_path: Option<PathBuf>,
    /// `JKS`, `PEM`, `PKCS12`; `None`: by the file's name.
    pub kind: Option<String>,
}

impl std::fmt::Debug for StoreConfig {
    /// Without the password: a configuration is printed in errors and tests.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let StoreConfig { location, password_path, kind, .. } = self;
        f.debug_struct("StoreConfig")
            .field("location", location)
            .field("password_path", password_path)
            .field("kind", kind)
            .finish_non_exhaustive()
    }
}

/// The keys behind one prefix.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsKeys {
    /// What stands before each key, to name keys in messages: `ssl.`.
    pub prefix: &'static str,
    pub key_store: StoreConfig,
    pub trust_store: StoreConfig,
    /// Java's name of the newest protocol.
    pub protocol: Option<String>,
    /// Java's names, comma separated.
    pub enabled_protocols: Option<String>,
    /// Java's names, comma separated.
    pub ciphersuites: Option<String>,
    pub client_auth: ClientAuth,
    /// Whether the certificate of a server that is dialled must name it.
    pub hostname_verification: bool,
    /// Whether a client's certificate must name the address that it comes from.
    pub client_hostname_verification: bool,
    /// How long a connection to a port that takes both may be silent before its first byte.
    pub handshake_detection_timeout_ms: u32,
    /// Whether certificates are checked against the revocation lists in the trust store.
    pub crl: bool,
}

impl Default for TlsKeys {
    fn default() -> Self {
        TlsKeys {
            prefix: "ssl.",
            key_store: StoreConfig::default(),
            trust_store: StoreConfig::default(),
            protocol: None,
            enabled_protocols: None,
            ciphersuites: None,
            client_auth: ClientAuth::default(),
            hostname_verification: true,
            client_hostname_verification: false,
            handshake_detection_timeout_ms: 5000,
            crl: false,
        }
    }
}

impl TlsConfig {
    /// Whether any client port takes TLS.
    pub fn is_used(&self) -> bool {
        self.secure_client_addr.is_some() || self.port_unification
    }

    /// The provider that is asked for and is not there. ZooKeeper: `QuorumPeerConfig.configureSSLAuth`.
    pub(super) fn unknown_provider(&self) -> Option<&str> {
        self.auth_provider.as_deref().filter(|&name| self.is_used() && name != "x509")
    }

    /// Takes the key if it is one of this area.
    pub(super) fn take(&mut self, value: &Value<'_>) -> Result<bool, ConfigError> {
        match value.key {
            "secureClientPort" => self.secure_port = Some(value.port()?),
            "secureClientPortAddress" => self.secure_address = Some(value.text.to_owned()),
            "client.portUnification" => self.port_unification = value.boolean()?,
            // Certificates are always reloaded.
            "client.certReload" => drop(value.boolean()?),
            "ssl.authProvider" => self.auth_provider = Some(value.text.to_owned()),
            // Java's own choice of libraries.
            "ssl.sslProvider" => {}
            key => match key.strip_prefix("ssl.") {
                Some(key) => return self.client.take(key, value),
                None => return Ok(false),
            },
        }
        Ok(true)
    }
}

impl TlsKeys {
    /// Takes `value` if `key`, its key without the prefix, is one of these.
    pub(super) fn take(&mut self, key: &str, value: &Value<'_>) -> Result<bool, ConfigError> {
        let text = || Some(value.text.to_owned()).filter(|text| !text.is_empty());
        match key {
            "protocol" => self.protocol = text(),
            "enabledProtocols" => self.enabled_protocols = text(),
            "ciphersuites" => self.ciphersuites = text(),
            "clientAuth" => {
                self.client_auth = match value.text.to_ascii_lowercase().as_str() {
                    "none" => ClientAuth::None,
                    "want" => ClientAuth::Want,
                    "need" | "" => ClientAuth::Need,
                    _ => return Err(value.invalid("none, want or need is needed")),
                }
            }
            "hostnameVerification" => self.hostname_verification = value.boolean()?,
            "clientHostnameVerification" => self.client_hostname_verification = value.boolean()?,
            "handshakeDetectionTimeoutMillis" => self.handshake_detection_timeout_ms = value.number()?.max(1),
            "crl" => self.crl = value.boolean()?,
            "ocsp" if value.boolean()? => {
                let reason = "not supported: a revoked certificate would be let in. Put revocation lists into a trust \
                              store of type PEM, and set crl=true";
                return Err(value.invalid(reason));
            }
            "ocsp" => {}
            _ => match key.split_once('.') {
                Some(("keyStore", key)) => return Ok(self.key_store.take(key, value)),
                Some(("trustStore", key)) => return Ok(self.trust_store.take(key, value)),
                _ => return Ok(false),
            },
        }
        Ok(true)
    }
}

impl StoreConfig {
    fn take(&mut self, key: &str, value: &Value<'_>) -> bool {
        let path = || Some(PathBuf::from(value.text)).filter(|path| !path.as_os_str().is_empty());
        match key {
            "location" => self.location = path(),
            "password" => self.password = value.text.to_owned(),
            "passwordPath" => self.password_path = path(),
            "type" => self.kind = Some(value.text.to_owned()).filter(|kind| !kind.is_empty()),
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use std::path::Path;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(&format!("dataDir=/data\nclientPort=2181\n{text}")).map_err(|error| error.to_string())
    }

    #[test]
    fn without_its_port_tls_is_off_whatever_else_is_set() {
        let config =
            parse("ssl.keyStore.location=/k.jks\nclient.certReload=true\nssl.quorum.keyStore.password=x\n").unwrap();
        assert!(!config.tls.is_used() && !config.auth.providers.contains("x509"));
        assert_eq!(config.unknown, []);
        assert_eq!(config.tls.client.client_auth, ClientAuth::Need);
    }

    #[test]
    fn every_key_is_read_as_apache_names_it() {
        let config = parse(
            "secureClientPort=2281\nsecureClientPortAddress=127.0.0.1\nclient.portUnification=true\n\
             ssl.keyStore.location=/k\nssl.keyStore.password=a b\nssl.keyStore.type=PKCS12\n\
             ssl.trustStore.location=/t.pem\nssl.trustStore.passwordPath=/p\nzookeeper.ssl.clientAuth=WANT\n\
             ssl.protocol=TLSv1.2\nssl.enabledProtocols=TLSv1.2,TLSv1.3\nssl.ciphersuites=A,B\nssl.crl=true\n\
             ssl.ocsp=false\nssl.hostnameVerification=false\nssl.clientHostnameVerification=true\n\
             ssl.handshakeDetectionTimeoutMillis=70\nssl.authProvider=x509\nssl.sslProvider=OPENSSL\n\
             serverCnxnFactory=anything\n",
        );
        let Config { tls, auth, unknown, .. } = config.unwrap();
        assert_eq!((tls.secure_client_addr, tls.port_unification), (Some("127.0.0.1:2281".parse().unwrap()), true));
        let (key, trust) = (&tls.client.key_store, &tls.client.trust_store);
        assert_eq!((key.location.as_deref(), key.password.as_str()), (Some(Path::new("/k")), "a b"));
        assert_eq!((key.kind.as_deref(), trust.kind.as_deref()), (Some("PKCS12"), None));
        assert_eq!(trust.password_path.as_deref(), Some(Path::new("/p")));
        assert_eq!((tls.client.client_auth, tls.client.crl), (ClientAuth::Want, true));
        assert_eq!(tls.client.enabled_protocols.as_deref(), Some("TLSv1.2,TLSv1.3"));
        assert_eq!(
            (tls.client.protocol.as_deref(), tls.client.ciphersuites.as_deref()),
            (Some("TLSv1.2"), Some("A,B"))
        );
        assert_eq!((tls.client.hostname_verification, tls.client.client_hostname_verification), (false, true));
        assert_eq!(tls.client.handshake_detection_timeout_ms, 70);
        assert!(auth.providers.contains("x509"), "ACLs of the scheme can be set");
        assert_eq!(unknown, []);
        assert!(!format!("{:?}", tls).contains("a b"), "a password is not for logs");
    }

    #[test]
    fn what_cannot_be_done_is_an_error() {
        for (text, part) in [
            ("ssl.clientAuth=maybe\n", "none, want or need"),
            ("ssl.ocsp=true\n", "revocation lists"),
            ("secureClientPort=x\n", "a port is needed"),
            ("secureClientPortAddress=127.0.0.1\n", "secureClientPort is not"),
            ("secureClientPort=1\nssl.authProvider=mine\n", "SSL authentication scheme 'mine'"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        parse("ssl.authProvider=mine\n").unwrap();
    }
}
