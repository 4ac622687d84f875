//! A certificate's subject as text: to the letter what Java's `getSubjectX500Principal().getName()` gives, since ACLs and
//! super users are compared with it.
//!
//! RFC 2253: the last part first; nine attributes by name, all others as `1.2.3=#` and the value's bytes in hex.

use super::certificate::Fields;
use der::asn1::ObjectIdentifier;
use der::{AnyRef, Decode, Encode, Reader, SliceReader, Tag, Tagged};

/// The attributes that RFC 2253 names. Java prints no other by name in this form, `emailAddress` neither.
const KEYWORDS: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
];

/// The subject of a certificate. `None`: it is no certificate, or its subject holds something that nobody uses in one
/// (such as an ASN.1 UniversalString).
pub fn subject(certificate: &[u8]) -> Option<String> {
    name(Fields::of(certificate)?.subject)
}

/// A `Name`.
fn name(der: &[u8]) -> Option<String> {
    let mut parts =
        children(AnyRef::from_der(der).ok()?)?.into_iter().map(relative_name).collect::<Option<Vec<_>>>()?;
    parts.reverse();
    Some(parts.join(","))
}

/// A `RelativeDistinguishedName`: one attribute, seldom several, in the order of the certificate.
fn relative_name(set: AnyRef<'_>) -> Option<String> {
    let attributes = children(set)?.into_iter().map(attribute).collect::<Option<Vec<_>>>()?;
    Some(attributes.join("+"))
}

fn attribute(sequence: AnyRef<'_>) -> Option<String> {
    let [kind, value] = children(sequence)?.try_into().ok()?;
    let oid = kind.decode_as::<ObjectIdentifier>().ok()?.to_string();
    let keyword = KEYWORDS.iter().find(|(known, _)| *known == oid).map(|(_, keyword)| *keyword);
    // The kinds that Java takes for text, and it takes the bytes of all of them for UTF-8.
    let is_text = matches!(
        value.tag(),
        Tag::PrintableString
            | Tag::Utf8String
            | Tag::Ia5String
            | Tag::TeletexString
            | Tag::GeneralString
            | Tag::BmpString
    );
    Some(match keyword {
        Some(keyword) if is_text => format!("{keyword}={}", escaped(&String::from_utf8_lossy(value.value()))),
        _ => {
            let digits: String = value.to_der().ok()?.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{}=#{digits}", keyword.unwrap_or(&oid))
        }
    })
}

/// Java's escaping: a backslash before special characters and before each blank at an end.
fn escaped(text: &str) -> String {
    let is_blank = |c: char| matches!(c, ' ' | '\r');
    let lead = text.len() - text.trim_start_matches(is_blank).len();
    let trail = text.trim_end_matches(is_blank).len();
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        match c {
            '\0' => out.push_str("\\00"),
            ',' | '=' | '+' | '<' | '>' | '#' | ';' | '"' | '\\' => out.extend(['\\', c]),
            _ if is_blank(c) && (at < lead || at >= trail) => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out
}

pub(super) fn children<'a>(any: AnyRef<'a>) -> Option<Vec<AnyRef<'a>>> {
    let mut reader = SliceReader::new(any.value()).ok()?;
    let mut children = Vec::new();
    while !reader.is_finished() {
        children.push(AnyRef::decode(&mut reader).ok()?);
    }
    Some(children)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/testdata/tls/names.txt` was written by Java, from the certificates themselves.
    #[test]
    fn subjects_are_written_as_java_writes_them() {
        let text = std::fs::read_to_string("tests/testdata/tls/names.txt").unwrap();
        let mut count = 0;
        let bytes = |hex: &str| -> Vec<u8> {
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
        };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let [der, expected, _] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            let expected = String::from_utf8(bytes(expected)).unwrap();
            assert_eq!(name(&bytes(der)), Some(expected), "{line}");
            count += 1;
        }
        assert!(count >= 20, "only {count} names");
    }

    #[test]
    fn bytes_that_are_no_name_have_no_text() {
        for bytes in [&b""[..], b"\x30", b"\x30\x05\x31\x03\x30\x01\x06", b"\x30\x02\x05\x00\x01"] {
            assert_eq!(name(bytes), None, "{bytes:02x?}");
        }
        assert_eq!(subject(b"no certificate"), None);
        assert_eq!(name(b"\x30\x00").as_deref(), Some(""));
    }
}
