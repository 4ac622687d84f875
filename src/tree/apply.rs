//! A transaction becomes changes of the tree: the same on every server, whether it is applied live, from the log, or
//! a second time because a snapshot already held some of it.
//!
//! Hence everything is absolute (versions, the parent's count of creations) and only ever raised where a later
//! transaction may have been applied before (the parent's cversion and pzxid). What cannot be done becomes the
//! transaction's result code, and the next transaction follows.
//!
//! ZooKeeper: `DataTree.processTxn`.

use super::result::{Change, ChangeKind, ResultBody, TxnResult};
use super::{DataTree, NodeId};
use crate::records::{
    Acl, CONTAINER_OWNER, ErrorCode, Owner, SessionId, StatPersisted, TTL_MS_MAX, TxnBody, Zxid, parent_and_name,
};

/// What all operations of a transaction have in common.
struct Context<'c> {
    session: SessionId,
    zxid: Zxid,
    time_ms: i64,
    on_change: &'c mut dyn FnMut(Change<'_>),
}

type Outcome<'t> = Result<ResultBody<'t>, ErrorCode>;

impl DataTree {
    /// Applies one transaction, whose `session` owns what is ephemeral in it. `on_change` is called for each change
    /// of a znode, in order, after it.
    pub fn apply<'t>(
        &mut self,
        session: SessionId,
        zxid: Zxid,
        time_ms: i64,
        body: &'t TxnBody,
        on_change: &mut dyn FnMut(Change<'_>),
    ) -> TxnResult<'t> {
        let mut context = Context { session, zxid, time_ms, on_change };
        match body {
            TxnBody::Multi(subs) => TxnResult::Ok(ResultBody::Multi(self.apply_multi(subs, &mut context))),
            single => self.apply_single(single, &mut context),
        }
    }

    fn apply_single<'t>(&mut self, body: &'t TxnBody, context: &mut Context<'_>) -> TxnResult<'t> {
        let outcome = match body {
            TxnBody::CreateSession(txn) => Ok(ResultBody::CreateSession { timeout_ms: txn.timeout_ms }),
            TxnBody::CloseSession { paths } => {
                self.close_session(paths.as_deref().unwrap_or_default(), context);
                Ok(ResultBody::CloseSession)
            }
            TxnBody::Create(txn) | TxnBody::Create2(txn) => {
                let owner = if txn.ephemeral { Owner::Ephemeral(context.session) } else { Owner::Persistent };
                self.create(&txn.path, txn.data.as_deref(), &txn.acl, owner.stored(), txn.parent_cversion, context)
            }
            TxnBody::CreateContainer(txn) => {
                self.create(&txn.path, txn.data.as_deref(), &txn.acl, CONTAINER_OWNER, txn.parent_cversion, context)
            }
            TxnBody::CreateTtl(txn) if (1..=TTL_MS_MAX).contains(&txn.ttl_ms) => {
                let owner = Owner::Ttl { ttl_ms: txn.ttl_ms }.stored();
                self.create(&txn.path, txn.data.as_deref(), &txn.acl, owner, txn.parent_cversion, context)
            }
            // It would make a session's ephemeral of it.
            TxnBody::CreateTtl(_) => Err(ErrorCode::BadArguments),
            TxnBody::Delete(txn) | TxnBody::DeleteContainer(txn) => {
                self.delete(&txn.path, context).map(|()| ResultBody::Delete)
            }
            TxnBody::SetData(txn) => {
                let id = self.set_data(&txn.path, txn.data.as_deref(), txn.version, context);
                id.map(|id| ResultBody::SetData { stat: self.nodes.stat(id) })
            }
            TxnBody::Reconfig(txn) => {
                let id = self.set_data(&txn.path, txn.data.as_deref(), txn.version, context);
                id.map(|id| ResultBody::Reconfig { stat: self.nodes.stat(id) })
            }
            TxnBody::SetAcl(txn) => self.set_acl(&txn.path, &txn.acl, txn.version),
            TxnBody::Check(_) => Ok(ResultBody::Check),
            TxnBody::Error(txn) => Err(ErrorCode::from_code(txn.err).unwrap_or(ErrorCode::SystemError)),
            // Decoding refuses a multi in a multi.
            TxnBody::Multi(_) => Err(ErrorCode::SystemError),
        };
        match outcome {
            Ok(body) => TxnResult::Ok(body),
            Err(error) => TxnResult::Error(error),
        }
    }

    /// All or nothing: the leader has found out which operation fails; those before it keep their real bodies.
    fn apply_multi<'t>(&mut self, subs: &'t [TxnBody], context: &mut Context<'_>) -> Vec<TxnResult<'t>> {
        let Some(failed) = subs.iter().position(|sub| matches!(sub, TxnBody::Error(_))) else {
            return subs.iter().map(|sub| self.apply_single(sub, context)).collect();
        };
        let results = subs.iter().enumerate().map(|(at, sub)| match sub {
            TxnBody::Error(_) => self.apply_single(sub, context),
            _ if at < failed => TxnResult::Ok(ResultBody::NotApplied),
            _ => TxnResult::Error(ErrorCode::RuntimeInconsistency),
        });
        results.collect()
    }

    fn create<'t>(
        &mut self,
        path: &'t str,
        data: Option<&[u8]>,
        acl: &[Acl],
        owner: i64,
        parent_cversion: i32,
        context: &mut Context<'_>,
    ) -> Outcome<'t> {
        if path == "/" {
            return Err(ErrorCode::NodeExists);
        }
        let (parent_path, name) = split(path)?;
        let parent = self.nodes.arena.find(parent_path).ok_or(ErrorCode::NoNode)?;
        let &mut Context { zxid, time_ms, .. } = context;
        let stat = StatPersisted {
            czxid: zxid,
            mzxid: zxid,
            ctime: time_ms,
            mtime: time_ms,
            version: 0,
            cversion: 0,
            aversion: 0,
            ephemeral_owner: owner,
            pzxid: zxid,
        };
        let acl_id = self.nodes.acls.acquire(acl);
        let added = self.add_node((path, parent, name), data, acl_id, &stat);
        self.count_creation(parent, parent_path, parent_cversion, zxid);
        let Some(id) = added else {
            // From a snapshot that is newer than this transaction. Its ACL table may be older than the node.
            self.nodes.acls.release(acl_id);
            if let Some(id) = self.nodes.arena.find(path) {
                self.replace_acl(id, acl, None);
            }
            return Err(ErrorCode::NodeExists);
        };
        self.after_create(parent_path, name, path, data.map_or(0, <[u8]>::len));
        let (acl, parent_acl) = (self.nodes.acl(id), self.nodes.acl(parent));
        (context.on_change)(Change { kind: ChangeKind::Created, path, zxid, acl, parent_acl });
        Ok(ResultBody::Create { path, stat: self.nodes.stat(id) })
    }

    /// Raises the parent's count of creations to `count` (-1: by one), and its pzxid with it; never lowers it.
    fn count_creation(&mut self, parent: NodeId, path: &str, count: i32, zxid: Zxid) {
        let created = self.nodes.arena.get(parent).created;
        let count = if count == -1 { created.wrapping_add(1) } else { count };
        if count > created {
            self.before_change(parent);
            let node = self.nodes.arena.get_mut(parent);
            (node.created, node.pzxid) = (count, zxid.0);
            self.refresh_digest(parent, path);
        }
    }

    fn delete(&mut self, path: &str, context: &mut Context<'_>) -> Result<(), ErrorCode> {
        let (parent_path, _) = split(path)?;
        let zxid = context.zxid;
        let parent = self.nodes.arena.find(parent_path).ok_or(ErrorCode::NoNode)?;
        if zxid.0 > self.nodes.arena.get(parent).pzxid {
            self.before_change(parent);
            self.nodes.arena.get_mut(parent).pzxid = zxid.0;
            self.refresh_digest(parent, parent_path);
        }
        let id = self.nodes.arena.find(path).ok_or(ErrorCode::NoNode)?;
        let acl_id = self.remove_node(id, path);
        let (acl, parent_acl) = (self.nodes.acls.get(acl_id), self.nodes.acl(parent));
        (context.on_change)(Change { kind: ChangeKind::Deleted, path, zxid, acl, parent_acl });
        self.nodes.acls.release(acl_id);
        Ok(())
    }

    /// Unconditionally: a replay may go back before it comes forward again.
    fn set_data(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
        context: &mut Context<'_>,
    ) -> Result<NodeId, ErrorCode> {
        let &mut Context { zxid, time_ms, .. } = context;
        let id = self.nodes.arena.find(path).ok_or(ErrorCode::NoNode)?;
        let old_bytes = self.nodes.arena.get(id).data_bytes() as i64;
        self.replace_data(id, data);
        let node = self.nodes.arena.get_mut(id);
        (node.version, node.mzxid, node.mtime) = (version, zxid.0, time_ms);
        let parent = node.parent.some().unwrap_or(NodeId::ROOT);
        self.refresh_digest(id, digest_path(path));
        self.count_usage(path, 0, data.map_or(0, <[u8]>::len) as i64 - old_bytes);
        let (acl, parent_acl) = (self.nodes.acl(id), self.nodes.acl(parent));
        (context.on_change)(Change { kind: ChangeKind::DataChanged, path, zxid, acl, parent_acl });
        Ok(id)
    }

    fn set_acl(&mut self, path: &str, acl: &[Acl], aversion: i32) -> Outcome<'static> {
        let id = self.nodes.arena.find(path).ok_or(ErrorCode::NoNode)?;
        self.replace_acl(id, acl, Some(aversion));
        self.refresh_digest(id, digest_path(path));
        Ok(ResultBody::SetAcl { stat: self.nodes.stat(id) })
    }

    /// Deletes the paths that the transaction lists, then what else the session owns. The leader lists all there
    /// are; the 3.5 form lists none, and a replay over a newer snapshot may find others.
    fn close_session(&mut self, listed: &[String], context: &mut Context<'_>) {
        for path in listed {
            _ = self.delete(path, context); // Missing ones are no error.
        }
        for path in self.ephemeral_paths(context.session) {
            _ = self.delete(&path, context);
        }
    }
}

/// The parent's path and the name; `BadArguments` for what the leader never lets through.
fn split(path: &str) -> Result<(&str, &str), ErrorCode> {
    match parent_and_name(path) {
        Some((parent, name)) if !name.is_empty() && parent != "/" => Ok((parent, name)),
        _ => Err(ErrorCode::BadArguments),
    }
}

/// In transactions the root is `/`, in digests the empty string.
fn digest_path(path: &str) -> &str {
    if path == "/" { "" } else { path }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
