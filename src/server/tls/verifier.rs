//! Whether a client's certificate is good: rustls decides, with two of Java's rules beside it.
//!
//! A certificate that is in the trust store itself is trusted, also one that could sign others (`openssl req -x509`
//! makes such ones), which rustls takes for no client's. And an address is compared only if that was asked for, with
//! what the certificate says and never with a name that DNS gives for it.
//!
//! ZooKeeper: `ZKTrustManager`.

use super::certificate::Fields;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::sync::Arc;
use std::time::Duration;

/// A certificate that is in the trust store itself is good in its time.
pub(super) fn check_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let fields = Fields::of(certificate).ok_or(CertificateError::BadEncoding)?;
    let now = Duration::from_secs(now.as_secs());
    if now < fields.not_before {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > fields.not_after {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// Judges clients' certificates.
#[derive(Debug)]
pub struct Verifier {
    pub inner: Arc<dyn ClientCertVerifier>,
    /// The trust store.
    pub trusted: Vec<CertificateDer<'static>>,
    /// Whether revoked certificates are known; then nothing is trusted by itself.
    pub has_crls: bool,
}

impl ClientCertVerifier for Verifier {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.inner.verify_client_cert(end_entity, intermediates, now) {
            Err(Error::InvalidCertificate(_)) if !self.has_crls && self.trusted.contains(end_entity) => {
                check_time(end_entity, now).map(|()| ClientCertVerified::assertion())
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
