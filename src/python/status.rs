//! A server's status as the tuple that `zabkit.Status` is made of.

use crate::server::{Role, Status};

/// Role, serving, epoch, leader, last processed zxid, tree digest, failure: the fields of `zabkit.Status`, in order.
pub(super) type StatusTuple = (&'static str, bool, i64, Option<i64>, i64, u64, Option<String>);

pub(super) fn status_tuple(status: Status) -> StatusTuple {
    (
        role_name(status.role),
        status.serving,
        status.epoch.0,
        status.leader.map(|id| id.0),
        status.last_processed.0,
        status.tree_digest,
        status.failure,
    )
}

/// The values of `zabkit.Role`.
fn role_name(role: Role) -> &'static str {
    match role {
        Role::Looking => "looking",
        Role::Leading => "leading",
        Role::Following => "following",
        Role::Observing => "observing",
        Role::Standalone => "standalone",
        Role::Ended => "ended",
    }
}
