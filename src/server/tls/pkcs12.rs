//! PKCS#12 files: keytool's default, openssl's old and new ones.

use super::stores::{Certificate, Store};
use p12_keystore::Pkcs12Archive;
use p12_keystore::error::Error;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The contents of a file.
///
/// Java marks the certificates that it trusts, and trusts no others; files of openssl mark none, and there all are
/// meant. (Java finds such a trust store empty.)
pub fn parse(file: &[u8], password: &str) -> Result<Store, String> {
    let archive = Pkcs12Archive::from_pkcs12(file, password).map_err(|error| match error {
        Error::MacError(_) | Error::Pkcs5Error(_) => {
            "the password is not the file's, or the file is damaged".to_owned()
        }
        error => format!("no PKCS#12 file that can be read: {error}"),
    })?;
    let keys = archive.keys.iter().map(|bag| {
        let key = PrivatePkcs8KeyDer::from(bag.key.as_der().to_vec());
        PrivateKeyDer::Pkcs8(key)
    });
    let none_is_marked = archive.certs.iter().all(|bag| !bag.trusted);
    let certificates = archive.certs.iter().map(|bag| Certificate {
        der: CertificateDer::from(bag.cert.as_der().to_vec()),
        is_trusted: none_is_marked || bag.trusted || bag.local_key_id.is_some(),
    });
    Ok(Store { keys: keys.collect(), certificates: certificates.collect(), crls: Vec::new() })
}
