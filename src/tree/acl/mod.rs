//! Access control: who may do what to a znode, and which lists a client may store.
//!
//! `world` and `auth` (only in requests, replaced by the client's own ids) are always there; `digest`, `ip`, `x509` and
//! `sasl` as [`AclRules`] says. Ids of scheme `super` pass every check. There is no inheritance: each node has a list of
//! its own.
//!
//! ZooKeeper: `ZooKeeperServer.checkACL`, `PrepRequestProcessor.fixupACL`, the authentication providers.

mod address;
mod digest;
mod names;

pub use address::address_text;
pub use digest::{DigestAlgorithm, digest_id, digest_ids_equal};

use crate::records::{Acl, ErrorCode, Id, RequestAcl};
use std::collections::BTreeSet;

/// What ids mean on this server. All servers of an ensemble should agree; the default is Apache's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclRules {
    /// Every check is passed; lists are kept all the same. ZooKeeper: `skipACL=yes`.
    pub skip: bool,
    /// Whether there is the scheme `digest`.
    pub digest: bool,
    /// Whether ids of scheme `x509` may be in lists.
    pub x509: bool,
    /// Passes every entry of scheme `x509`. ZooKeeper: `X509AuthenticationProvider.superUser`.
    pub x509_superuser: Option<String>,
    /// Whether ids of scheme `sasl` may be in lists.
    pub sasl: bool,
    /// In a list it stands for everybody with an id of scheme `sasl`. ZooKeeper: `letAnySaslUserDoX`.
    pub any_sasl_user: Option<String>,
}

impl Default for AclRules {
    fn default() -> Self {
        AclRules { skip: false, digest: true, x509: false, x509_superuser: None, sasl: false, any_sasl_user: None }
    }
}

/// Whether a connection with `ids` has one of the permissions of `perm` (bits) under `acl`.
pub fn allows(rules: &AclRules, acl: &[Acl], ids: &[Id], perm: i32) -> bool {
    let matches_one = |entry: &Acl| is_anyone(&entry.id) || ids.iter().any(|id| rules.matches(&entry.id, id));
    acl.is_empty()
        || acl.iter().any(|entry| entry.perms & perm != 0 && matches_one(entry))
        || rules.skip
        || ids.iter().any(|id| id.scheme == "super")
}

fn is_anyone(id: &Id) -> bool {
    id.scheme == "world" && id.id == "anyone"
}

impl AclRules {
    /// Whether there are ids of this scheme.
    fn has(&self, scheme: &str) -> bool {
        match scheme {
            "ip" => true,
            "digest" => self.digest,
            "x509" => self.x509,
            "sasl" => self.sasl,
            _ => false,
        }
    }

    /// Whether the connection's `id` is one that the entry's id means.
    fn matches(&self, entry: &Id, id: &Id) -> bool {
        entry.scheme == id.scheme
            && self.has(&entry.scheme)
            && match entry.scheme.as_str() {
                "ip" => address::matches(&entry.id, &id.id),
                "digest" => digest_ids_equal(&entry.id, &id.id),
                "x509" => entry.id == id.id || self.x509_superuser.as_ref() == Some(&id.id),
                "sasl" => entry.id == id.id || id.id == "super" || self.any_sasl_user.as_ref() == Some(&entry.id),
                _ => false,
            }
    }

    /// Whether an id may stand in a list that is stored.
    fn is_valid(&self, scheme: &str, id: &str) -> bool {
        if scheme == "world" {
            return id == "anyone";
        }
        self.has(scheme)
            && match scheme {
                "ip" => address::is_valid(id),
                "digest" => digest::is_valid(id),
                "x509" => names::is_x500(id),
                "sasl" => names::is_principal(id),
                _ => false,
            }
    }

    /// Whether ids of this scheme tell who somebody is; an address does not.
    fn is_authenticated(&self, scheme: &str) -> bool {
        scheme != "ip" && self.has(scheme)
    }

    /// Who an id is, as far as everybody may know: a digest's user, nothing where there is no such scheme.
    /// ZooKeeper: `AuthUtil.getUser`.
    pub fn user<'a>(&self, id: &'a Id) -> &'a str {
        match id.scheme.as_str() {
            scheme if !self.has(scheme) => "",
            "digest" => digest::user_of(&id.id),
            _ => &id.id,
        }
    }
}

/// Bytes of ids that the entries `auth` of one list may stand for at most: a client has up to 64 KiB of them, and a list
/// can name them again and again.
const OWN_BYTES_MAX: usize = 1 << 20;

/// The list to store for the list of a create or setACL: duplicates dropped, `auth` replaced by the client's own
/// `ids`; else `InvalidAcl`, or `BadArguments` for what stands for too much.
pub fn fix_up(rules: &AclRules, acl: Option<&[RequestAcl]>, ids: &[Id]) -> Result<Vec<Acl>, ErrorCode> {
    let Some(acl) = acl.filter(|acl| !acl.is_empty()) else {
        return Err(ErrorCode::InvalidAcl);
    };
    let mut fixed = Vec::with_capacity(acl.len());
    let mut seen = BTreeSet::new();
    let own_bytes: usize = ids.iter().map(|id| id.scheme.len() + id.id.len()).sum();
    let mut own_bytes_left = OWN_BYTES_MAX;
    for &RequestAcl { perms, ref scheme, ref id } in acl {
        if !seen.insert((perms, scheme, id)) {
            continue;
        }
        match (scheme.as_deref(), id.as_deref()) {
            (Some("auth"), _) => {
                own_bytes_left = own_bytes_left.checked_sub(own_bytes).ok_or(ErrorCode::BadArguments)?;
                let own = ids.iter().filter(|id| rules.is_authenticated(&id.scheme));
                let before = fixed.len();
                fixed.extend(own.map(|id| Acl { perms, id: id.clone() }));
                if fixed.len() == before {
                    return Err(ErrorCode::InvalidAcl);
                }
            }
            (Some(scheme), Some(id)) if rules.is_valid(scheme, id) => {
                fixed.push(Acl { perms, id: Id::new(scheme, id) });
            }
            _ => return Err(ErrorCode::InvalidAcl),
        }
    }
    Ok(fixed)
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

    fn all_schemes() -> AclRules {
        AclRules { x509: true, sasl: true, ..AclRules::default() }
    }

    #[test]
    fn a_permission_needs_an_entry_with_the_bit_and_a_matching_id() {
        let bob = [Id::new("digest", "bob:x")];
        let list = [acl(READ, "world", "anyone"), acl(WRITE, "digest", "bob:x")];
        let allows = |list: &[Acl], ids: &[Id], perm| allows(&AclRules::default(), list, ids, perm);
        assert!(allows(&list, &[], READ));
        assert!(!allows(&list, &[], WRITE));
        assert!(allows(&list, &bob, WRITE));
        assert!(!allows(&list, &bob, ADMIN));
        assert!(allows(&list, &[], READ | ADMIN), "one of them is enough");
        assert!(!allows(&[acl(ALL, "ip", "bob:x")], &bob, READ), "another scheme");
        assert!(!allows(&[acl(ALL, "digest", "bob:y")], &bob, READ), "another hash");
        assert!(!allows(&[acl(0, "world", "anyone")], &[], ALL));
    }

    #[test]
    fn an_empty_list_allows_and_super_and_skip_acl_are_always_allowed() {
        let nobody = [acl(0, "digest", "a:b")];
        let rules = AclRules::default();
        assert!(allows(&rules, &[], &[], ALL));
        assert!(!allows(&rules, &nobody, &[], ADMIN));
        assert!(allows(&rules, &nobody, &[Id::new("super", "")], ADMIN));
        assert!(allows(&AclRules { skip: true, ..rules }, &nobody, &[], ADMIN));
    }

    /// ZooKeeper: the providers' `matches`. The rules, an entry's id, a connection's id.
    #[test]
    fn ids_match_by_the_rules_of_their_scheme() {
        let default = AclRules::default;
        let no_digest = AclRules { digest: false, ..default() };
        let x509_super = AclRules { x509_superuser: Some("CN=root".into()), ..all_schemes() };
        let any_sasl = AclRules { any_sasl_user: Some("everyone".into()), ..all_schemes() };
        for (rules, scheme, entry, id, expected) in [
            (default(), "ip", "10.0.0.0/8", "10.1.1.1", true),
            (default(), "ip", "10.0.0.0/8", "11.1.1.1", false),
            (default(), "digest", "a:b", "a:b", true),
            (no_digest, "digest", "a:b", "a:b", false),
            (default(), "x509", "CN=a", "CN=a", false),
            (all_schemes(), "x509", "CN=a", "CN=a", true),
            (all_schemes(), "x509", "CN=a", "cn=a", false),
            (all_schemes(), "x509", "CN=a", "CN=root", false),
            (x509_super.clone(), "x509", "CN=a", "CN=root", true),
            (x509_super, "x509", "CN=a", "CN=b", false),
            (default(), "sasl", "bob", "bob", false),
            (all_schemes(), "sasl", "bob", "bob", true),
            (all_schemes(), "sasl", "bob", "eve", false),
            (all_schemes(), "sasl", "bob", "super", true),
            (all_schemes(), "sasl", "everyone", "eve", false),
            (any_sasl.clone(), "sasl", "everyone", "eve", true),
            (any_sasl, "sasl", "bob", "eve", false),
            (default(), "super", "", "", true), // Whoever has it passes everything.
            (default(), "ensemble", "x", "x", false),
        ] {
            let allowed = allows(&rules, &[acl(READ, scheme, entry)], &[Id::new(scheme, id)], READ);
            assert_eq!(allowed, expected, "{scheme} {entry} {id} under {rules:?}");
        }
    }

    #[test]
    fn only_well_formed_ids_of_known_schemes_may_be_stored() {
        let no_digest = AclRules { digest: false, ..AclRules::default() };
        for (rules, scheme, id, valid) in [
            (AclRules::default(), "world", "anyone", true),
            (AclRules::default(), "world", "someone", false),
            (AclRules::default(), "digest", "a:b", true),
            (no_digest, "digest", "a:b", false),
            (AclRules::default(), "digest", ":b", true),
            (AclRules::default(), "digest", "a:b:", true),
            (AclRules::default(), "digest", "a:b:c", false),
            (AclRules::default(), "digest", "a", false),
            (AclRules::default(), "digest", "a:", false),
            (AclRules::default(), "digest", "", false),
            (AclRules::default(), "digest", ":", false),
            (AclRules::default(), "ip", "10.0.0.1/32", true),
            (AclRules::default(), "ip", "10.0.0.1/33", false),
            (AclRules::default(), "super", "", false),
            (AclRules::default(), "ensemble", "x", false),
            (AclRules::default(), "sasl", "bob", false),
            (all_schemes(), "sasl", "bob", true),
            (all_schemes(), "sasl", "bob/host@REALM", true),
            (all_schemes(), "sasl", "bob@a@b", false),
            (AclRules::default(), "x509", "CN=a", false),
            (all_schemes(), "x509", "CN=a,O=b", true),
            (all_schemes(), "x509", "bob", false),
            (all_schemes(), "nonsense", "x", false),
        ] {
            let expected = if valid { Ok(vec![acl(1, scheme, id)]) } else { Err(ErrorCode::InvalidAcl) };
            assert_eq!(fix_up(&rules, Some(&[request(1, scheme, id)]), &[]), expected, "{scheme} {id:?}");
        }
    }

    #[test]
    fn an_empty_or_null_list_is_invalid_and_so_is_a_null_id() {
        let rules = AclRules { skip: true, ..AclRules::default() };
        assert_eq!(fix_up(&rules, None, &[]), Err(ErrorCode::InvalidAcl));
        assert_eq!(fix_up(&rules, Some(&[]), &[]), Err(ErrorCode::InvalidAcl));
        let null = RequestAcl { perms: 1, scheme: None, id: None };
        assert_eq!(fix_up(&rules, Some(&[null]), &[]), Err(ErrorCode::InvalidAcl));
        let null = RequestAcl { perms: 1, scheme: Some("digest".into()), id: None };
        assert_eq!(fix_up(&rules, Some(&[null]), &[]), Err(ErrorCode::InvalidAcl));
    }

    #[test]
    fn duplicates_are_dropped_and_the_order_stays() {
        let (a, b) = (request(1, "digest", "a:a"), request(2, "world", "anyone"));
        let fixed = fix_up(&AclRules::default(), Some(&[a.clone(), b.clone(), a]), &[]).unwrap();
        assert_eq!(fixed, [acl(1, "digest", "a:a"), acl(2, "world", "anyone")]);
    }

    #[test]
    fn auth_stands_for_all_authenticated_ids_of_the_client() {
        let ids =
            [("ip", "127.0.0.1"), ("digest", "a:1"), ("super", ""), ("digest", "b:2"), ("sasl", "c"), ("x509", "CN=d")];
        let ids = ids.map(|(scheme, id)| Id::new(scheme, id));
        let auth = [RequestAcl { perms: 3, scheme: Some("auth".into()), id: None }];
        let fixed = |rules: &AclRules, ids: &[Id]| fix_up(rules, Some(&auth), ids);
        let digests = [acl(3, "digest", "a:1"), acl(3, "digest", "b:2")];
        assert_eq!(fixed(&AclRules::default(), &ids).unwrap(), digests);
        let others = [acl(3, "sasl", "c"), acl(3, "x509", "CN=d")];
        assert_eq!(fixed(&all_schemes(), &ids).unwrap(), [digests, others].concat());
        assert_eq!(fixed(&all_schemes(), &ids[..1]), Err(ErrorCode::InvalidAcl));
    }

    #[test]
    fn a_list_cannot_multiply_a_clients_many_ids() {
        let ids: Vec<Id> = (0..200).map(|n| Id::new("digest", &format!("{n}:{}", "x".repeat(300)))).collect();
        let list =
            |n| -> Vec<_> { (0..n).map(|perms| RequestAcl { perms, scheme: Some("auth".into()), id: None }).collect() };
        assert_eq!(fix_up(&AclRules::default(), Some(&list(5)), &ids).map(|list| list.len()), Ok(1000));
        assert_eq!(fix_up(&AclRules::default(), Some(&list(60_000)), &ids), Err(ErrorCode::BadArguments));
    }

    #[test]
    fn users_are_told_only_of_schemes_that_there_are() {
        let users = |rules: &AclRules| {
            [("ip", "::1"), ("digest", "a:1"), ("super", "CN=x"), ("sasl", "b@R"), ("x509", "CN=c")]
                .map(|(scheme, id)| rules.user(&Id::new(scheme, id)).to_owned())
        };
        assert_eq!(users(&AclRules::default()), ["::1", "a", "", "", ""]);
        assert_eq!(users(&all_schemes()), ["::1", "a", "", "b@R", "CN=c"]);
    }

    #[test]
    fn masking_hides_digests_only() {
        let list = [acl(1, "digest", "user:hash"), acl(1, "ip", "10.0.0.1")];
        assert_eq!(mask(&list), [acl(1, "digest", "user:x"), acl(1, "ip", "10.0.0.1")]);
    }
}
