//! What servers send: the connect response, reply headers and bodies, notifications.

use super::request::op;
use super::{Acl, MultiResponse, PASSWORD_LEN, SessionId, Stat, Zxid};
use crate::jute::{DecodeError, Reader, Record, record};

record! {
    /// Header of every frame from the server after the connect response.
    ReplyHeader { xid: i32, zxid: Zxid, err: i32 }

    PathReply { path: Option<String> }
    PathStat { path: String, stat: Stat }
    StatReply { stat: Stat }
    DataStat { data: Option<Vec<u8>>, stat: Stat }
    AclStat { acl: Vec<Acl>, stat: Stat }
    Children { children: Vec<String> }
    ChildrenStat { children: Vec<String>, stat: Stat }
    SaslReply { token: Option<Vec<u8>> }
    Ephemerals { ephemerals: Vec<String> }
    TotalNumber { total: i32 }
    /// addWatch's: always 0.
    ErrorReply { err: i32 }
    ClientInfo { auth_scheme: String, user: String }
    WhoAmIReply { client_info: Vec<ClientInfo> }

    /// A notification: what happened to a watched path.
    WatcherEvent {
        /// A number of [`EventType`].
        kind: i32,
        /// 3, SyncConnected.
        state: i32,
        path: String,
    }
}

/// xid of notifications.
pub const NOTIFICATION_XID: i32 = -1;
/// xid of pings, in requests and replies.
pub const PING_XID: i32 = -2;
/// xid of auth packets.
pub const AUTH_XID: i32 = -4;
/// xid of setWatches.
pub const SET_WATCHES_XID: i32 = -8;
/// `KeeperState.SyncConnected`, the only state that servers send.
pub const SYNC_CONNECTED: i32 = 3;

/// What a server tells about a path. ZooKeeper: `Watcher.Event.EventType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i32)]
pub enum EventType {
    NodeCreated = 1,
    NodeDeleted = 2,
    NodeDataChanged = 3,
    NodeChildrenChanged = 4,
}

impl EventType {
    /// The type with this number, if servers send it.
    pub fn from_code(code: i32) -> Option<Self> {
        Some(match code {
            1 => EventType::NodeCreated,
            2 => EventType::NodeDeleted,
            3 => EventType::NodeDataChanged,
            4 => EventType::NodeChildrenChanged,
            _ => return None,
        })
    }
}

/// The answer to a connect request; no header around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectResponse {
    pub protocol_version: i32,
    /// Negotiated timeout, ms; 0: the session is refused.
    pub timeout_ms: i32,
    pub session: SessionId,
    pub password: Vec<u8>,
    /// Only there if the request had the byte.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// "There is no such session": what clients read as expired.
    pub fn refused(read_only: Option<bool>) -> Self {
        ConnectResponse {
            protocol_version: 0,
            timeout_ms: 0,
            session: SessionId(0),
            password: vec![0; PASSWORD_LEN],
            read_only,
        }
    }
}

impl Record for ConnectResponse {
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(ConnectResponse {
            protocol_version: from.int()?,
            timeout_ms: from.int()?,
            session: SessionId::read(from)?,
            password: from.buffer()?.ok_or(DecodeError::Null("password"))?.to_vec(),
            read_only: if from.remaining() > 0 { Some(from.bool()?) } else { None },
        })
    }
    fn write(&self, out: &mut Vec<u8>) {
        self.protocol_version.write(out);
        self.timeout_ms.write(out);
        self.session.write(out);
        crate::jute::write_buffer(Some(&self.password), out);
        if let Some(read_only) = self.read_only {
            read_only.write(out);
        }
    }
}

/// The body of a successful reply, by operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Header only.
    Empty,
    Path(PathReply),
    PathStat(PathStat),
    Stat(StatReply),
    DataStat(DataStat),
    AclStat(AclStat),
    Children(Children),
    ChildrenStat(ChildrenStat),
    Multi(MultiResponse),
    Sasl(SaslReply),
    Ephemerals(Ephemerals),
    TotalNumber(TotalNumber),
    AddWatch(ErrorReply),
    WhoAmI(WhoAmIReply),
}

impl Response {
    /// Reads the reply body of a request of operation `code`.
    pub fn read(code: i32, from: &mut Reader<'_>) -> Result<Response, DecodeError> {
        use op::*;
        Ok(match code {
            CREATE | SYNC => Response::Path(Record::read(from)?),
            CREATE2 | CREATE_CONTAINER | CREATE_TTL => Response::PathStat(Record::read(from)?),
            EXISTS | SET_DATA | SET_ACL => Response::Stat(Record::read(from)?),
            GET_DATA | RECONFIG => Response::DataStat(Record::read(from)?),
            GET_ACL => Response::AclStat(Record::read(from)?),
            GET_CHILDREN => Response::Children(Record::read(from)?),
            GET_CHILDREN2 => Response::ChildrenStat(Record::read(from)?),
            MULTI | MULTI_READ => Response::Multi(Record::read(from)?),
            SASL => Response::Sasl(Record::read(from)?),
            GET_EPHEMERALS => Response::Ephemerals(Record::read(from)?),
            GET_ALL_CHILDREN_NUMBER => Response::TotalNumber(Record::read(from)?),
            ADD_WATCH => Response::AddWatch(Record::read(from)?),
            WHO_AM_I => Response::WhoAmI(Record::read(from)?),
            _ => Response::Empty,
        })
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Response::Empty => {}
            Response::Path(body) => body.write(out),
            Response::PathStat(body) => body.write(out),
            Response::Stat(body) => body.write(out),
            Response::DataStat(body) => body.write(out),
            Response::AclStat(body) => body.write(out),
            Response::Children(body) => body.write(out),
            Response::ChildrenStat(body) => body.write(out),
            Response::Multi(body) => body.write(out),
            Response::Sasl(body) => body.write(out),
            Response::Ephemerals(body) => body.write(out),
            Response::TotalNumber(body) => body.write(out),
            Response::AddWatch(body) => body.write(out),
            Response::WhoAmI(body) => body.write(out),
        }
    }
}

/// Appends a whole frame to `out`: the length, then what `write` writes.
pub fn write_frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = (out.len() - start - 4) as i32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
