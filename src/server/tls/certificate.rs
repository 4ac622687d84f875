//! The few fields of a certificate that rustls does not tell.
//!
//! Only found, not judged: whether a certificate is good is decided by rustls.

use super::names::children;
use der::asn1::{GeneralizedTime, ObjectIdentifier, UtcTime};
use der::{AnyRef, Decode, Reader, SliceReader, Tag, Tagged};
use std::time::Duration;

/// Parts of a certificate; slices of its bytes, each with its tag and length.
#[derive(Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    pub issuer: &'a [u8],
    pub subject: &'a [u8],
    /// SubjectPublicKeyInfo.
    pub public_key: &'a [u8],
    /// Since 1970 UTC.
    pub not_before: Duration,
    pub not_after: Duration,
}

impl<'a> Fields<'a> {
    /// `None`: these bytes are no certificate.
    pub fn of(certificate: &'a [u8]) -> Option<Fields<'a>> {
        let signed = AnyRef::from_der(certificate).ok()?;
        let body = AnyRef::decode(&mut SliceReader::new(signed.value()).ok()?).ok()?;
        let mut fields = SliceReader::new(body.value()).ok()?;
        let mut next = || fields.tlv_bytes().ok();
        // The version is left out in version 1.
        let first = next()?;
        if !matches!(AnyRef::from_der(first).ok()?.tag(), Tag::Integer) {
            next()?; // The serial number.
        }
        next()?; // The algorithm of the signature.
        let issuer = next()?;
        let validity = AnyRef::from_der(next()?).ok()?;
        let (subject, public_key) = (next()?, next()?);
        let mut times = SliceReader::new(validity.value()).ok()?;
        let mut time = || time(AnyRef::decode(&mut times).ok()?);
        Some(Fields { issuer, subject, public_key, not_before: time()?, not_after: time()? })
    }

    /// Whether it is its own issuer.
    pub fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }
}

/// The DNS names of a certificate's alternative names; `None`: it has none at all, and its subject names it.
pub fn alternative_names(certificate: &[u8]) -> Option<Vec<String>> {
    let signed = AnyRef::from_der(certificate).ok()?;
    let body = AnyRef::decode(&mut SliceReader::new(signed.value()).ok()?).ok()?;
    let number = |any: &AnyRef<'_>| match any.tag() {
        Tag::ContextSpecific { number, .. } => Some(number.value()),
        _ => None,
    };
    let extensions = children(body)?.into_iter().find(|field| number(field) == Some(3))?;
    for extension in children(AnyRef::from_der(extensions.value()).ok()?)? {
        let parts = children(extension)?;
        let (kind, value) = (parts.first()?, parts.last()?);
        if kind.decode_as::<ObjectIdentifier>().ok()? == ALTERNATIVE_NAMES {
            let names = children(AnyRef::from_der(value.value()).ok()?)?.into_iter();
            let dns = names.filter(|name| number(name) == Some(2));
            return Some(dns.map(|name| String::from_utf8_lossy(name.value()).into_owned()).collect());
        }
    }
    None
}

const ALTERNATIVE_NAMES: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");

fn time(any: AnyRef<'_>) -> Option<Duration> {
    match any.tag() {
        Tag::UtcTime => Some(any.decode_as::<UtcTime>().ok()?.to_unix_duration()),
        Tag::GeneralizedTime => Some(any.decode_as::<GeneralizedTime>().ok()?.to_unix_duration()),
        _ => None,
    }
}
