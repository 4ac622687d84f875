//! What an auth packet makes of a connection: one more id, or its end.
//!
//! Ids belong to the connection, not to the session. ZooKeeper: `AuthenticationProvider`.

use crate::records::{AuthRequest, Id};
use crate::tree::acl::digest_id;
use std::sync::Arc;

/// Ids of one connection at most: each write carries them all.
const IDS_MAX: usize = 256;

pub(super) enum Verdict {
    /// `ids`: the new list, if it has changed.
    Accepted {
        ids: Option<Arc<[Id]>>,
    },
    Refused,
}

impl Verdict {
    /// Judges an auth packet of a connection that has `ids` already. `super_digest`: the digest id that passes every
    /// check from then on.
    pub(super) fn of(request: &AuthRequest, ids: &Arc<[Id]>, super_digest: Option<&str>) -> Verdict {
        match request.scheme.as_deref() {
            // The address is known; nothing in the packet changes it.
            Some("ip") => Verdict::Accepted { ids: None },
            Some("digest") => {
                let text = String::from_utf8_lossy(request.auth.as_deref().unwrap_or_default());
                let id = Id::new("digest", &digest_id(&text));
                let superuser = (super_digest == Some(id.id.as_str())).then(|| Id::new("super", ""));
                let is_new = |id: &Id| !ids.contains(id);
                let new: Vec<Id> = [superuser, Some(id)].into_iter().flatten().filter(is_new).collect();
                if ids.len() + new.len() > IDS_MAX {
                    return Verdict::Refused;
                }
                let grows = !new.is_empty();
                Verdict::Accepted { ids: grows.then(|| ids.iter().cloned().chain(new).collect()) }
            }
            _ => Verdict::Refused,
        }
    }
}
