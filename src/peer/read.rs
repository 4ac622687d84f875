//! Step 2 of a read: answer it from the tree, in the hold of the lock in which everything else about it happens.
//!
//! Order matters: permission, then the watch, then the answer with the zxid of this very moment, appended before the
//! lock is let go. A read that came when this server might not serve any more ends the connection instead.
//!
//! ZooKeeper: `FinalRequestProcessor`.

use super::Database;
use super::io::{ConnId, Now};
use super::outbox::{Notification, OUTPUT_BYTES_MAX, OutboxState};
use crate::jute::{Record, write_buffer, write_string};
use crate::records::{
    ClientInfo, Ephemerals, ErrorCode, EventType, Id, MultiOp, MultiRequest, MultiResult, PING_XID, PathOnly,
    PathWatch, ReplyHeader, Request, SessionId, SetWatches2Request, SetWatchesRequest, TotalNumber, WhoAmIReply, Zxid,
    perms,
};
use crate::tree::{NodeRef, WatchLists, WatchMode, WatchTable, WatcherId, WatcherType, acl};

/// A read, and when and from whom it was read.
pub(super) struct Asked<'a> {
    pub xid: i32,
    pub since_micros: u64,
    pub request: &'a Request,
    /// Who the client was then.
    pub auth: &'a [Id],
}

impl Database {
    /// Answers a read.
    pub(super) fn answer(&self, conn: ConnId, state: &mut OutboxState, asked: &Asked<'_>, now: Now) {
        let Asked { xid, since_micros, request, auth } = *asked;
        if !self.may_answer(now) {
            return state.close();
        }
        let watcher = WatcherId(conn.0);
        // Its events come before its reply.
        let caught_up = match request {
            Request::SetWatches(body) => {
                lists_of(body).map(|lists| self.set_watches(watcher, state, body.relative_zxid, &lists))
            }
            Request::SetWatches2(body) => {
                lists_of_2(body).map(|lists| self.set_watches(watcher, state, body.relative_zxid, &lists))
            }
            _ => Ok(()),
        };
        let session = state.session;
        let xid = if matches!(request, Request::Ping) { PING_XID } else { xid };
        let header = ReplyHeader { xid, zxid: self.last_processed, err: 0 };
        state.try_reply(header, since_micros, now.micros, |out| {
            caught_up.and_then(|()| self.read(watcher, session, auth, request, out))
        });
    }

    fn may_answer(&self, now: Now) -> bool {
        #[cfg(any(test, loom))]
        if self.faults.answers_without_a_role() {
            return true;
        }
        self.may_serve(now)
    }

    /// Writes the body of the answer. What is written before an error does not count.
    fn read(
        &self,
        watcher: WatcherId,
        session: SessionId,
        auth: &[Id],
        request: &Request,
        out: &mut Vec<u8>,
    ) -> Result<(), ErrorCode> {
        match request {
            Request::GetData(body) => {
                let node = self.readable(path(&body.path)?, auth)?;
                self.watch(WatchTable::Data, body, watcher);
                write_buffer(node.data(), out);
                node.stat().write(out);
            }
            Request::Exists(body) => self.exists(body, auth, watcher)?.stat().write(out),
            Request::GetChildren(body) => {
                let node = self.readable(path(&body.path)?, auth)?;
                self.watch(WatchTable::Child, body, watcher);
                write_children(&node, out);
            }
            Request::GetChildren2(body) => {
                let node = self.readable(path(&body.path)?, auth)?;
                self.watch(WatchTable::Child, body, watcher);
                write_children(&node, out);
                node.stat().write(out);
            }
            Request::Ping | Request::SetWatches(_) | Request::SetWatches2(_) => {}
            Request::GetAcl(body) => self.get_acl(body, auth, out)?,
            Request::GetAllChildrenNumber(body) => {
                let path = path(&body.path)?;
                self.readable(path, auth)?;
                let total = self.tree.descendant_count(path).ok_or(ErrorCode::NoNode)?;
                TotalNumber { total }.write(out);
            }
            Request::GetEphemerals(body) => {
                let prefix = body.path.as_deref().filter(|prefix| !prefix.trim().is_empty() && *prefix != "/");
                let all = self.tree.ephemerals(session);
                let ephemerals = all.filter(|path| prefix.is_none_or(|prefix| path.starts_with(prefix))).collect();
                Ephemerals { ephemerals }.write(out);
            }
            Request::MultiRead(body) => self.multi_read(body, auth, out)?,
            Request::WhoAmI => {
                WhoAmIReply { client_info: auth.iter().map(|id| self.client_info(id)).collect() }.write(out)
            }
            Request::AddWatch(body) => {
                let mode = match body.mode {
                    0 => WatchMode::Persistent,
                    1 => WatchMode::PersistentRecursive,
                    _ => return Err(ErrorCode::MarshallingError),
                };
                self.watches.add_watch(path(&body.path)?, watcher, mode);
                0i32.write(out);
            }
            Request::CheckWatches(body) => {
                let kind = WatcherType::from_code(body.kind)?;
                found(self.watches.contains(kind, path(&body.path)?, watcher))?;
            }
            Request::RemoveWatches(body) => {
                let kind = WatcherType::from_code(body.kind)?;
                found(self.watches.remove(kind, path(&body.path)?, watcher))?;
            }
            _ => unreachable!("operation {} is no read", request.op()),
        }
        Ok(())
    }

    /// The watch is set also where no node is; not where READ is refused.
    fn exists(&self, body: &PathWatch, auth: &[Id], watcher: WatcherId) -> Result<NodeRef<'_>, ErrorCode> {
        let path = path(&body.path)?;
        if path.contains('\0') {
            return Err(ErrorCode::BadArguments);
        }
        let node = self.readable(path, auth);
        if node.as_ref().err() != Some(&ErrorCode::NoAuth) {
            self.watch(WatchTable::Data, body, watcher);
        }
        node
    }

    /// Without ADMIN, what could be used to guess a password is not shown.
    fn get_acl(&self, body: &PathOnly, auth: &[Id], out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        let node = self.tree.get(path(&body.path)?).ok_or(ErrorCode::NoNode)?;
        if !acl::allows(&self.settings.auth.acl, node.acl(), auth, perms::READ | perms::ADMIN) {
            return Err(ErrorCode::NoAuth);
        }
        let list = if acl::allows(&self.settings.auth.acl, node.acl(), auth, perms::ADMIN) {
            node.acl().to_vec()
        } else {
            acl::mask(node.acl())
        };
        list.write(out);
        node.stat().write(out);
        Ok(())
    }

    /// Not more than one connection may have unsent: a short request can ask for the same large znode many times.
    fn multi_read(&self, body: &MultiRequest, auth: &[Id], out: &mut Vec<u8>) -> Result<(), ErrorCode> {
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
        let start = out.len();
        for op in &body.ops {
            one(op).unwrap_or_else(error).write(out);
            if out.len() - start > OUTPUT_BYTES_MAX {
                return Err(ErrorCode::MarshallingError);
            }
        }
        MultiResult::write_end(out);
        Ok(())
    }

    fn set_watches(&self, watcher: WatcherId, state: &mut OutboxState, relative: Zxid, lists: &WatchLists<'_>) {
        self.watches.set_watches(&self.tree, watcher, relative, lists, &mut |kind: EventType, path: &str| {
            state.event(&Notification::new(Zxid::NONE, kind, path));
        });
    }

    /// The node, if there is one that a client with `auth` may read.
    fn readable(&self, path: &str, auth: &[Id]) -> Result<NodeRef<'_>, ErrorCode> {
        let node = self.tree.get(path).ok_or(ErrorCode::NoNode)?;
        if acl::allows(&self.settings.auth.acl, node.acl(), auth, perms::READ) {
            Ok(node)
        } else {
            Err(ErrorCode::NoAuth)
        }
    }

    fn client_info(&self, id: &Id) -> ClientInfo {
        ClientInfo { auth_scheme: id.scheme.clone(), user: self.settings.auth.acl.user(id).to_owned() }
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

fn lists_of(body: &SetWatchesRequest) -> Result<WatchLists<'_>, ErrorCode> {
    let (data, exist, child) = (list(&body.data)?, list(&body.exist)?, list(&body.child)?);
    Ok(WatchLists { data, exist, child, ..WatchLists::default() })
}

fn lists_of_2(body: &SetWatches2Request) -> Result<WatchLists<'_>, ErrorCode> {
    Ok(WatchLists {
        data: list(&body.data)?,
        exist: list(&body.exist)?,
        child: list(&body.child)?,
        persistent: list(&body.persistent)?,
        persistent_recursive: list(&body.persistent_recursive)?,
    })
}

fn found(found: bool) -> Result<(), ErrorCode> {
    if found { Ok(()) } else { Err(ErrorCode::NoWatcher) }
}

/// The names of the children, as in a getChildren reply.
fn write_children(node: &NodeRef<'_>, out: &mut Vec<u8>) {
    node.child_count().write(out);
    node.children().for_each(|name| write_string(name, out));
}
