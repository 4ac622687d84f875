//! Access control: who may do what to a znode, and which lists a client may store.
//!
//! The schemes that every server has: `world`, `auth` (only in requests, replaced by the client's own ids), `digest`
//! and `ip`. Ids of scheme `super` pass every check. There is no inheritance: each node has a list of its own.
//!
//! ZooKeeper: `ZooKeeperServer.checkACL`, `PrepRequestProcessor.fixupACL`, the authentication providers.

use crate::records::{Acl, ErrorCode, Id, RequestAcl};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether a connection with `ids` has one of the permissions of `perm` (bits) under `acl`.
pub fn allows(acl: &[Acl], ids: &[Id], perm: i32) -> bool {
    let matches_one = |entry: &Acl| is_anyone(&entry.id) || ids.iter().any(|id| matches(&entry.id, id));
    acl.is_empty()
        || acl.iter().any(|entry| entry.perms & perm != 0 && matches_one(entry))
        || ids.iter().any(|id| id.scheme == "super")
}

fn is_anyone(id: &Id) -> bool {
    id.scheme == "world" && id.id == "anyone"
}

/// Whether the connection's `id` is one that the entry's id means.
fn matches(entry: &Id, id: &Id) -> bool {
    entry.scheme == id.scheme
        && match entry.scheme.as_str() {
            "ip" => matches_address(&entry.id, &id.id),
            "digest" => entry.id == id.id,
            _ => false, // No provider for it.
        }
}

/// Whether `address` lies in `network` (`10.0.0.1`, `10.0.0.0/8`): of one family, equal in the network's bits.
fn matches_address(network: &str, address: &str) -> bool {
    let Some((network, bits)) = parse_network(network) else {
        return false;
    };
    let Some(address) = parse_address(address) else {
        return false;
    };
    let mask = |address: u128| if bits == 0 { 0 } else { address >> (128 - bits) };
    network.bytes == address.bytes && mask(network.value) == mask(address.value)
}

struct Address {
    /// In the topmost bits.
    value: u128,
    /// 4 or 16.
    bytes: u32,
}

fn parse_address(text: &str) -> Option<Address> {
    if text.contains(':') {
        let address: Ipv6Addr = text.parse().ok()?;
        return Some(Address { value: address.into(), bytes: 16 });
    }
    // Not std's parser, which refuses leading zeros.
    let mut bytes = [0; 4];
    let mut parts = text.split('.');
    for byte in &mut bytes {
        *byte = parts.next()?.parse().ok()?;
    }
    let value = u128::from(u32::from(Ipv4Addr::from(bytes))) << 96;
    parts.next().is_none().then_some(Address { value, bytes: 4 })
}

/// An address and the bits of it that count: those behind the slash, or all.
fn parse_network(text: &str) -> Option<(Address, u32)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (parse_address(address)?, Some(bits.parse().ok()?)),
        None => (parse_address(text)?, None),
    };
    let all = address.bytes * 8;
    let bits = bits.unwrap_or(all);
    (bits <= all).then_some((address, bits))
}

/// Whether an id may stand in a list that is stored.
fn is_valid(scheme: &str, id: &str) -> bool {
    match scheme {
        "world" => id == "anyone",
        "ip" => parse_network(id).is_some(),
        "digest" => {
            // Two parts, as Java's split sees them: empty ones at the end do not count.
            let kept = id.trim_end_matches(':');
            kept.split(':').count() == 2
        }
        _ => false,
    }
}

/// Whether ids of this scheme tell who somebody is; an address does not.
fn is_authenticated(scheme: &str) -> bool {
    scheme == "digest"
}

/// The list to store for the list of a create or setACL: duplicates dropped, `auth` replaced by the client's own
/// `ids`; else `InvalidAcl`.
pub fn fix_up(acl: Option<&[RequestAcl]>, ids: &[Id]) -> Result<Vec<Acl>, ErrorCode> {
    let Some(acl) = acl.filter(|acl| !acl.is_empty()) else {
        return Err(ErrorCode::InvalidAcl);
    };
    let mut fixed = Vec::with_capacity(acl.len());
    let mut seen = BTreeSet::new();
    for &RequestAcl { perms, ref scheme, ref id } in acl {
        if !seen.insert((perms, scheme, id)) {
            continue;
        }
        match (scheme.as_deref(), id.as_deref()) {
            (Some("auth"), _) => {
                let own = ids.iter().filter(|id| is_authenticated(&id.scheme));
                let before = fixed.len();
                fixed.extend(own.map(|id| Acl { perms, id: id.clone() }));
                if fixed.len() == before {
                    return Err(ErrorCode::InvalidAcl);
                }
            }
            (Some(scheme), Some(id)) if is_valid(scheme, id) => fixed.push(Acl { perms, id: Id::new(scheme, id) }),
            _ => return Err(ErrorCode::InvalidAcl),
        }
    }
    Ok(fixed)
}

/// The id of scheme `digest` for the authentication text `user:password`: `user:base64(sha1(text))`.
pub fn digest_id(auth: &str) -> String {
    let user = auth.split(':').next().unwrap_or_default();
    format!("{user}:{}", STANDARD.encode(Sha1::digest(auth.as_bytes())))
}

/// `acl` for somebody without ADMIN: the hashes of `digest` ids are replaced by `x`.
pub fn mask(acl: &[Acl]) -> Vec<Acl> {
    let mask_one = |entry: &Acl| {
        let mut entry = entry.clone();
        if entry.id.scheme == "digest"
            && let Some(colon) = entry.id.id.find(':')
        {
            entry.id.id.replace_range(colon.., ":x");
        }
        entry
    };
    acl.iter().map(mask_one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::perms::{ADMIN, ALL, READ, WRITE};

    fn acl(perms: i32, scheme: &str, id: &str) -> Acl {
        Acl { perms, id: Id::new(scheme, id) }
    }

    fn request(perms: i32, scheme: &str, id: &str) -> RequestAcl {
        RequestAcl { perms, scheme: Some(scheme.into()), id: Some(id.into()) }
    }

    #[test]
    fn a_permission_needs_an_entry_with_the_bit_and_a_matching_id() {
        let bob = Id::new("digest", "bob:x");
        let list = [acl(READ, "world", "anyone"), acl(WRITE, "digest", "bob:x")];
        assert!(allows(&list, &[], READ));
        assert!(!allows(&list, &[], WRITE));
        assert!(allows(&list, std::slice::from_ref(&bob), WRITE));
        assert!(!allows(&list, std::slice::from_ref(&bob), ADMIN));
        assert!(!allows(&[acl(ALL, "ip", "bob:x")], &[bob], READ), "another scheme");
        assert!(!allows(&[acl(0, "world", "anyone")], &[], ALL));
    }

    #[test]
    fn an_empty_list_allows_and_super_is_always_allowed() {
        assert!(allows(&[], &[], ALL));
        assert!(allows(&[acl(0, "digest", "a:b")], &[Id::new("super", "")], ADMIN));
    }

    #[test]
    fn addresses_match_by_the_bits_of_the_network_within_a_family() {
        for (network, address, expected) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("10.0.0.0/8", "10.200.3.4", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.1.2.3/0", "99.9.9.9", true),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("::1", "0:0:0:0:0:0:0:1", true),
            ("fe80::/10", "fe80::1", true),
            ("::/0", "1.2.3.4", false),
            ("0.0.0.0/0", "::1", false),
        ] {
            let list = [acl(ALL, "ip", network)];
            assert_eq!(allows(&list, &[Id::new("ip", address)], READ), expected, "{network} {address}");
        }
    }

    #[test]
    fn only_well_formed_ids_of_known_schemes_may_be_stored() {
        for (scheme, id, valid) in [
            ("world", "anyone", true),
            ("world", "someone", false),
            ("digest", "a:b", true),
            ("digest", ":b", true),
            ("digest", "a:b:", true),
            ("digest", "a:b:c", false),
            ("digest", "a", false),
            ("digest", "a:", false),
            ("digest", "", false),
            ("digest", ":", false),
            ("ip", "10.0.0.1", true),
            ("ip", "10.0.0.1/32", true),
            ("ip", "10.0.0.1/33", false),
            ("ip", "10.0.0.1/-1", false),
            ("ip", "10.0.0", false),
            ("ip", "10.0.0.1.2", false),
            ("ip", "10.0.0.256", false),
            ("ip", "::1/128", true),
            ("ip", "::1/129", false),
            ("super", "", false),
            ("sasl", "bob", false),
            ("nonsense", "x", false),
        ] {
            let expected = if valid { Ok(vec![acl(1, scheme, id)]) } else { Err(ErrorCode::InvalidAcl) };
            assert_eq!(fix_up(Some(&[request(1, scheme, id)]), &[]), expected, "{scheme} {id:?}");
        }
    }

    #[test]
    fn an_empty_or_null_list_is_invalid_and_so_is_a_null_id() {
        assert_eq!(fix_up(None, &[]), Err(ErrorCode::InvalidAcl));
        assert_eq!(fix_up(Some(&[]), &[]), Err(ErrorCode::InvalidAcl));
        let null = RequestAcl { perms: 1, scheme: None, id: None };
        assert_eq!(fix_up(Some(&[null]), &[]), Err(ErrorCode::InvalidAcl));
        let null = RequestAcl { perms: 1, scheme: Some("digest".into()), id: None };
        assert_eq!(fix_up(Some(&[null]), &[]), Err(ErrorCode::InvalidAcl));
    }

    #[test]
    fn duplicates_are_dropped_and_the_order_stays() {
        let (a, b) = (request(1, "digest", "a:a"), request(2, "world", "anyone"));
        let fixed = fix_up(Some(&[a.clone(), b.clone(), a]), &[]).unwrap();
        assert_eq!(fixed, [acl(1, "digest", "a:a"), acl(2, "world", "anyone")]);
    }

    #[test]
    fn auth_stands_for_all_authenticated_ids_of_the_client() {
        let ids =
            [Id::new("ip", "127.0.0.1"), Id::new("digest", "a:1"), Id::new("super", ""), Id::new("digest", "b:2")];
        let auth = [RequestAcl { perms: 3, scheme: Some("auth".into()), id: None }];
        assert_eq!(fix_up(Some(&auth), &ids).unwrap(), [acl(3, "digest", "a:1"), acl(3, "digest", "b:2")]);
        assert_eq!(fix_up(Some(&auth), &ids[..1]), Err(ErrorCode::InvalidAcl));
    }

    #[test]
    fn digest_ids_are_those_of_zookeeper() {
        assert_eq!(digest_id("user:pass"), "user:smGaoVKd/cQkjm7b88GyorAUz20=");
        assert!(digest_id("nocolon").starts_with("nocolon:"));
    }

    #[test]
    fn masking_hides_digests_only() {
        let list = [acl(1, "digest", "user:hash"), acl(1, "ip", "10.0.0.1")];
        assert_eq!(mask(&list), [acl(1, "digest", "user:x"), acl(1, "ip", "10.0.0.1")]);
    }
}
