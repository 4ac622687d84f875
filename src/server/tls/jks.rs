//! Java's own key store, `JKS`: read only.
//!
//! No crate: the one there is brings a second PKCS#12 reader and older versions of what is here already, for these few
//! lines. Big-endian throughout: magic, version, entries (key or certificate, alias, time, contents), then SHA-1 over the
//! password and everything before. A key is hidden by XOR with a chain of SHA-1s over password and salt.
//!
//! Java: `sun.security.provider.JavaKeyStore`, `KeyProtector`.

use super::stores::{Certificate, Store};
use der::asn1::{ObjectIdentifier, OctetStringRef};
use der::{AnyRef, Decode, Reader, SliceReader};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha1::{Digest, Sha1};

pub const MAGIC: [u8; 4] = 0xFEED_FEED_u32.to_be_bytes();
/// What Java puts between the password and the contents.
const SALT_OF_THE_SEAL: &[u8] = b"Mighty Aphrodite";
const SHA1_BYTES: usize = 20;
const KEY_PROTECTOR: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.42.2.17.1.1");

const TORN: &str = "the file is cut off or damaged";
const WRONG_PASSWORD: &str = "the password is not the file's, or the file is damaged";

/// The contents of a file. Without a password certificates are read and the seal is not checked, as Java does.
pub fn parse(file: &[u8], password: &str) -> Result<Store, String> {
    let mut left = file.strip_prefix(&MAGIC).ok_or("no JKS file")?;
    let password: Vec<u8> = password.encode_utf16().flat_map(u16::to_be_bytes).collect();
    if !password.is_empty() {
        let (contents, seal) = file.split_last_chunk::<SHA1_BYTES>().ok_or(TORN)?;
        if sha1(&[&password, SALT_OF_THE_SEAL, contents]) != *seal {
            return Err(WRONG_PASSWORD.to_owned());
        }
    }
    let version = number(&mut left)?;
    if !matches!(version, 1 | 2) {
        return Err(format!("JKS version {version} is not known"));
    }
    let mut store = Store::default();
    for _ in 0..number(&mut left)? {
        let tag = number(&mut left)?;
        let alias = bytes_of_16(&mut left)?;
        take(&mut left, 8)?; // When it was made.
        match tag {
            1 => {
                let hidden = bytes(&mut left)?;
                let key = reveal(hidden, &password)
                    .ok_or_else(|| format!("the key {}: {WRONG_PASSWORD}", String::from_utf8_lossy(alias)))?;
                store.keys.push(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)));
                for n in 0..number(&mut left)? {
                    // The own certificate of a key is trusted, those above it are not.
                    store.certificates.push(certificate(&mut left, version, n == 0)?);
                }
            }
            2 => store.certificates.push(certificate(&mut left, version, true)?),
            _ => return Err(format!("an entry of the unknown kind {tag}")),
        }
    }
    if left.len() != SHA1_BYTES {
        return Err(TORN.to_owned());
    }
    Ok(store)
}

fn certificate(left: &mut &[u8], version: u32, is_trusted: bool) -> Result<Certificate, String> {
    if version == 2 {
        bytes_of_16(left)?; // Always `X.509`.
    }
    Ok(Certificate { der: CertificateDer::from(bytes(left)?.to_vec()), is_trusted })
}

/// The PKCS#8 key in an `EncryptedPrivateKeyInfo` of Java's own algorithm.
fn reveal(hidden: &[u8], password: &[u8]) -> Option<Vec<u8>> {
    let outer = AnyRef::from_der(hidden).ok()?;
    let mut fields = SliceReader::new(outer.value()).ok()?;
    let algorithm = AnyRef::decode(&mut fields).ok()?;
    let oid = ObjectIdentifier::decode(&mut SliceReader::new(algorithm.value()).ok()?).ok()?;
    let sealed = <&OctetStringRef>::decode(&mut fields).ok()?;
    if oid != KEY_PROTECTOR || !fields.is_finished() {
        return None;
    }
    let (salt, rest) = sealed.as_bytes().split_first_chunk::<SHA1_BYTES>()?;
    let (hidden, seal) = rest.split_last_chunk::<SHA1_BYTES>()?;
    let mut mask = *salt;
    let mut key = Vec::with_capacity(hidden.len());
    for block in hidden.chunks(SHA1_BYTES) {
        mask = sha1(&[password, &mask]);
        key.extend(block.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    }
    (sha1(&[password, &key]) == *seal).then_some(key)
}

fn sha1(parts: &[&[u8]]) -> [u8; SHA1_BYTES] {
    parts.iter().fold(Sha1::new(), |hash, part| hash.chain_update(part)).finalize().into()
}

fn take<'a>(left: &mut &'a [u8], n: usize) -> Result<&'a [u8], String> {
    let (taken, rest) = left.split_at_checked(n).ok_or(TORN)?;
    *left = rest;
    Ok(taken)
}

fn number(left: &mut &[u8]) -> Result<u32, String> {
    let (number, rest) = left.split_first_chunk::<4>().ok_or(TORN)?;
    *left = rest;
    Ok(u32::from_be_bytes(*number))
}

fn bytes<'a>(left: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let n = number(left)?;
    take(left, n as usize)
}

/// Java's `writeUTF`.
fn bytes_of_16<'a>(left: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let (n, rest) = left.split_first_chunk::<2>().ok_or(TORN)?;
    *left = rest;
    take(left, u16::from_be_bytes(*n).into())
}

#[cfg(test)]
mod tests {
    use super::super::test_files::{PASSWORD, file};
    use super::*;

    #[test]
    fn a_damaged_file_is_an_error_wherever_it_is_damaged() {
        let good = file("keystore.jks");
        assert_eq!(parse(&good, PASSWORD).unwrap().keys.len(), 1);
        for n in 0..good.len() {
            assert!(parse(&good[..n], PASSWORD).is_err(), "cut at {n}");
        }
        for at in (0..good.len()).step_by(7) {
            let mut bad = good.clone();
            bad[at] ^= 0x41;
            assert!(parse(&bad, PASSWORD).is_err(), "changed at {at}");
        }
    }

    #[test]
    fn without_a_password_certificates_are_read_and_keys_are_not() {
        assert_eq!(parse(&file("truststore.jks"), "").unwrap().certificates.len(), 1);
        assert_eq!(parse(&file("truststore.jks"), "wrong").unwrap_err(), WRONG_PASSWORD);
        assert!(parse(&file("keystore.jks"), "").unwrap_err().contains(WRONG_PASSWORD));
    }
}
