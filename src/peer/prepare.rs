//! Step 2 of a write: turn a client's request into a transaction. Leader only.
//!
//! Before: the leader has taken the request from its own connections or from a learner. After: it proposes the
//! transaction under the zxid given here.
//!
//! A request is checked against the tree *as it will be* when every proposal in flight has been applied
//! ([`InFlight`]); against the committed tree alone, two pipelined `create("/a")` would both succeed. A request that
//! fails still becomes a transaction ([`TxnBody::Error`]) with its zxid, so all servers agree on where it failed.
//! The order of the checks is part of the protocol: the first that fails is the answer.
//!
//! ZooKeeper: `PrepRequestProcessor`.

use super::Database;
use super::in_flight::{Data, FutureNode, InFlight};
use super::settings::NodeSettings;
use crate::records::{
    CheckTxn, CreateContainerTxn, CreateRequest, CreateSessionTxn, CreateTtlTxn, CreateTxn, DeleteTxn, ErrorCode,
    ErrorTxn, ForwardedBody, Id, MultiOp, MultiRequest, Owner, PathVersion, Request, RequestAcl, SessionId, SetAclTxn,
    SetDataRequest, SetDataTxn, TTL_MS_MAX, TXN_FRAME_LEN, TxnBody, TxnDigest, Zxid, parent_and_name, perms,
    validate_path,
};
use crate::tree::DataTree;
use crate::tree::acl::{self, AclRules};

/// A request at the leader.
#[derive(Clone, Copy, Debug)]
pub struct PrepareRequest<'a> {
    /// The client's; 0 for what the leader asks for itself.
    pub session: SessionId,
    pub cxid: i32,
    pub body: &'a ForwardedBody,
    /// Who the connection was when the request was read.
    pub auth: &'a [Id],
    /// What the session tracker says, used at its place among the checks.
    pub session_check: Result<(), ErrorCode>,
    /// The same for what makes ephemerals: only a session of the whole ensemble may.
    pub ephemeral_check: Result<(), ErrorCode>,
    /// The configuration that a reconfig makes, or why it makes none; asked once it is clear that it may be asked for.
    pub new_config: Result<&'a str, ErrorCode>,
}

impl<'a> PrepareRequest<'a> {
    /// A request of a session that lives, on a server without an ensemble.
    pub fn new(session: SessionId, cxid: i32, body: &'a ForwardedBody, auth: &'a [Id]) -> PrepareRequest<'a> {
        let (session_check, ephemeral_check) = (Ok(()), Ok(()));
        let new_config = Err(ErrorCode::Unimplemented);
        PrepareRequest { session, cxid, body, auth, session_check, ephemeral_check, new_config }
    }
}

impl InFlight {
    /// Makes the transaction of `request`, to be proposed as `zxid` at `time_ms` (ms since 1970 UTC), and the digest
    /// that it carries. What it changes counts for every later request from now on.
    pub fn prepare(
        &mut self,
        db: &Database,
        request: &PrepareRequest<'_>,
        zxid: Zxid,
        time_ms: i64,
    ) -> (TxnBody, Option<TxnDigest>) {
        let mark = self.begin(db.tree());
        let (&PrepareRequest { session, body, auth, session_check, ephemeral_check, new_config, .. }, tree) =
            (request, db.tree());
        let (rules, acl_rules) = (&db.settings().nodes, &db.settings().auth.acl);
        let mut step = Step {
            flight: self,
            tree,
            rules,
            acl_rules,
            session,
            auth,
            session_check,
            ephemeral_check,
            new_config,
            zxid,
            time_ms,
        };
        let error = match step.prepare(body) {
            Ok(body) if TXN_FRAME_LEN + body.encoded_len() <= rules.txn_bytes_max => {
                return (body, Some(self.digest()));
            }
            // A longer one could not be read back, from a log or by a learner: nobody would come over it.
            Ok(_) => ErrorCode::BadArguments,
            Err(error) => error,
        };
        self.roll_back(mark);
        (TxnBody::Error(ErrorTxn { err: error.code() }), None)
    }
}

/// Whether an answer may be given to this multi's operations one by one. If not, the whole of it is malformed:
/// reads, create modes that do not exist or do not fit the operation, a create without an ACL.
/// ZooKeeper: `MultiOperationRecord.deserialize`, from 3.8.2 on.
pub(super) fn is_multi_well_formed(multi: &MultiRequest) -> bool {
    multi.ops.iter().all(|op| match op {
        MultiOp::Create(body) | MultiOp::Create2(body) | MultiOp::CreateContainer(body) => {
            matches!(body.flags, 0..=4) && body.acl.is_some()
        }
        MultiOp::CreateTtl(body) => matches!(body.flags, 0..=6) && body.acl.is_some(),
        MultiOp::Delete(_) | MultiOp::SetData(_) | MultiOp::Check(_) => true,
        MultiOp::GetData(_) | MultiOp::GetChildren(_) => false,
    })
}

const CONFIG_PATH: &str = "/zookeeper/config";

/// Which transaction a create becomes; the flags alone do not say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CreateKind {
    Create,
    Create2,
    Container,
    Ttl { ttl_ms: i64 },
}

/// What a create asks for, whatever its operation.
struct NewNode<'a> {
    path: &'a Option<String>,
    data: &'a Option<Vec<u8>>,
    acl: &'a Option<Vec<RequestAcl>>,
    flags: i32,
}

impl<'a> NewNode<'a> {
    fn of(body: &'a CreateRequest) -> NewNode<'a> {
        NewNode { path: &body.path, data: &body.data, acl: &body.acl, flags: body.flags }
    }
}

struct Step<'a> {
    flight: &'a mut InFlight,
    tree: &'a DataTree,
    rules: &'a NodeSettings,
    acl_rules: &'a AclRules,
    session: SessionId,
    auth: &'a [Id],
    session_check: Result<(), ErrorCode>,
    ephemeral_check: Result<(), ErrorCode>,
    new_config: Result<&'a str, ErrorCode>,
    zxid: Zxid,
    time_ms: i64,
}

impl Step<'_> {
    fn prepare(&mut self, body: &ForwardedBody) -> Result<TxnBody, ErrorCode> {
        let ForwardedBody::Request(request) = body else {
            return Err(ErrorCode::MarshallingError);
        };
        match request {
            Request::Create(body) => self.create(CreateKind::Create, NewNode::of(body)),
            Request::Create2(body) => self.create(CreateKind::Create2, NewNode::of(body)),
            Request::CreateContainer(body) => self.create(CreateKind::Container, NewNode::of(body)),
            Request::CreateTtl(body) => {
                let node = NewNode { path: &body.path, data: &body.data, acl: &body.acl, flags: body.flags };
                self.create(CreateKind::Ttl { ttl_ms: body.ttl_ms }, node)
            }
            Request::Delete(body) => self.delete(body),
            Request::DeleteContainer(body) => self.delete_container(body.path.as_deref()),
            Request::SetData(body) => self.set_data(body),
            Request::SetAcl(body) => self.set_acl(body.path.as_deref(), body.acl.as_deref(), body.version),
            Request::Multi(body) => self.multi(body),
            Request::CreateSession(body) => {
                Ok(TxnBody::CreateSession(CreateSessionTxn { timeout_ms: body.timeout_ms }))
            }
            Request::CloseSession => self.session_check.map(|()| self.close_session()),
            Request::Reconfig(_) => self.reconfig(),
            // A lone check is never proposed (3.8.0 goes astray over one); everything else is no write.
            _ => Err(ErrorCode::Unimplemented),
        }
    }

    fn create(&mut self, kind: CreateKind, node: NewNode<'_>) -> Result<TxnBody, ErrorCode> {
        check_mode(kind, node.flags, self.rules.extended_types)?;
        let (is_ephemeral, is_sequential) = (matches!(node.flags, 1 | 3), matches!(node.flags, 2 | 3 | 6));
        if is_ephemeral {
            self.ephemeral_check?
        } else {
            self.session_check?
        }
        let path = node.path.as_deref().ok_or(ErrorCode::BadArguments)?;
        let parent_path = loose_parent(path)?;
        let acl = acl::fix_up(self.acl_rules, node.acl.as_deref(), self.auth)?;
        let parent = self.existing(parent_path)?;
        self.check_acl(&parent, perms::CREATE)?;

        let path = if is_sequential { format!("{path}{:010}", parent.stat.cversion) } else { path.to_owned() };
        validate_path(&path).map_err(|_| ErrorCode::BadArguments)?;
        if self.flight.exists(self.tree, &path) {
            return Err(ErrorCode::NodeExists);
        }
        if matches!(parent.owner(), Owner::Ephemeral(_)) {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let bytes = node.data.as_ref().map_or(0, Vec::len) as i64;
        self.check_quota(&path, 1, bytes)?;
        if parent.stat.cversion == i32::MAX && is_sequential {
            return Err(ErrorCode::BadArguments); // The counter stands still: the number would come again.
        }

        let owner = match kind {
            CreateKind::Container => Owner::Container,
            CreateKind::Ttl { ttl_ms } => Owner::Ttl { ttl_ms },
            _ if is_ephemeral => Owner::Ephemeral(self.session),
            _ => Owner::Persistent,
        };
        let parent_cversion = self.add_child(parent_path, parent);
        let created = FutureNode::created(self.zxid, self.time_ms, owner, self.flight.share(&acl));
        self.flight.put(self.tree, self.zxid, &path, created, Data::New(node.data.as_deref()));

        let data = node.data.clone();
        Ok(match kind {
            CreateKind::Create => {
                TxnBody::Create(CreateTxn { path, data, acl, ephemeral: is_ephemeral, parent_cversion })
            }
            CreateKind::Create2 => {
                TxnBody::Create2(CreateTxn { path, data, acl, ephemeral: is_ephemeral, parent_cversion })
            }
            CreateKind::Container => TxnBody::CreateContainer(CreateContainerTxn { path, data, acl, parent_cversion }),
            CreateKind::Ttl { ttl_ms } => TxnBody::CreateTtl(CreateTtlTxn { path, data, acl, parent_cversion, ttl_ms }),
        })
    }

    fn delete(&mut self, body: &PathVersion) -> Result<TxnBody, ErrorCode> {
        self.session_check?;
        let path = body.path.as_deref().ok_or(ErrorCode::MarshallingError)?;
        let parent_path = deletable_parent(path)?;
        let parent = self.existing(parent_path)?;
        self.check_acl(&parent, perms::DELETE)?;
        let node = self.existing(path)?;
        check_version(body.version, node.stat.version)?;
        if node.child_count > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        self.take_child(parent_path, parent, path, &node);
        Ok(TxnBody::Delete(DeleteTxn { path: path.to_owned() }))
    }

    /// The reaper's: neither session nor ACL is asked.
    fn delete_container(&mut self, path: Option<&str>) -> Result<TxnBody, ErrorCode> {
        let path = path.ok_or(ErrorCode::MarshallingError)?;
        let parent_path = deletable_parent(path)?;
        let parent = self.existing(parent_path)?;
        let node = self.existing(path)?;
        if node.child_count > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        if matches!(node.owner(), Owner::Ephemeral(_)) {
            return Err(ErrorCode::BadVersion);
        }
        self.take_child(parent_path, parent, path, &node);
        Ok(TxnBody::DeleteContainer(DeleteTxn { path: path.to_owned() }))
    }

    fn set_data(&mut self, body: &SetDataRequest) -> Result<TxnBody, ErrorCode> {
        self.session_check?;
        let path = full_path(body.path.as_deref())?;
        let mut node = self.existing(path)?;
        self.check_acl(&node, perms::WRITE)?;
        let len = body.data.as_ref().map_or(0, Vec::len);
        self.check_quota(path, 0, len as i64 - node.data_len as i64)?;
        let version = next_version(check_version(body.version, node.stat.version)?);
        node.stat.version = version;
        node.stat.mzxid = self.zxid;
        node.stat.mtime = self.time_ms;
        self.flight.put(self.tree, self.zxid, path, node, Data::New(body.data.as_deref()));
        Ok(TxnBody::SetData(SetDataTxn { path: path.to_owned(), data: body.data.clone(), version }))
    }

    fn set_acl(&mut self, path: Option<&str>, list: Option<&[RequestAcl]>, version: i32) -> Result<TxnBody, ErrorCode> {
        self.session_check?;
        let path = full_path(path)?;
        let acl = acl::fix_up(self.acl_rules, list, self.auth)?;
        let mut node = self.existing(path)?;
        self.check_acl(&node, perms::ADMIN)?;
        let version = next_version(check_version(version, node.stat.aversion)?);
        node.stat.aversion = version;
        node.acl = self.flight.share(&acl);
        self.flight.put(self.tree, self.zxid, path, node, Data::Same);
        Ok(TxnBody::SetAcl(SetAclTxn { path: path.to_owned(), acl, version }))
    }

    /// Only inside a multi.
    fn check(&mut self, body: &PathVersion) -> Result<TxnBody, ErrorCode> {
        self.session_check?;
        let path = full_path(body.path.as_deref())?;
        let node = self.existing(path)?;
        self.check_acl(&node, perms::READ)?;
        let version = next_version(check_version(body.version, node.stat.version)?);
        Ok(TxnBody::Check(CheckTxn { path: path.to_owned(), version }))
    }

    /// All or nothing; a failed one keeps the operations before the failure, marks it, and ends in "did not get there".
    fn multi(&mut self, multi: &MultiRequest) -> Result<TxnBody, ErrorCode> {
        if !is_multi_well_formed(multi) {
            return Err(ErrorCode::MarshallingError);
        }
        let mark = self.flight.begin(self.tree);
        let mut subs = Vec::with_capacity(multi.ops.len());
        let mut len = 0;
        for op in &multi.ops {
            match self.multi_op(op) {
                Ok(sub) => {
                    // Asked on the way: what many short creates stand for (their ACLs) may not fit into memory.
                    len += sub.encoded_len();
                    if len > self.rules.txn_bytes_max {
                        return Err(ErrorCode::BadArguments);
                    }
                    subs.push(sub);
                }
                Err(error) => {
                    self.flight.roll_back(mark);
                    subs.push(TxnBody::Error(ErrorTxn { err: error.code() }));
                    let not_reached = ErrorTxn { err: ErrorCode::RuntimeInconsistency.code() };
                    subs.resize(multi.ops.len(), TxnBody::Error(not_reached));
                    break;
                }
            }
        }
        Ok(TxnBody::Multi(subs))
    }

    fn multi_op(&mut self, op: &MultiOp) -> Result<TxnBody, ErrorCode> {
        /// The mode decides, not the operation; and 3.8.0 cannot apply a create2 inside a multi.
        fn kind(flags: i32) -> CreateKind {
            if flags == 4 { CreateKind::Container } else { CreateKind::Create }
        }
        match op {
            MultiOp::Create(body) | MultiOp::Create2(body) | MultiOp::CreateContainer(body) => {
                self.create(kind(body.flags), NewNode::of(body))
            }
            MultiOp::CreateTtl(body) => {
                let is_ttl = matches!(body.flags, 5 | 6);
                let kind = if is_ttl { CreateKind::Ttl { ttl_ms: body.ttl_ms } } else { kind(body.flags) };
                let node = NewNode { path: &body.path, data: &body.data, acl: &body.acl, flags: body.flags };
                self.create(kind, node)
            }
            MultiOp::Delete(body) => self.delete(body),
            MultiOp::SetData(body) => self.set_data(body),
            MultiOp::Check(body) => self.check(body),
            MultiOp::GetData(_) | MultiOp::GetChildren(_) => Err(ErrorCode::MarshallingError),
        }
    }

    /// Lists what the session will own. A list that is too long for a transaction is cut: whoever applies it deletes
    /// the session's other ephemerals as well.
    fn close_session(&mut self) -> TxnBody {
        let mut paths: Vec<String> = self.flight.ephemerals(self.tree, self.session).into_iter().collect();
        for path in &paths {
            let node = self.flight.node(self.tree, path).expect("an ephemeral is there");
            let parent_path = parent_and_name(path).expect("an ephemeral is not the root").0;
            let parent = self.flight.node(self.tree, parent_path).expect("a node has a parent");
            self.take_child(parent_path, parent, path, &node);
        }
        let mut len = TXN_FRAME_LEN + 4;
        let fitting = paths.iter().take_while(|path| {
            len += 4 + path.len();
            len <= self.rules.txn_bytes_max
        });
        paths.truncate(fitting.count());
        TxnBody::CloseSession { paths: self.rules.close_session_lists.then_some(paths) }
    }

    /// The ACL is asked last: who may not change the list is told first what is wrong with the change.
    fn reconfig(&mut self) -> Result<TxnBody, ErrorCode> {
        if !self.rules.reconfig {
            return Err(ErrorCode::ReconfigDisabled);
        }
        self.session_check?;
        let data = self.new_config?.as_bytes();
        let mut node = self.existing(CONFIG_PATH)?;
        self.check_acl(&node, perms::WRITE)?;
        let version = -1;
        (node.stat.version, node.stat.mzxid, node.stat.mtime) = (version, self.zxid, self.time_ms);
        self.flight.put(self.tree, self.zxid, CONFIG_PATH, node, Data::New(Some(data)));
        Ok(TxnBody::Reconfig(SetDataTxn { path: CONFIG_PATH.to_owned(), data: Some(data.to_vec()), version }))
    }

    fn check_quota(&mut self, path: &str, count_diff: i64, bytes_diff: i64) -> Result<(), ErrorCode> {
        if !self.rules.enforce_quota {
            return Ok(());
        }
        self.flight.check_quota(self.tree, path, count_diff, bytes_diff)
    }

    fn existing(&self, path: &str) -> Result<FutureNode, ErrorCode> {
        self.flight.node(self.tree, path).ok_or(ErrorCode::NoNode)
    }

    fn check_acl(&self, node: &FutureNode, perm: i32) -> Result<(), ErrorCode> {
        if acl::allows(self.acl_rules, &node.acl, self.auth, perm) { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }

    /// The parent with a child more; its new stored cversion. At its end the counter stands still, and pzxid with it.
    fn add_child(&mut self, path: &str, mut parent: FutureNode) -> i32 {
        parent.child_count += 1;
        if parent.stat.cversion < i32::MAX {
            parent.stat.cversion += 1;
            parent.stat.pzxid = self.zxid;
        }
        let cversion = parent.stat.cversion;
        self.flight.put(self.tree, self.zxid, path, parent, Data::Same);
        cversion
    }

    /// `node` at `path` goes; the parent's stored cversion counts creates only.
    fn take_child(&mut self, parent_path: &str, mut parent: FutureNode, path: &str, node: &FutureNode) {
        parent.child_count -= 1;
        parent.stat.pzxid = parent.stat.pzxid.max(self.zxid);
        self.flight.put(self.tree, self.zxid, parent_path, parent, Data::Same);
        self.flight.remove(self.zxid, path, node);
    }
}

/// Flags 0 to 6 are the create modes; a TTL must be there exactly where mode and operation want one.
///
/// Apache lets a createTTL without a TTL mode pass if its ttl is negative, and dies of applying it, at each start again.
fn check_mode(kind: CreateKind, flags: i32, extended_types: bool) -> Result<(), ErrorCode> {
    let is_ttl_mode = match flags {
        0..=4 => false,
        5 | 6 if !extended_types => return Err(ErrorCode::Unimplemented),
        5 | 6 => true,
        _ => return Err(ErrorCode::BadArguments),
    };
    let fits = match kind {
        CreateKind::Ttl { ttl_ms } => is_ttl_mode && (1..=TTL_MS_MAX).contains(&ttl_ms),
        _ => !is_ttl_mode,
    };
    if fits { Ok(()) } else { Err(ErrorCode::BadArguments) }
}

/// The parent of a path that is otherwise not checked yet: the parent is looked up before the last element is judged.
fn loose_parent(path: &str) -> Result<&str, ErrorCode> {
    match parent_and_name(path) {
        Some((parent, _)) if !path.contains('\0') => Ok(parent),
        _ => Err(ErrorCode::BadArguments),
    }
}

fn deletable_parent(path: &str) -> Result<&str, ErrorCode> {
    match path {
        "/" | "/zookeeper" | "/zookeeper/quota" | "/zookeeper/config" => Err(ErrorCode::BadArguments),
        _ => loose_parent(path),
    }
}

fn full_path(path: Option<&str>) -> Result<&str, ErrorCode> {
    let path = path.ok_or(ErrorCode::BadArguments)?;
    validate_path(path).map_err(|_| ErrorCode::BadArguments)?;
    Ok(path)
}

/// -1 is any version. The current one is handed back.
fn check_version(wanted: i32, current: i32) -> Result<i32, ErrorCode> {
    if wanted == -1 || wanted == current { Ok(current) } else { Err(ErrorCode::BadVersion) }
}

/// Wraps around, without -1, which would mean "any" (so from 3.10 on).
fn next_version(version: i32) -> i32 {
    match version.wrapping_add(1) {
        -1 => 0,
        next => next,
    }
}
