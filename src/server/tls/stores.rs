//! Key and trust stores: a file, its kind and its password to keys and certificates.
//!
//! Java reads a PKCS#12 file under the name of a JKS one and the other way round (keytool has written PKCS#12 into
//! `x.jks` since Java 9), so between those two the first bytes decide.
//!
//! ZooKeeper: `FileKeyStoreLoader`, `KeyStoreFileType`.

use super::super::config::tls::{StoreConfig, TlsKeys};
use super::certificate::Fields;
use super::{TlsError, jks, pem, pkcs12};
use der::asn1::{BitStringRef, OctetStringRef};
use der::{AnyRef, Decode, Encode};
use pkcs8::PrivateKeyInfoRef;
use pkcs8::spki::SubjectPublicKeyInfoRef;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::path::Path;
use std::sync::Arc;

/// No store is larger, whatever file is named.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What is in a file.
#[derive(Debug, Default)]
pub struct Store {
    pub keys: Vec<PrivateKeyDer<'static>>,
    pub certificates: Vec<Certificate>,
    pub crls: Vec<CertificateRevocationListDer<'static>>,
}

#[derive(Debug)]
pub struct Certificate {
    pub der: CertificateDer<'static>,
    /// Whether it is there to be trusted, and not to complete a key's chain.
    pub is_trusted: bool,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pem,
    /// JKS or PKCS#12.
    Java,
}

/// The keys of the key store that `keys` names, each with its certificates, the own one first.
pub fn key_store(keys: &TlsKeys) -> Result<Vec<Arc<CertifiedKey>>, TlsError> {
    const REMEDY: &str = "name the file with the server's key and certificate (JKS, PKCS12 or PEM)";
    let found = load(keys, &keys.key_store, "keyStore", REMEDY)?;
    let fail = |reason: &str| fail(keys, &keys.key_store, "keyStore", reason.to_owned());
    if found.keys.is_empty() {
        return Err(fail("no private key is in it"));
    }
    let mut certified = Vec::new();
    let mut last = String::new();
    for key in &found.keys {
        match certify(key, &found.certificates) {
            Ok(key) => certified.push(Arc::new(key)),
            Err(reason) => last = reason,
        }
    }
    // As Java, which leaves aside what it cannot use.
    if certified.is_empty() { Err(fail(&last)) } else { Ok(certified) }
}

/// The trust store that `keys` names.
pub fn trust_store(keys: &TlsKeys) -> Result<Store, TlsError> {
    const REMEDY: &str = "name the file with the certificates that clients' ones are signed with, or ask for none by \
                          clientAuth=none";
    let mut store = load(keys, &keys.trust_store, "trustStore", REMEDY)?;
    store.certificates.retain(|certificate| certificate.is_trusted);
    if store.certificates.is_empty() {
        return Err(fail(keys, &keys.trust_store, "trustStore", "no certificate is in it".to_owned()));
    }
    Ok(store)
}

fn load(keys: &TlsKeys, config: &StoreConfig, name: &str, remedy: &'static str) -> Result<Store, TlsError> {
    let key = |last: &str| format!("{}{name}.{last}", keys.prefix);
    let Some(path) = &config.location else {
        return Err(TlsError::Missing { key: key("location"), remedy });
    };
    let password = match &config.password_path {
        Some(path) => {
            let secret = String::from_utf8(read(&key("passwordPath"), path)?);
            let secret = secret.map_err(|_| TlsError::Store {
                key: key("passwordPath"),
                path: path.clone(),
                reason: "no text".to_owned(),
            })?;
            secret.trim_end_matches(['\r', '\n']).to_owned()
        }
        None => config.password.clone(),
    };
    let bytes = read(&key("location"), path)?;
    let kind = match config.kind.as_deref().map(str::to_ascii_uppercase).as_deref() {
        Some("PEM") => Kind::Pem,
        Some("JKS" | "PKCS12") => Kind::Java,
        Some(kind) => {
            let reason = if kind == "BCFKS" {
                "not supported: convert it by keytool -importkeystore with -deststoretype PKCS12"
            } else {
                "JKS, PKCS12 or PEM is needed"
            };
            return Err(TlsError::Setting { key: key("type"), value: kind.to_owned(), reason: reason.to_owned() });
        }
        None => kind_of(path, &bytes),
    };
    let parsed = match kind {
        Kind::Pem => pem::parse(&bytes, &password),
        Kind::Java if bytes.starts_with(&jks::MAGIC) => jks::parse(&bytes, &password),
        Kind::Java => pkcs12::parse(&bytes, &password),
    };
    parsed.map_err(|reason| fail(keys, config, name, reason))
}

fn fail(keys: &TlsKeys, config: &StoreConfig, name: &str, reason: String) -> TlsError {
    let path = config.location.clone().unwrap_or_default();
    TlsError::Store { key: format!("{}{name}.location", keys.prefix), path, reason }
}

/// By the file's name; Apache gives up at another one, here the contents tell.
fn kind_of(path: &Path, bytes: &[u8]) -> Kind {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("pem") => Kind::Pem,
        Some("jks" | "p12") => Kind::Java,
        // The first byte of a JKS file, and of any ASN.1 structure.
        _ if matches!(bytes.first(), Some(0xFE | 0x30)) => Kind::Java,
        _ => Kind::Pem,
    }
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let fail = |source| TlsError::Read { key: key.to_owned(), path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(fail)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, FILE_BYTES_MAX), &mut bytes).map_err(fail)?;
    Ok(bytes)
}

/// A key with its certificate and those above that, as far as they are there.
fn certify(key: &PrivateKeyDer<'static>, certificates: &[Certificate]) -> Result<CertifiedKey, String> {
    let all: Vec<_> =
        certificates.iter().filter_map(|certificate| Some((certificate, Fields::of(&certificate.der)?))).collect();
    // Keys of Java hold no public part; then it is tried whose they are.
    let completed = all.iter().filter_map(|(_, fields)| any_supported_type(&with_public(key, fields.public_key)?).ok());
    let key = any_supported_type(key).ok().or_else(|| completed.into_iter().next()).ok_or(
        "the private key cannot be used: RSA of 2048 to 4096 bits, ECDSA P-256 or P-384, or Ed25519 is needed, with its \
         certificate beside it",
    )?;
    let public = key.public_key().ok_or("the private key has no public part")?;
    let own = all.iter().find(|(_, fields)| fields.public_key == public.as_ref());
    let mut last = own.ok_or("no certificate is that of the private key")?;
    let mut chain = vec![last.0.der.clone()];
    while !last.1.is_self_issued()
        && let Some(above) = all.iter().find(|(_, fields)| fields.subject == last.1.issuer)
        && !chain.contains(&above.0.der)
    {
        chain.push(above.0.der.clone());
        last = above;
    }
    Ok(CertifiedKey::new(chain, key))
}

/// RFC 5915.
#[derive(der::Sequence)]
struct EcPrivateKey<'a> {
    version: u8,
    private_key: &'a OctetStringRef,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    parameters: Option<AnyRef<'a>>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    public_key: Option<BitStringRef<'a>>,
}

/// An elliptic curve's key with the public part that ring wants in it; ring finds out whether they belong together.
/// `None`: it is of another kind, or has one.
fn with_public(key: &PrivateKeyDer<'_>, public: &[u8]) -> Option<PrivateKeyDer<'static>> {
    let PrivateKeyDer::Pkcs8(key) = key else { return None };
    let mut outer = PrivateKeyInfoRef::from_der(key.secret_pkcs8_der()).ok()?;
    let public = SubjectPublicKeyInfoRef::from_der(public).ok()?;
    if outer.algorithm != public.algorithm {
        return None;
    }
    let mut inner = EcPrivateKey::from_der(outer.private_key.as_bytes()).ok()?;
    if inner.public_key.replace(public.subject_public_key).is_some() {
        return None;
    }
    let inner = inner.to_der().ok()?;
    outer.private_key = OctetStringRef::new(&inner).ok()?;
    Some(PrivatePkcs8KeyDer::from(outer.to_der().ok()?).into())
}
