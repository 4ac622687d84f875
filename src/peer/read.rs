//! Step 2 of a read: answer it from the tree, in the hold of the lock in which everything else about it happens.
//!
//! Order matters: permission, then the watch, then the answer with the zxid of this very moment, appended before the
//! lock is let go. A read that came when this server might not serve any more ends the connection instead.
//!
//! ZooKeeper: `FinalRequestProcessor`.

use super::Database;
use super::io::{ConnId, Now};
use super::outbox::OutboxState;
use crate::jute::{Record, write_buffer, write_string};
use crate::records::{
    ClientInfo, Ephemerals, ErrorCode, EventType, Id, MultiOp, MultiRequest, MultiResponse, MultiResult, PING_XID,
    PathOnly, PathWatch, ReplyHeader, Request, SetWatches2Request, TotalNumber, WhoAmIReply, Zxid, perms,
};
use crate::tree::{NodeRef, WatchLists, WatchMode, WatchTable, WatcherId, WatcherType, acl};

/// Writes the body of an answer.
type Body<'a> = Box<dyn FnOnce(&mut Vec<u8>) + 'a>;

impl Database {
    /// Answers `request`, which was read at `since_micros`.
    pub(super) fn answer(
        &self,
        conn: ConnId,
        state: &mut OutboxState,
        xid: i32,
        since_micros: u64,
        request: &Request,
        now: Now,
    ) {
        if !self.may_answer(now) {
            return state.close();
        }
        let xid = if matches!(request, Request::Ping) { PING_XID } else { xid };
        let answer = self.read(conn, state, request);
        let (err, body) = match answer {
            Ok(body) => (0, Some(body)),
            Err(error) => (error.code(), None),
        };
        let header = ReplyHeader { xid, zxid: self.last_processed, err };
        state.reply(header, since_micros, now.micros, |out| {
            if let Some(body) = body {
                body(out);
            }
        });
    }

    fn may_answer(&self, now: Now) -> bool {
        #[cfg(any(test, loom))]
        if self.faults.answers_without_a_role() {
            return true;
        }
        self.may_serve(now)
    }

    fn read<'a>(&'a self, conn: ConnId, state: &mut OutboxState, request: &'a Request) -> Result<Body<'a>, ErrorCode> {
        let watcher = WatcherId(conn.0);
        match request {
            Request::GetData(body) => {
                let node = self.readable(path(&body.path)?, &state.auth)?;
                self.watch(WatchTable::Data, body, watcher);
                Ok(Box::new(move |out| {
                    write_buffer(node.data(), out);
                    node.stat().write(out);
                }))
            }
            Request::Exists(body) => self.exists(body, &state.auth, watcher),
            Request::GetChildren(body) => {
                let node = self.readable(path(&body.path)?, &state.auth)?;
                self.watch(WatchTable::Child, body, watcher);
                Ok(Box::new(move |out| write_children(&node, out)))
            }
            Request::GetChildren2(body) => {
                let node = self.readable(path(&body.path)?, &state.auth)?;
                self.watch(WatchTable::Child, body, watcher);
                Ok(Box::new(move |out| {
                    write_children(&node, out);
                    node.stat().write(out);
                }))
            }
            Request::Ping => Ok(Box::new(|_| {})),
            Request::GetAcl(body) => self.get_acl(body, &state.auth),
            Request::GetAllChildrenNumber(body) => {
                let path = path(&body.path)?;
                self.readable(path, &state.auth)?;
                let total = self.tree.descendant_count(path).ok_or(ErrorCode::NoNode)?;
                Ok(Box::new(move |out| TotalNumber { total }.write(out)))
            }
            Request::GetEphemerals(body) => {
                let prefix = body.path.as_deref().filter(|prefix| !prefix.trim().is_empty() && *prefix != "/");
                let all = self.tree.ephemerals(state.session);
                let ephemerals = all.filter(|path| prefix.is_none_or(|prefix| path.starts_with(prefix))).collect();
                Ok(Box::new(move |out| Ephemerals { ephemerals }.write(out)))
            }
            Request::MultiRead(body) => {
                let response = self.multi_read(body, &state.auth);
                Ok(Box::new(move |out| response.write(out)))
            }
            Request::WhoAmI => {
                let reply = WhoAmIReply { client_info: state.auth.iter().map(client_info).collect() };
                Ok(Box::new(move |out| reply.write(out)))
            }
            Request::AddWatch(body) => {
                let mode = match body.mode {
                    0 => WatchMode::Persistent,
                    1 => WatchMode::PersistentRecursive,
                    _ => return Err(ErrorCode::MarshallingError),
                };
                self.watches.add_watch(path(&body.path)?, watcher, mode);
                Ok(Box::new(|out| 0i32.write(out)))
            }
            Request::CheckWatches(body) => {
                let found = self.watches.contains(WatcherType::from_code(body.kind)?, path(&body.path)?, watcher);
                found.then(nothing).ok_or(ErrorCode::NoWatcher)
            }
            Request::RemoveWatches(body) => {
                let found = self.watches.remove(WatcherType::from_code(body.kind)?, path(&body.path)?, watcher);
                found.then(nothing).ok_or(ErrorCode::NoWatcher)
            }
            Request::SetWatches(body) => {
                let lists = WatchLists {
                    data: list(&body.data)?,
                    exist: list(&body.exist)?,
                    child: list(&body.child)?,
                    ..WatchLists::default()
                };
                self.set_watches(watcher, state, body.relative_zxid, &lists);
                Ok(nothing())
            }
            Request::SetWatches2(body) => {
                self.set_watches(watcher, state, body.relative_zxid, &lists_of(body)?);
                Ok(nothing())
            }
            _ => unreachable!("operation {} is no read", request.op()),
        }
    }

    /// The watch is set also where no node is; not where READ is refused.
    fn exists(&self, body: &PathWatch, auth: &[Id], watcher: WatcherId) -> Result<Body<'_>, ErrorCode> {
        let path = path(&body.path)?;
        if path.contains('\0') {
            return Err(ErrorCode::BadArguments);
        }
        let node = match self.readable(path, auth) {
            Err(ErrorCode::NoNode) => None,
            found => Some(found?),
        };
        self.watch(WatchTable::Data, body, watcher);
        let stat = node.ok_or(ErrorCode::NoNode)?.stat();
        Ok(Box::new(move |out| stat.write(out)))
    }

    /// Without ADMIN, what could be used to guess a password is not shown.
    fn get_acl(&self, body: &PathOnly, auth: &[Id]) -> Result<Body<'_>, ErrorCode> {
        let node = self.tree.get(path(&body.path)?).ok_or(ErrorCode::NoNode)?;
        if !acl::allows(node.acl(), auth, perms::READ | perms::ADMIN) {
            return Err(ErrorCode::NoAuth);
        }
        let list =
            if acl::allows(node.acl(), auth, perms::ADMIN) { node.acl().to_vec() } else { acl::mask(node.acl()) };
        Ok(Box::new(move |out| {
            list.write(out);
            node.stat().write(out);
        }))
    }

    fn multi_read(&self, body: &MultiRequest, auth: &[Id]) -> MultiResponse {
        let one = |op: &MultiOp| match op {
            MultiOp::GetData(body) => {
                let node = self.readable(path(&body.path)?, auth)?;
                Ok(MultiResult::GetData { data: node.data().map(<[u8]>::to_vec), stat: node.stat() })
            }
            MultiOp::GetChildren(body) => {
                let node = self.readable(path(&body.path)?, auth)?;
                Ok(MultiResult::GetChildren { children: node.children().map(str::to_owned).collect() })
            }
            _ => Err(ErrorCode::MarshallingError),
        };
        let error = |error: ErrorCode| MultiResult::Error { code: error.code() };
        MultiResponse { results: body.ops.iter().map(|op| one(op).unwrap_or_else(error)).collect() }
    }

    fn set_watches(&self, watcher: WatcherId, state: &mut OutboxState, relative: Zxid, lists: &WatchLists<'_>) {
        self.watches.set_watches(&self.tree, watcher, relative, lists, &mut |kind: EventType, path: &str| {
            state.event(Zxid::NONE, kind, path);
        });
    }

    /// The node, if there is one that a client with `auth` may read.
    fn readable(&self, path: &str, auth: &[Id]) -> Result<NodeRef<'_>, ErrorCode> {
        let node = self.tree.get(path).ok_or(ErrorCode::NoNode)?;
        if acl::allows(node.acl(), auth, perms::READ) { Ok(node) } else { Err(ErrorCode::NoAuth) }
    }

    fn watch(&self, table: WatchTable, body: &PathWatch, watcher: WatcherId) {
        let Some(path) = body.path.as_deref().filter(|_| body.watch) else { return };
        #[cfg(any(test, loom))]
        if self.faults.postpone_watch(table, path, watcher) {
            return;
        }
        self.watches.register(table, path, watcher, WatchMode::Standard);
    }
}

fn path(path: &Option<String>) -> Result<&str, ErrorCode> {
    path.as_deref().ok_or(ErrorCode::MarshallingError)
}

fn list(list: &Option<Vec<String>>) -> Result<&[String], ErrorCode> {
    list.as_deref().ok_or(ErrorCode::MarshallingError)
}

fn lists_of(body: &SetWatches2Request) -> Result<WatchLists<'_>, ErrorCode> {
    Ok(WatchLists {
        data: list(&body.data)?,
        exist: list(&body.exist)?,
        child: list(&body.child)?,
        persistent: list(&body.persistent)?,
        persistent_recursive: list(&body.persistent_recursive)?,
    })
}

fn nothing<'a>() -> Body<'a> {
    Box::new(|_| {})
}

/// The names of the children, as in a getChildren reply.
fn write_children(node: &NodeRef<'_>, out: &mut Vec<u8>) {
    node.child_count().write(out);
    node.children().for_each(|name| write_string(name, out));
}

/// Who an id is: the part before the password's hash for `digest`, nothing for `super`.
fn client_info(id: &Id) -> ClientInfo {
    let user = match id.scheme.as_str() {
        "digest" => id.id.split(':').next().unwrap_or_default(),
        "super" => "",
        _ => &id.id,
    };
    ClientInfo { auth_scheme: id.scheme.clone(), user: user.to_owned() }
}
