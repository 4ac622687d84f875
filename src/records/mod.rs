//! Layer 1: every record of the client protocol, the logs and snapshots, the election and the quorum protocol, as
//! typed fields.

mod configuration;
mod data;
mod election;
mod error_code;
mod ids;
mod multi;
mod password;
mod path;
mod quorum;
mod quorum_auth;
mod reply;
mod request;
mod snapshot;
mod txn;

pub use configuration::*;
pub use data::*;
pub use election::*;
pub use error_code::ErrorCode;
pub use ids::{Epoch, ServerId, SessionId, Zxid};
pub use multi::*;
pub use password::{PASSWORD_LEN, is_session_password, session_password};
pub use path::{PathError, parent_and_name, validate_path};
pub use quorum::*;
pub use quorum_auth::*;
pub use reply::*;
pub use request::*;
pub use snapshot::*;
pub use txn::*;

/// `jute.maxbuffer`: the longest request frame, in bytes.
pub const JUTE_MAX_BUFFER: usize = 0xf_ffff;
/// The longest string or buffer in a stored or forwarded transaction: `jute.maxbuffer` and its extra size.
pub const TXN_BYTES_MAX: usize = 2 * JUTE_MAX_BUFFER;
