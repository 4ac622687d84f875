//! What a session tells its host: links to open and close, answers, watches that fired, states.

use super::calls::{CallId, WatchId};
use crate::records::{ErrorCode, EventType, Response, Zxid};

/// Something for the host, in the order in which it happened: events of watches come before the replies that show
/// the change, a state before the failures that it causes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Open a link to this server; an older one is over. Answer with `link_up` or `link_down`.
    Connect {
        /// Index in the host's list.
        server: usize,
    },
    /// Close the link now. Nothing that still comes of it belongs to the session: no `link_down` for it.
    Disconnect { reason: String },
    /// A call is done. Each call has exactly one reply.
    Reply {
        call: CallId,
        /// As of which the server has answered; [`Zxid::NONE`] if no server has.
        zxid: Zxid,
        result: Result<Response, Failure>,
    },
    /// Watches have fired. Without `ids`: nobody waits for it any more.
    Watch { ids: Vec<WatchId>, event: WatchEvent },
    /// Watches that will never fire (again).
    WatchesLost { ids: Vec<WatchId>, reason: Lost },
    /// The new state.
    State(State),
    /// For logs.
    Note(String),
}

/// What has happened to a watched path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    pub kind: EventType,
    /// Below the chroot.
    pub path: String,
    /// Of the change; [`Zxid::NONE`] if the server does not say (before 3.9, and in what is told after a reconnect).
    pub zxid: Zxid,
}

/// Why watches are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    SessionExpired,
    Closed,
    AuthFailed,
    /// A server would not set them again; its error code.
    Refused(i32),
}

/// Where the session stands. kazoo: `KazooState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// There has been no connection yet.
    Connecting,
    /// A server has the session, and has accepted every `add_auth`.
    Connected,
    /// The same, but the server has no quorum and takes no writes.
    ConnectedReadOnly,
    /// The link is lost; the session may be alive, and so may its ephemeral znodes.
    Suspended,
    /// A server said that the session is over. A new one is being opened.
    Lost,
    /// A server has refused an `add_auth`. Final.
    AuthFailed,
    /// `close` is done. Final.
    Closed,
}

impl State {
    pub fn is_connected(self) -> bool {
        matches!(self, State::Connected | State::ConnectedReadOnly)
    }

    /// Whether there will be no other state.
    pub fn is_final(self) -> bool {
        matches!(self, State::AuthFailed | State::Closed)
    }
}

/// Why a call has no answer, or a bad one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The server's answer, a number of [`ErrorCode`] or one that we do not know.
    Server(i32),
    /// There was no connection for too long, or it broke.
    ConnectionLoss {
        /// `false`: no server has seen the call, so it has not happened. `true`: a write's outcome is unknown.
        sent: bool,
    },
    /// The session ended before the answer. A write that was sent may have happened.
    SessionExpired { sent: bool },
    /// A server has refused an `add_auth`.
    AuthFailed { sent: bool },
    /// The session was closed before the answer.
    Closed { sent: bool },
    /// The answer is a frame of so many bytes: more than a client takes.
    ReplyTooLong { length: usize },
    /// The answer cannot be read.
    Malformed,
}

impl Failure {
    /// The code that ZooKeeper's clients give this.
    pub fn code(self) -> i32 {
        match self {
            Failure::Server(code) => code,
            Failure::ConnectionLoss { .. } | Failure::Closed { .. } | Failure::ReplyTooLong { .. } => {
                ErrorCode::ConnectionLoss.code()
            }
            Failure::SessionExpired { .. } => ErrorCode::SessionExpired.code(),
            Failure::AuthFailed { .. } => ErrorCode::AuthFailed.code(),
            Failure::Malformed => ErrorCode::MarshallingError.code(),
        }
    }

    /// Whether a write that failed so may have happened all the same.
    pub fn is_outcome_unknown(self) -> bool {
        match self {
            Failure::ConnectionLoss { sent }
            | Failure::SessionExpired { sent }
            | Failure::AuthFailed { sent }
            | Failure::Closed { sent } => sent,
            Failure::ReplyTooLong { .. } | Failure::Malformed => true,
            Failure::Server(_) => false,
        }
    }
}
