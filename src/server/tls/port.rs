//! What a port with TLS has: the settings, and from them and the files as they are now what the next connection gets.
//!
//! Files are looked at once a second, off the core's thread, and loaded when one of them has changed. What cannot be used
//! is told, and the old keys and certificates stay. A connection keeps what it began with.
//!
//! ZooKeeper: `X509Util.createSSLContextAndOptions`, `FileChangeWatcher`.

use super::super::config::tls::{ClientAuth, TlsKeys};
use super::dialing;
use super::protocols::{Allowed, allowed};
use super::stores::{Store, key_store, trust_store};
use super::verifier::Verifier;
use super::{TlsError, TlsSession};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::fs::Metadata;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Semaphore;

/// How often the files are looked at.
const RELOAD_EVERY: Duration = Duration::from_secs(1);

/// The settings of a port and what its next connection gets.
pub struct TlsPort {
    keys: TlsKeys,
    /// Whether it also dials others.
    dials: bool,
    current: Mutex<Current>,
    /// How many handshakes are computed at once; a client with many connections leaves the CPU to the others.
    pub handshakes: Semaphore,
}

struct Current {
    config: Arc<ServerConfig>,
    dialing: Option<Arc<ClientConfig>>,
    files: Files,
    /// What was last told about files that cannot be used.
    complaint: Option<String>,
}

/// What tells that a file has changed: device, inode, size and time in ns of each; `None`: it is not there.
type Files = Vec<Option<(u64, u64, u64, i64, i64)>>;

impl TlsPort {
    /// Reads the files.
    pub fn new(keys: &TlsKeys) -> Result<TlsPort, TlsError> {
        TlsPort::load(keys, false)
    }

    /// As [`TlsPort::new`], for a port of a server that dials others with the same keys.
    pub fn between_servers(keys: &TlsKeys) -> Result<TlsPort, TlsError> {
        TlsPort::load(keys, true)
    }

    fn load(keys: &TlsKeys, dials: bool) -> Result<TlsPort, TlsError> {
        let (current, warnings) = Current::load(keys, dials)?;
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        // One CPU stays for the core.
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let handshakes = Semaphore::new(cpus.saturating_sub(1).max(1));
        Ok(TlsPort { keys: keys.clone(), dials, current: Mutex::new(current), handshakes })
    }

    /// A new connection's session.
    pub fn session(&self) -> Result<TlsSession, rustls::Error> {
        let config = self.current().config.clone();
        TlsSession::new(config)
    }

    /// The session of a connection to a server that was dialed at `host`.
    pub fn dial(&self, host: &str) -> Result<TlsSession, rustls::Error> {
        let config = self.current().dialing.clone();
        let config = config.ok_or_else(|| rustls::Error::General("this port does not dial".to_owned()))?;
        let server = ServerName::try_from(host.to_owned());
        let server = server.map_err(|_| rustls::Error::General(format!("{host:?} is no name of a server")))?;
        TlsSession::dial(config, server)
    }

    /// Whether the certificate of a server that was dialed must name it.
    pub fn verifies_dialed(&self) -> bool {
        self.keys.hostname_verification
    }

    /// Whether the certificate of who dials must name where it comes from.
    pub fn verifies_dialing(&self) -> bool {
        self.keys.hostname_verification && self.keys.client_hostname_verification
    }

    /// How long a connection to a port that takes both may be silent.
    pub fn detection_timeout_ms(&self) -> u32 {
        self.keys.handshake_detection_timeout_ms
    }

    /// Whether `certificate` names the address that its client comes from, if it must.
    pub fn check_address(&self, certificate: &CertificateDer<'_>, ip: IpAddr) -> Result<(), rustls::Error> {
        if !self.keys.client_hostname_verification {
            return Ok(());
        }
        let certificate = ParsedCertificate::try_from(certificate)?;
        verify_server_name(&certificate, &ServerName::IpAddress(ip.into()))
    }

    /// Loads the files if one has changed since they were loaded; blocks. Whether connections get something new.
    pub(super) fn reload(&self) -> bool {
        let files = files(&self.keys);
        if files == self.current().files {
            return false;
        }
        let loaded = Current::load(&self.keys, self.dials);
        let mut current = self.current();
        match loaded {
            Ok((new, _)) => {
                tracing::info!(
                    "{}keyStore and {}trustStore have changed and are loaded",
                    self.keys.prefix,
                    self.keys.prefix
                );
                *current = new;
                true
            }
            // Tried again at the next look: the key may be written before its certificate.
            Err(error) => {
                let complaint = error.to_string();
                if current.complaint.as_ref() != Some(&complaint) {
                    tracing::error!(
                        "the changed files of TLS cannot be used, what was loaded before stays: {complaint}"
                    );
                    current.complaint = Some(complaint);
                }
                false
            }
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Current {
    /// What the files make now, and what is to be said about the settings.
    fn load(keys: &TlsKeys, dials: bool) -> Result<(Current, Vec<String>), TlsError> {
        // Looked at first: what changes while they are read is loaded at the next look.
        let files = files(keys);
        let (config, warnings) = server_config(keys)?;
        let dialing = dials.then(|| dialing::client_config(keys)).transpose()?;
        Ok((Current { config, dialing, files, complaint: None }, warnings))
    }
}

/// Reloads a port's files as they change, until it is cancelled.
pub async fn reload(port: Arc<TlsPort>) {
    loop {
        tokio::time::sleep(RELOAD_EVERY).await;
        let port = port.clone();
        // A panic would be a bug of ours; it is told where it happened, and the next look may do better.
        let _ = tokio::task::spawn_blocking(move || port.reload()).await;
    }
}

fn files(keys: &TlsKeys) -> Files {
    let stamp = |file: Metadata| (file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec());
    let stores = [&keys.key_store, &keys.trust_store];
    let paths = stores.into_iter().flat_map(|store| [&store.location, &store.password_path]).flatten();
    paths.map(|path| Path::metadata(path).ok().map(stamp)).collect()
}

/// What the settings and the files make, and what is to be said about them.
fn server_config(keys: &TlsKeys) -> Result<(Arc<ServerConfig>, Vec<String>), TlsError> {
    let Allowed { provider, versions, warnings } = allowed(keys)?;
    let provider = Arc::new(provider);
    let refused = |error: rustls::Error| TlsError::Setting {
        key: format!("{}enabledProtocols", keys.prefix),
        value: keys.enabled_protocols.clone().unwrap_or_default(),
        reason: error.to_string(),
    };
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(&versions).map_err(refused)?;
    let builder = match keys.client_auth {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Want | ClientAuth::Need => builder.with_client_cert_verifier(verifier(keys, provider)?),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Keys(key_store(keys)?)));
    // A client that comes back spares both sides the signatures. The tickets hold what a session cache would have to.
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(refused)?;
    Ok((Arc::new(config), warnings))
}

fn verifier(keys: &TlsKeys, provider: Arc<rustls::crypto::CryptoProvider>) -> Result<Arc<Verifier>, TlsError> {
    let Store { certificates, crls, .. } = trust_store(keys)?;
    let trusted: Vec<_> = certificates.into_iter().map(|certificate| certificate.der).collect();
    let fail = |reason: String| TlsError::Store {
        key: format!("{}trustStore.location", keys.prefix),
        path: keys.trust_store.location.clone().unwrap_or_default(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(trusted.iter().cloned());
    if added == 0 {
        return Err(fail("no certificate in it can be read".to_owned()));
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let has_crls = keys.crl;
    if has_crls {
        if crls.is_empty() {
            return Err(fail(format!("{}crl=true, and no revocation list (X509 CRL) is in it", keys.prefix)));
        }
        builder = builder.with_crls(crls);
    }
    if keys.client_auth == ClientAuth::Want {
        builder = builder.allow_unauthenticated();
    }
    let inner = builder.build().map_err(|error| fail(error.to_string()))?;
    Ok(Arc::new(Verifier { inner, trusted, has_crls }))
}

/// The keys of a key store; a client gets the first whose kind it knows.
#[derive(Debug)]
pub(super) struct Keys(pub(super) Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Keys {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let suits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        self.0.iter().find(suits).cloned()
    }
}
