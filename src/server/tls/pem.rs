//! PEM files: keys, certificates and revocation lists in any order, with any text between them.

use super::stores::{Certificate, Store};
use base64::Engine;
use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer,
    PrivateSec1KeyDer,
};

/// The contents of a file; every certificate counts as trusted.
pub fn parse(file: &[u8], password: &str) -> Result<Store, String> {
    let mut store = Store::default();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(file) {
        let (kind, der) = section.map_err(|error| format!("no PEM file that can be read: {error:?}"))?;
        match kind {
            SectionKind::Certificate => {
                store.certificates.push(Certificate { der: CertificateDer::from(der), is_trusted: true });
            }
            SectionKind::PrivateKey => store.keys.push(PrivatePkcs8KeyDer::from(der).into()),
            SectionKind::RsaPrivateKey => store.keys.push(PrivatePkcs1KeyDer::from(der).into()),
            SectionKind::EcPrivateKey => store.keys.push(PrivateSec1KeyDer::from(der).into()),
            SectionKind::Crl => store.crls.push(CertificateRevocationListDer::from(der)),
            _ => {}
        }
    }
    for section in encrypted_keys(file) {
        store.keys.push(decrypt(section, password)?);
    }
    if store.keys.is_empty() && store.certificates.is_empty() {
        return Err("no key and no certificate is in it".to_owned());
    }
    Ok(store)
}

/// What is between the lines of each `ENCRYPTED PRIVATE KEY`, a section that the parser passes over.
fn encrypted_keys(file: &[u8]) -> Vec<&str> {
    const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
    let text = std::str::from_utf8(file).unwrap_or_default();
    text.split(BEGIN).skip(1).filter_map(|behind| Some(behind.split_once("-----END")?.0)).collect()
}

fn decrypt(section: &str, password: &str) -> Result<PrivateKeyDer<'static>, String> {
    let text: String = section.split_whitespace().collect();
    let der = base64::engine::general_purpose::STANDARD.decode(text);
    let der = der.map_err(|_| "the encrypted key is no base64".to_owned())?;
    let key = EncryptedPrivateKeyInfoRef::try_from(&der[..]).map_err(|error| format!("the encrypted key: {error}"))?;
    let key = key.decrypt(password).map_err(|error| {
        format!("the encrypted key: {error}; is the password the key's? (openssl pkcs8 -topk8 encrypts so that it can be read)")
    })?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}
