//! The few fields of a certificate that rustls does not tell.
//!
//! Only found, not judged: whether a certificate is good is decided by rustls.

use der::asn1::{GeneralizedTime, UtcTime};
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

fn time(any: AnyRef<'_>) -> Option<Duration> {
    match any.tag() {
        Tag::UtcTime => Some(any.decode_as::<UtcTime>().ok()?.to_unix_duration()),
        Tag::GeneralizedTime => Some(any.decode_as::<GeneralizedTime>().ok()?.to_unix_duration()),
        _ => None,
    }
}
