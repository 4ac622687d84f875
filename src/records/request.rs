//! What clients send: the connect request, the request header and the body of each operation.

use super::{Acl, Id, MultiRequest, SessionId, Zxid};
use crate::jute::{DecodeError, Reader, Record, record};

record! {
    /// Header of every request after the connect request.
    RequestHeader { xid: i32, op: i32 }

    /// An ACL entry as clients send it: nothing is sure yet, not even that there is a scheme.
    RequestAcl { perms: i32, scheme: Option<String>, id: Option<String> }

    /// Body of create, create2 and createContainer.
    CreateRequest { path: Option<String>, data: Option<Vec<u8>>, acl: Option<Vec<RequestAcl>>, flags: i32 }
    /// Body of createTTL; `ttl_ms` in ms.
    CreateTtlRequest {
        path: Option<String>, data: Option<Vec<u8>>, acl: Option<Vec<RequestAcl>>, flags: i32, ttl_ms: i64,
    }
    /// Body of delete and check: the data version that the znode must have, -1 for any.
    PathVersion { path: Option<String>, version: i32 }
    /// Body of exists, getData, getChildren, getChildren2.
    PathWatch { path: Option<String>, watch: bool }
    /// Body of operations that take only a path.
    PathOnly { path: Option<String> }
    SetDataRequest { path: Option<String>, data: Option<Vec<u8>>, version: i32 }
    SetAclRequest { path: Option<String>, acl: Option<Vec<RequestAcl>>, version: i32 }
    ReconfigRequest {
        joining: Option<String>, leaving: Option<String>, new_members: Option<String>, current_config: i64,
    }
    /// Body of checkWatches and removeWatches.
    PathType { path: Option<String>, kind: i32 }
    AddWatchRequest { path: Option<String>, mode: i32 }
    AuthRequest {
        /// 0, ignored.
        kind: i32,
        scheme: Option<String>,
        auth: Option<Vec<u8>>,
    }
    SaslRequest { token: Option<Vec<u8>> }
    SetWatchesRequest {
        relative_zxid: Zxid,
        data: Option<Vec<String>>,
        exist: Option<Vec<String>>,
        child: Option<Vec<String>>,
    }
    SetWatches2Request {
        relative_zxid: Zxid,
        data: Option<Vec<String>>,
        exist: Option<Vec<String>>,
        child: Option<Vec<String>>,
        persistent: Option<Vec<String>>,
        persistent_recursive: Option<Vec<String>>,
    }
    CreateSessionRequest {
        /// ms
        timeout_ms: i32,
    }
}

impl From<&Acl> for RequestAcl {
    fn from(acl: &Acl) -> Self {
        let Id { scheme, id } = acl.id.clone();
        RequestAcl { perms: acl.perms, scheme: Some(scheme), id: Some(id) }
    }
}

/// The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    pub protocol_version: i32,
    /// The highest zxid that the client has seen.
    pub last_zxid_seen: Zxid,
    /// Wanted session timeout, ms.
    pub timeout_ms: i32,
    /// 0 for a new session.
    pub session: SessionId,
    pub password: Option<Vec<u8>>,
    /// Missing from clients before 3.4; then the response must not have it either.
    pub read_only: Option<bool>,
}

impl Record for ConnectRequest {
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(ConnectRequest {
            protocol_version: from.int()?,
            last_zxid_seen: Zxid::read(from)?,
            timeout_ms: from.int()?,
            session: SessionId::read(from)?,
            password: Record::read(from)?,
            read_only: if from.remaining() > 0 { Some(from.bool()?) } else { None },
        })
    }
    fn write(&self, out: &mut Vec<u8>) {
        self.protocol_version.write(out);
        self.last_zxid_seen.write(out);
        self.timeout_ms.write(out);
        self.session.write(out);
        self.password.write(out);
        if let Some(read_only) = self.read_only {
            read_only.write(out);
        }
    }
}

/// Operation codes. ZooKeeper: `ZooDefs.OpCode`.
pub mod op {
    pub const NOTIFICATION: i32 = 0;
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_ACL: i32 = 6;
    pub const SET_ACL: i32 = 7;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const GET_CHILDREN2: i32 = 12;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const RECONFIG: i32 = 16;
    pub const CHECK_WATCHES: i32 = 17;
    pub const REMOVE_WATCHES: i32 = 18;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const DELETE_CONTAINER: i32 = 20;
    pub const CREATE_TTL: i32 = 21;
    pub const MULTI_READ: i32 = 22;
    pub const AUTH: i32 = 100;
    pub const SET_WATCHES: i32 = 101;
    pub const SASL: i32 = 102;
    pub const GET_EPHEMERALS: i32 = 103;
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub const SET_WATCHES2: i32 = 105;
    pub const ADD_WATCH: i32 = 106;
    pub const WHO_AM_I: i32 = 107;
    pub const CREATE_SESSION: i32 = -10;
    pub const CLOSE_SESSION: i32 = -11;
    pub const ERROR: i32 = -1;
}

/// The body of a request, by operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Create(CreateRequest),
    Create2(CreateRequest),
    CreateContainer(CreateRequest),
    CreateTtl(CreateTtlRequest),
    Delete(PathVersion),
    /// Server-internal: the reaper's.
    DeleteContainer(PathOnly),
    SetData(SetDataRequest),
    SetAcl(SetAclRequest),
    Check(PathVersion),
    Multi(MultiRequest),
    Reconfig(ReconfigRequest),
    /// Server-internal; `timeout_ms` in ms.
    CreateSession(CreateSessionRequest),
    CloseSession,
    Sync(PathOnly),
    Exists(PathWatch),
    GetData(PathWatch),
    GetAcl(PathOnly),
    GetChildren(PathWatch),
    GetChildren2(PathWatch),
    GetEphemerals(PathOnly),
    GetAllChildrenNumber(PathOnly),
    MultiRead(MultiRequest),
    CheckWatches(PathType),
    RemoveWatches(PathType),
    AddWatch(AddWatchRequest),
    SetWatches(SetWatchesRequest),
    SetWatches2(SetWatches2Request),
    WhoAmI,
    Ping,
    Auth(AuthRequest),
    Sasl(SaslRequest),
}

macro_rules! request_bodies {
    ($($code:ident => $variant:ident($body:ty),)* ; $($unit_code:ident => $unit:ident,)*) => {
        impl Request {
            /// Reads the body of operation `code`; `None` if there is no such operation.
            pub fn read(code: i32, from: &mut Reader<'_>) -> Option<Result<Request, DecodeError>> {
                Some(match code {
                    $( op::$code => <$body>::read(from).map(Request::$variant), )*
                    $( op::$unit_code => Ok(Request::$unit), )*
                    _ => return None,
                })
            }

            /// The operation's code.
            pub fn op(&self) -> i32 {
                match self {
                    $( Request::$variant(_) => op::$code, )*
                    $( Request::$unit => op::$unit_code, )*
                }
            }

            /// Writes the body.
            pub fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $( Request::$variant(body) => body.write(out), )*
                    $( Request::$unit => {} )*
                }
            }
        }
    };
}

request_bodies! {
    CREATE => Create(CreateRequest),
    CREATE2 => Create2(CreateRequest),
    CREATE_CONTAINER => CreateContainer(CreateRequest),
    CREATE_TTL => CreateTtl(CreateTtlRequest),
    DELETE => Delete(PathVersion),
    DELETE_CONTAINER => DeleteContainer(PathOnly),
    SET_DATA => SetData(SetDataRequest),
    SET_ACL => SetAcl(SetAclRequest),
    CHECK => Check(PathVersion),
    MULTI => Multi(MultiRequest),
    RECONFIG => Reconfig(ReconfigRequest),
    CREATE_SESSION => CreateSession(CreateSessionRequest),
    SYNC => Sync(PathOnly),
    EXISTS => Exists(PathWatch),
    GET_DATA => GetData(PathWatch),
    GET_ACL => GetAcl(PathOnly),
    GET_CHILDREN => GetChildren(PathWatch),
    GET_CHILDREN2 => GetChildren2(PathWatch),
    GET_EPHEMERALS => GetEphemerals(PathOnly),
    GET_ALL_CHILDREN_NUMBER => GetAllChildrenNumber(PathOnly),
    MULTI_READ => MultiRead(MultiRequest),
    CHECK_WATCHES => CheckWatches(PathType),
    REMOVE_WATCHES => RemoveWatches(PathType),
    ADD_WATCH => AddWatch(AddWatchRequest),
    SET_WATCHES => SetWatches(SetWatchesRequest),
    SET_WATCHES2 => SetWatches2(SetWatches2Request),
    AUTH => Auth(AuthRequest),
    SASL => Sasl(SaslRequest),
    ;
    CLOSE_SESSION => CloseSession,
    WHO_AM_I => WhoAmI,
    PING => Ping,
}

impl Request {
    /// Whether the request changes the tree or the session table, so that the leader must order it.
    pub fn is_write(&self) -> bool {
        is_write(self.op())
    }
}

/// Whether operation `code` is ordered by the leader as a transaction.
pub fn is_write(code: i32) -> bool {
    use op::*;
    matches!(
        code,
        CREATE
            | CREATE2
            | CREATE_CONTAINER
            | CREATE_TTL
            | DELETE
            | DELETE_CONTAINER
            | SET_DATA
            | SET_ACL
            | CHECK
            | MULTI
            | RECONFIG
            | CREATE_SESSION
            | CLOSE_SESSION
    )
}
