//! Names as other systems write them, where they are ids: X.500 names (scheme `x509`) and Kerberos principals (`sasl`).
//!
//! Only whether a text is one is asked here: ids are compared as they are written. ZooKeeper: `X500Principal` and
//! `KerberosName`, whose constructors refuse what is none.

/// Whether Java takes `text` for an X.500 name: `CN=a+UID=b, O="c, d"`, with commas or semicolons.
pub(super) fn is_x500(text: &str) -> bool {
    text.is_empty() || split(text, &[',', ';']).iter().all(|rdn| split(rdn, &['+']).iter().all(|ava| is_ava(ava)))
}

/// Whether `text` is a principal: `service`, `service@REALM` or `service/host@REALM`, or anything without an `@`.
pub(super) fn is_principal(text: &str) -> bool {
    let mut parts = text.split('@');
    let (Some(name), realm, None) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    realm.is_none_or(|realm| !realm.contains('/') && name.split('/').count() <= 2)
}

/// The parts between `separators` that are neither quoted nor behind a backslash.
fn split<'a>(text: &'a str, separators: &[char]) -> Vec<&'a str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(|c| {
        let is_end = !is_quoted && !is_escaped && separators.contains(&c);
        is_quoted ^= c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    })
    .collect()
}

/// An attribute and its value: `CN=a`.
fn is_ava(text: &str) -> bool {
    let Some((keyword, value)) = text.split_once('=') else {
        return false;
    };
    is_attribute(keyword.trim()) && is_value(value.trim_start_matches([' ', '\n']))
}

/// A keyword that Java knows, or an object identifier.
fn is_attribute(keyword: &str) -> bool {
    const KEYWORDS: [&str; 21] = [
        "C",
        "CN",
        "DC",
        "DNQ",
        "DNQUALIFIER",
        "EMAIL",
        "EMAILADDRESS",
        "GENERATION",
        "GIVENNAME",
        "INITIALS",
        "IP",
        "L",
        "O",
        "OU",
        "S",
        "SERIALNUMBER",
        "ST",
        "STREET",
        "SURNAME",
        "T",
        "UID",
    ];
    let keyword = keyword.to_uppercase();
    KEYWORDS.contains(&keyword.as_str()) || is_object_identifier(keyword.strip_prefix("OID.").unwrap_or(&keyword))
}

fn is_object_identifier(text: &str) -> bool {
    let numbers: Vec<&str> = text.split('.').collect();
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !numbers.iter().all(is_number) {
        return false;
    }
    match numbers[..] {
        [first, second, ..] => match first.parse() {
            Ok(0..=1) => second.parse().is_ok_and(|second: u32| second < 40),
            Ok(first) => first == 2,
            Err(_) => false,
        },
        _ => false,
    }
}

fn is_value(text: &str) -> bool {
    if let Some(hex) = text.strip_prefix('#') {
        return is_encoded(hex);
    }
    match text.strip_prefix('"') {
        None => unescaped(text, " ").is_some_and(|plain| !plain.contains([',', '+', '<', '>', ';', '"'])),
        Some(rest) => {
            let mut is_escaped = false;
            let end = rest.find(|c| {
                let is_end = c == '"' && !is_escaped;
                is_escaped = c == '\\' && !is_escaped;
                is_end
            });
            end.is_some_and(|end| {
                unescaped(&rest[..end], "").is_some() && rest[end + 1..].trim_matches([' ', '\n']).is_empty()
            })
        }
    }
}

/// `text` without what stands behind backslashes; `None` where Java lets no backslash be. `also`: may be escaped, too.
fn unescaped(text: &str, also: &str) -> Option<String> {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        let escaped = chars.next()?;
        if escaped.is_ascii_hexdigit() {
            chars.next().filter(char::is_ascii_hexdigit)?; // A byte as two digits.
        } else if !",=\n+<>#;\\\"".contains(escaped) && !also.contains(escaped) {
            return None;
        }
    }
    Some(plain)
}

/// Hexadecimal digits of one value in DER: a tag, the length of what follows, and that.
fn is_encoded(hex: &str) -> bool {
    if !hex.len().is_multiple_of(2) || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return false;
    }
    let byte = |at: usize| hex.get(2 * at..2 * at + 2).and_then(|digits| usize::from_str_radix(digits, 16).ok());
    let len = hex.len() / 2;
    match byte(1) {
        Some(short @ 0..=0x7f) => len == 2 + short,
        Some(long @ 0x81..=0x84) => {
            let bytes = long - 0x80;
            let content = (2..2 + bytes).try_fold(0, |sum, at| Some(sum * 256 + byte(at)?));
            content.is_some_and(|content| len == 2 + bytes + content)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn x500_names_are_those_of_java() {
        for (name, expected) in JAVA {
            assert_eq!(is_x500(name), *expected, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn no_name_panics(name in "[CNOUa.0-9=,;+#\"\\\\ é@/]{0,40}") {
            let _ = (is_x500(&name), is_x500(&format!("CN={name}")), is_x500(&format!("CN=#{name}")), is_principal(&name));
        }
    }

    #[test]
    fn principals_have_one_realm_and_one_host_at_most() {
        for (name, expected) in [
            ("bob", true),
            ("", true),
            ("a/b/c", true),
            ("bob@REALM", true),
            ("bob/host@REALM", true),
            ("@", true),
            ("a/b/c@REALM", false),
            ("a@b@c", false),
            ("a@b/c", false),
        ] {
            assert_eq!(is_principal(name), expected, "{name:?}");
        }
    }

    /// What `new X500Principal(name)` of Java 17 takes.
    const JAVA: &[(&str, bool)] = &[
        ("", true),
        (" ", false),
        ("CN=a", true),
        ("cn=a", true),
        ("CN=a,O=b", true),
        ("CN=a, O=b", true),
        ("CN=a;O=b", true),
        ("CN=a+OU=b", true),
        ("CN=", true),
        ("CN=a,", false),
        (",CN=a", false),
        ("a", false),
        ("=a", false),
        ("FOO=a", false),
        ("1.2.3=a", true),
        ("OID.1.2.3=a", true),
        ("oid.1.2.3.4=a", true),
        ("2.5.4.3=a", true),
        ("9.9=a", false),
        ("1=a", false),
        ("1.2=a", true),
        ("1.2.x=a", false),
        ("1..2=a", false),
        ("CN=a\\,b", true),
        ("CN=\"a,b\"", true),
        ("CN=\"a", false),
        ("CN=a\"b", false),
        ("CN=a\\", false),
        ("CN=a\\zb", false),
        ("CN=a\\41", true),
        ("CN=#0401", false),
        ("CN=#040", false),
        ("CN=#", false),
        ("CN=#zz", false),
        ("CN=a<b", false),
        ("CN=a=b", true),
        ("CN=a#b", true),
        ("CN= #0c0161", true),
        ("CN=a\\#b", true),
        ("CN=a\\ b", true),
        ("CN=a\\=b", true),
        ("CN=\u{e9}", true),
        ("EMAILADDRESS=a@b.c", true),
        ("E=a@b", false),
        ("DC=x,DC=y", true),
        ("UID=u", true),
        (
            "L=x,ST=y,C=DE,STREET=s,T=t,SERIALNUMBER=1,DNQ=q,DNQUALIFIER=q,SURNAME=s,GIVENNAME=g,INITIALS=i,GENERATION=g,IP=1,S=s,EMAIL=e",
            true,
        ),
        ("SN=x", false),
        ("bob", false),
        ("CN=a++O=b", false),
        ("CN=a+", false),
        ("CN = a", true),
        (" CN=a ", true),
        ("C N=a", false),
        ("CN=\"a\" b", false),
        ("CN=\"a\"  ", true),
        ("CN=\"a\\\"b\"", true),
        ("CN=a\nb", true),
        ("CN=a\\\nb", true),
        ("CN=a,\nO=b", true),
        ("CN=\"a\\zb\"", false),
        ("CN=a>", false),
        ("CN=\\41\\42", true),
        ("CN=\\4", false),
        ("CN=\\e4\\f6", true),
        ("CN=a,,O=b", false),
        ("CN=\"a+b\"+O=c", true),
        ("CN=\\\"a,O=b\\\"", true),
        ("CN=a\\+b", true),
        ("1.2.840.113549.1.9.1=#160161", true),
        ("OID.=a", false),
        ("OID.CN=a", false),
        ("C=DEU", true),
        ("C=\u{e9}", true),
        ("DC=\u{e9}", true),
        ("CN=\"\"", true),
        ("0.40=a", false),
        ("3.1=a", false),
        ("2.999=a", true),
        ("1.40=a", false),
        ("-1.2=a", false),
        ("01.2.3=a", true),
        ("1.2.3.=a", false),
        ("CN=\"a,b", false),
        ("CN=\"a\"b\"", false),
        ("CN=#0401,O=b", false),
        ("CN=#0401 ", false),
        ("CN=#04 01", false),
        ("CN=#05", false),
        ("CN=#0400", true),
        ("CN=#0501", false),
        ("CN=\\ a", true),
        ("CN=a\\ ", true),
        ("CN=a;", false),
        ("CN=\"a;b\";O=x", true),
        ("CN=a\\;b", true),
        ("ou=a=b,cn=\"x\"+ou=y", true),
    ];
}
