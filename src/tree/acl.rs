//! Skeleton.
use crate::records::{Acl, ErrorCode, Id, RequestAcl};

/// Whether a connection with `ids` has one of the permissions of `perm` (bits) under `acl`.
pub fn allows(acl: &[Acl], ids: &[Id], perm: i32) -> bool {
    todo!()
}

/// The list to store for the list of a create or setACL: duplicates dropped, `auth` expanded; else `InvalidAcl`.
pub fn fix_up(acl: Option<&[RequestAcl]>, ids: &[Id]) -> Result<Vec<Acl>, ErrorCode> {
    todo!()
}

/// The id of scheme `digest` for the authentication text `user:password`: `user:base64(sha1(text))`.
pub fn digest_id(auth: &str) -> String {
    todo!()
}

/// `acl` for somebody without ADMIN: the hashes of `digest` ids are replaced by `x`.
pub fn mask(acl: &[Acl]) -> Vec<Acl> {
    todo!()
}
