//! The dialing side, which only servers among each other have: who is trusted, and whether it is who was meant.
//!
//! A chain is judged during the handshake, names behind it: a certificate may name the host that was dialed or its
//! address, and in old ones the subject's common name does. Nothing is said before both are good.
//!
//! ZooKeeper: `ZKTrustManager.performHostVerification`, `ZKHostnameVerifier`.

use super::super::config::tls::TlsKeys;
use super::TlsError;
use super::certificate::alternative_names;
use super::names::subject;
use super::port::Keys;
use super::protocols::{Allowed, allowed};
use super::stores::{Store, key_store, trust_store};
use super::verifier::check_time;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;

/// What the settings and the files make.
pub fn client_config(keys: &TlsKeys) -> Result<Arc<ClientConfig>, TlsError> {
    let Allowed { provider, versions, .. } = allowed(keys)?;
    let provider = Arc::new(provider);
    let Store { certificates, crls, .. } = trust_store(keys)?;
    let trusted: Vec<_> = certificates.into_iter().map(|certificate| certificate.der).collect();
    let fail = |reason: String| TlsError::Store {
        key: format!("{}trustStore.location", keys.prefix),
        path: keys.trust_store.location.clone().unwrap_or_default(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted.iter().cloned());
    let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    if keys.crl {
        builder = builder.with_crls(crls);
    }
    let inner = builder.build().map_err(|error| fail(error.to_string()))?;
    let verifier = Verifier { inner, trusted, has_crls: keys.crl };
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&versions);
    let builder = builder.map_err(|error| TlsError::Setting {
        key: format!("{}enabledProtocols", keys.prefix),
        value: keys.enabled_protocols.clone().unwrap_or_default(),
        reason: error.to_string(),
    })?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(Arc::new(builder.with_client_cert_resolver(Arc::new(Keys(key_store(keys)?)))))
}

/// Whether `certificate` is that of one of `hosts`, names or addresses.
pub fn check_names(certificate: &CertificateDer<'_>, hosts: &[String]) -> Result<(), Error> {
    if hosts.iter().any(|host| names(certificate, host)) {
        return Ok(());
    }
    Err(CertificateError::NotValidForName.into())
}

fn names(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let by_alternative = || {
        let parsed = ParsedCertificate::try_from(certificate).ok()?;
        verify_server_name(&parsed, &ServerName::try_from(host).ok()?).ok()
    };
    match alternative_names(certificate) {
        Some(_) => by_alternative().is_some(),
        None => common_name(certificate).is_some_and(|name| name.eq_ignore_ascii_case(host)),
    }
}

/// The names by which a certificate can be looked up; none of them holds a `*`.
pub fn plain_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let names = alternative_names(certificate).unwrap_or_else(|| common_name(certificate).into_iter().collect());
    names.into_iter().filter(|name| !name.contains('*')).collect()
}

fn common_name(certificate: &[u8]) -> Option<String> {
    let subject = subject(certificate)?;
    subject.split(',').find_map(|part| part.strip_prefix("CN=")).map(str::to_owned)
}

impl ResolvesClientCert for Keys {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find(|key| key.key.choose_scheme(schemes).is_some()).cloned()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Judges the certificates of servers that are dialed, all but their names.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    /// The trust store.
    trusted: Vec<CertificateDer<'static>>,
    /// Whether revoked certificates are known; then nothing is trusted by itself.
    has_crls: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.inner.verify_server_cert(end_entity, intermediates, server, ocsp, now) {
            // The chain is good: names come after it.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            Err(Error::InvalidCertificate(_)) if !self.has_crls && self.trusted.contains(end_entity) => {
                check_time(end_entity, now).map(|()| ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
