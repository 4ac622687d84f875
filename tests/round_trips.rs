//! Any record that zabkit can hold survives its bytes: arbitrary requests, replies, transactions, packets and
//! snapshot items are written and read back.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use std::fmt::Debug;
use zabkit::jute::{Reader, Record};
use zabkit::records::*;

fn survives<T: Record + PartialEq + Debug>(record: &T) -> Result<(), TestCaseError> {
    let bytes = record.to_bytes();
    let from = &mut Reader::new(&bytes);
    let read = T::read(from);
    prop_assert_eq!(read.as_ref(), Ok(record));
    prop_assert_eq!(from.remaining(), 0);
    prop_assert!(bytes.len() >= T::MIN_LEN, "{} bytes are fewer than MIN_LEN", bytes.len());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_request_survives(request in request()) {
        let mut bytes = Vec::new();
        request.write(&mut bytes);
        let from = &mut Reader::new(&bytes);
        prop_assert_eq!(Request::read(request.op(), from), Some(Ok(request)));
        prop_assert_eq!(from.remaining(), 0);
    }

    #[test]
    fn any_connect_exchange_survives(
        numbers in any::<(i32, i64, i32, i64)>(), password in option::of(bytes()), read_only in option::of(any::<bool>()),
    ) {
        let (protocol_version, zxid, timeout_ms, session) = numbers;
        let session = SessionId(session);
        let response_password = password.clone().unwrap_or_default();
        let last_zxid_seen = Zxid(zxid);
        survives(&ConnectRequest { protocol_version, last_zxid_seen, timeout_ms, session, password, read_only })?;
        let password = response_password;
        survives(&ConnectResponse { protocol_version, timeout_ms, session, password, read_only })?;
    }

    #[test]
    fn any_reply_survives((code, response) in response()) {
        let mut bytes = Vec::new();
        response.write(&mut bytes);
        let from = &mut Reader::new(&bytes);
        prop_assert_eq!(Response::read(code, from), Ok(response));
        prop_assert_eq!(from.remaining(), 0);
    }

    #[test]
    fn any_transaction_survives(txn in txn()) {
        survives(&txn)?;
        prop_assert_eq!(txn_zxid(&txn.to_bytes()), Ok(txn.zxid));
    }

    /// Two in a row, so that the first must end exactly where it says.
    #[test]
    fn any_packets_survive_a_stream(cut in 0..3usize, first in packet(), second in packet()) {
        let (from_leader, first) = first;
        let second = if from_leader == second.0 { second.1 } else { QuorumPacket::UpToDate };
        let mut bytes = Vec::new();
        first.write(&mut bytes);
        let whole = bytes.len();
        second.write(&mut bytes);
        let from = &mut Reader::new(&bytes);
        prop_assert_eq!(QuorumPacket::take(from, from_leader), Ok(Some(first)));
        prop_assert_eq!(from.remaining(), bytes.len() - whole);
        prop_assert_eq!(QuorumPacket::take(from, from_leader), Ok(Some(second)));
        let early = whole.saturating_sub(1 + cut);
        prop_assert_eq!(QuorumPacket::take(&mut Reader::new(&bytes[..early]), from_leader), Ok(None));
    }

    #[test]
    fn any_election_message_survives(
        numbers in any::<(i64, i64, i64, i64)>(), state in 0..4usize, version in 2..9, config in text(),
        addresses in vec("[a-z0-9.:]{1,20}", 1..4), form in 0..3,
    ) {
        let (leader, zxid, election_epoch, peer_epoch) = numbers;
        let zxid = Zxid(zxid);
        let (form, peer_epoch) = match form {
            0 => (NotificationForm::Old28, zxid.epoch().0),
            1 => (NotificationForm::Old40 { last: version }, peer_epoch),
            _ => (NotificationForm::V2 { version, config }, peer_epoch),
        };
        let state = [PeerState::Looking, PeerState::Following, PeerState::Leading, PeerState::Observing][state];
        let sent = Notification { state, leader: ServerId(leader), zxid, election_epoch, peer_epoch, form };
        let mut bytes = Vec::new();
        sent.write(&mut bytes);
        prop_assert_eq!(Notification::decode(&bytes[4..]), Ok(sent));

        let addresses = match addresses.len() {
            1 => InitialAddresses::One(addresses.concat()),
            _ => InitialAddresses::Several(addresses),
        };
        let initial = Initial { server: ServerId(leader), addresses };
        let mut bytes = Vec::new();
        initial.write(&mut bytes);
        prop_assert_eq!(Initial::take(&mut Reader::new(&bytes)), Ok(Some(initial)));
        prop_assert_eq!(Initial::take(&mut Reader::new(&bytes[..bytes.len() - 1])), Ok(None));
    }

    #[test]
    fn any_snapshot_body_survives_arriving_in_pieces(
        sessions in vec(any::<(i64, i32)>(), 0..4), acls in vec((any::<i64>(), vec(acl(), 0..3)), 0..4),
        nodes in vec((path(), option::of(bytes()), any::<i64>(), persisted()), 0..5), piece in 1..40usize,
    ) {
        let mut items = vec![SnapshotItem::SessionCount(sessions.len() as i32)];
        items.extend(sessions.into_iter().map(|(session, timeout_ms)| {
            SnapshotItem::Session(SnapshotSession { session: SessionId(session), timeout_ms })
        }));
        items.push(SnapshotItem::AclCount(acls.len() as i32));
        items.extend(acls.into_iter().map(|(key, acl)| SnapshotItem::Acl(SnapshotAcl { key, acl })));
        let nodes = nodes.into_iter().filter(|node| node.0 != "/"); // The end's mark; the root is "".
        items.extend(nodes.map(|(path, data, acl_key, stat)| {
            SnapshotItem::Node(SnapshotNode { path, data, acl_key, stat })
        }));
        items.push(SnapshotItem::End);
        let mut bytes = Vec::new();
        items.iter().for_each(|item| item.write(&mut bytes));

        let (mut decoder, mut arrived, mut taken) = (SnapshotDecoder::default(), Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            arrived.extend_from_slice(piece);
            let mut from = Reader::new(&arrived);
            while let Some(item) = decoder.take(&mut from, TXN_BYTES_MAX).expect("a good stream") {
                taken.push(item);
            }
            arrived = from.rest().to_vec();
        }
        prop_assert!(decoder.is_done() && arrived.is_empty());
        prop_assert_eq!(taken, items);
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z/]{0,12}", ".{0,6}"]
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![3 => "(/[a-z.]{1,6}){1,3}", 1 => Just(String::new()), 1 => Just("/".to_owned())]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..20)
}

fn id() -> impl Strategy<Value = Id> {
    (text(), text()).prop_map(|(scheme, id)| Id { scheme, id })
}

fn acl() -> impl Strategy<Value = Acl> {
    (any::<i32>(), id()).prop_map(|(perms, id)| Acl { perms, id })
}

fn request_acl() -> impl Strategy<Value = RequestAcl> {
    (any::<i32>(), option::of(text()), option::of(text())).prop_map(|(perms, scheme, id)| RequestAcl {
        perms,
        scheme,
        id,
    })
}

fn stat() -> impl Strategy<Value = Stat> {
    (any::<[i64; 6]>(), any::<[i32; 5]>()).prop_map(|(long, int)| Stat {
        czxid: Zxid(long[0]),
        mzxid: Zxid(long[1]),
        ctime: long[2],
        mtime: long[3],
        version: int[0],
        cversion: int[1],
        aversion: int[2],
        ephemeral_owner: long[4],
        data_length: int[3],
        num_children: int[4],
        pzxid: Zxid(long[5]),
    })
}

fn persisted() -> impl Strategy<Value = StatPersisted> {
    (any::<[i64; 6]>(), any::<[i32; 3]>()).prop_map(|(long, int)| StatPersisted {
        czxid: Zxid(long[0]),
        mzxid: Zxid(long[1]),
        ctime: long[2],
        mtime: long[3],
        version: int[0],
        cversion: int[1],
        aversion: int[2],
        ephemeral_owner: long[4],
        pzxid: Zxid(long[5]),
    })
}

fn create_request() -> impl Strategy<Value = CreateRequest> {
    (option::of(text()), option::of(bytes()), option::of(vec(request_acl(), 0..4)), any::<i32>())
        .prop_map(|(path, data, acl, flags)| CreateRequest { path, data, acl, flags })
}

fn create_ttl_request() -> impl Strategy<Value = CreateTtlRequest> {
    (create_request(), any::<i64>()).prop_map(|(create, ttl_ms)| {
        let CreateRequest { path, data, acl, flags } = create;
        CreateTtlRequest { path, data, acl, flags, ttl_ms }
    })
}

fn path_version() -> impl Strategy<Value = PathVersion> {
    (option::of(text()), any::<i32>()).prop_map(|(path, version)| PathVersion { path, version })
}

fn path_watch() -> impl Strategy<Value = PathWatch> {
    (option::of(text()), any::<bool>()).prop_map(|(path, watch)| PathWatch { path, watch })
}

fn path_only() -> impl Strategy<Value = PathOnly> {
    option::of(text()).prop_map(|path| PathOnly { path })
}

fn path_type() -> impl Strategy<Value = PathType> {
    (option::of(text()), any::<i32>()).prop_map(|(path, kind)| PathType { path, kind })
}

fn set_data_request() -> impl Strategy<Value = SetDataRequest> {
    (option::of(text()), option::of(bytes()), any::<i32>()).prop_map(|(path, data, version)| SetDataRequest {
        path,
        data,
        version,
    })
}

fn multi_request() -> BoxedStrategy<MultiRequest> {
    let op = prop_oneof![
        create_request().prop_map(MultiOp::Create),
        create_request().prop_map(MultiOp::Create2),
        create_request().prop_map(MultiOp::CreateContainer),
        create_ttl_request().prop_map(MultiOp::CreateTtl),
        path_version().prop_map(MultiOp::Delete),
        set_data_request().prop_map(MultiOp::SetData),
        path_version().prop_map(MultiOp::Check),
        path_watch().prop_map(MultiOp::GetData),
        path_watch().prop_map(MultiOp::GetChildren),
    ];
    vec(op, 0..5).prop_map(|ops| MultiRequest { ops }).boxed()
}

fn paths() -> impl Strategy<Value = Option<Vec<String>>> {
    option::of(vec(text(), 0..4))
}

fn request() -> BoxedStrategy<Request> {
    let writes = prop_oneof![
        create_request().prop_map(Request::Create),
        create_request().prop_map(Request::Create2),
        create_request().prop_map(Request::CreateContainer),
        create_ttl_request().prop_map(Request::CreateTtl),
        path_version().prop_map(Request::Delete),
        path_only().prop_map(Request::DeleteContainer),
        set_data_request().prop_map(Request::SetData),
        (option::of(text()), option::of(vec(request_acl(), 0..4)), any::<i32>())
            .prop_map(|(path, acl, version)| Request::SetAcl(SetAclRequest { path, acl, version })),
        path_version().prop_map(Request::Check),
        multi_request().prop_map(Request::Multi),
        (option::of(text()), option::of(text()), option::of(text()), any::<i64>()).prop_map(
            |(joining, leaving, new_members, current_config)| {
                Request::Reconfig(ReconfigRequest { joining, leaving, new_members, current_config })
            }
        ),
        any::<i32>().prop_map(|timeout_ms| Request::CreateSession(CreateSessionRequest { timeout_ms })),
        Just(Request::CloseSession),
    ]
    .boxed();
    let reads = prop_oneof![
        path_only().prop_map(Request::Sync),
        path_watch().prop_map(Request::Exists),
        path_watch().prop_map(Request::GetData),
        path_only().prop_map(Request::GetAcl),
        path_watch().prop_map(Request::GetChildren),
        path_watch().prop_map(Request::GetChildren2),
        path_only().prop_map(Request::GetEphemerals),
        path_only().prop_map(Request::GetAllChildrenNumber),
        multi_request().prop_map(Request::MultiRead),
    ]
    .boxed();
    let others = prop_oneof![
        path_type().prop_map(Request::CheckWatches),
        path_type().prop_map(Request::RemoveWatches),
        (option::of(text()), any::<i32>()).prop_map(|(path, mode)| Request::AddWatch(AddWatchRequest { path, mode })),
        (any::<i64>(), paths(), paths(), paths()).prop_map(|(zxid, data, exist, child)| {
            Request::SetWatches(SetWatchesRequest { relative_zxid: Zxid(zxid), data, exist, child })
        }),
        (any::<i64>(), paths(), paths(), paths(), paths(), paths()).prop_map(
            |(zxid, data, exist, child, persistent, persistent_recursive)| {
                let relative_zxid = Zxid(zxid);
                Request::SetWatches2(SetWatches2Request {
                    relative_zxid,
                    data,
                    exist,
                    child,
                    persistent,
                    persistent_recursive,
                })
            }
        ),
        (any::<i32>(), option::of(text()), option::of(bytes()))
            .prop_map(|(kind, scheme, auth)| Request::Auth(AuthRequest { kind, scheme, auth })),
        option::of(bytes()).prop_map(|token| Request::Sasl(SaslRequest { token })),
        Just(Request::WhoAmI),
        Just(Request::Ping),
    ]
    .boxed();
    prop_oneof![writes, reads, others].boxed()
}

fn multi_response() -> BoxedStrategy<MultiResponse> {
    let result = prop_oneof![
        text().prop_map(|path| MultiResult::Create { path }),
        (text(), stat()).prop_map(|(path, stat)| MultiResult::Create2 { path, stat }),
        Just(MultiResult::Delete),
        stat().prop_map(|stat| MultiResult::SetData { stat }),
        Just(MultiResult::Check),
        (option::of(bytes()), stat()).prop_map(|(data, stat)| MultiResult::GetData { data, stat }),
        vec(text(), 0..4).prop_map(|children| MultiResult::GetChildren { children }),
        any::<i32>().prop_map(|code| MultiResult::Error { code }),
    ];
    vec(result, 0..5).prop_map(|results| MultiResponse { results }).boxed()
}

/// A reply body with an operation that it answers.
fn response() -> BoxedStrategy<(i32, Response)> {
    let children = || vec(text(), 0..5);
    prop_oneof![
        Just((op::DELETE, Response::Empty)),
        option::of(text()).prop_map(|path| (op::SYNC, Response::Path(PathReply { path }))),
        (text(), stat()).prop_map(|(path, stat)| (op::CREATE2, Response::PathStat(PathStat { path, stat }))),
        stat().prop_map(|stat| (op::EXISTS, Response::Stat(StatReply { stat }))),
        (option::of(bytes()), stat())
            .prop_map(|(data, stat)| (op::GET_DATA, Response::DataStat(DataStat { data, stat }))),
        (vec(acl(), 0..4), stat()).prop_map(|(acl, stat)| (op::GET_ACL, Response::AclStat(AclStat { acl, stat }))),
        children().prop_map(|children| (op::GET_CHILDREN, Response::Children(Children { children }))),
        (children(), stat()).prop_map(|(children, stat)| {
            (op::GET_CHILDREN2, Response::ChildrenStat(ChildrenStat { children, stat }))
        }),
        multi_response().prop_map(|multi| (op::MULTI, Response::Multi(multi))),
        option::of(bytes()).prop_map(|token| (op::SASL, Response::Sasl(SaslReply { token }))),
        children().prop_map(|ephemerals| (op::GET_EPHEMERALS, Response::Ephemerals(Ephemerals { ephemerals }))),
        any::<i32>().prop_map(|total| (op::GET_ALL_CHILDREN_NUMBER, Response::TotalNumber(TotalNumber { total }))),
        any::<i32>().prop_map(|err| (op::ADD_WATCH, Response::AddWatch(ErrorReply { err }))),
        vec((text(), text()), 0..4).prop_map(|infos| {
            let info = |(auth_scheme, user)| ClientInfo { auth_scheme, user };
            (op::WHO_AM_I, Response::WhoAmI(WhoAmIReply { client_info: infos.into_iter().map(info).collect() }))
        }),
    ]
    .boxed()
}

fn create_txn() -> impl Strategy<Value = CreateTxn> {
    (path(), option::of(bytes()), vec(acl(), 0..4), any::<bool>(), any::<i32>()).prop_map(
        |(path, data, acl, ephemeral, parent_cversion)| CreateTxn { path, data, acl, ephemeral, parent_cversion },
    )
}

fn set_data_txn() -> impl Strategy<Value = SetDataTxn> {
    (path(), option::of(bytes()), any::<i32>()).prop_map(|(path, data, version)| SetDataTxn { path, data, version })
}

/// What may stand in a multi.
fn simple_txn() -> BoxedStrategy<TxnBody> {
    prop_oneof![
        create_txn().prop_map(TxnBody::Create),
        create_txn().prop_map(TxnBody::Create2),
        (create_txn(), any::<i64>()).prop_map(|(create, ttl_ms)| {
            let CreateTxn { path, data, acl, parent_cversion, .. } = create;
            TxnBody::CreateTtl(CreateTtlTxn { path, data, acl, parent_cversion, ttl_ms })
        }),
        create_txn().prop_map(|CreateTxn { path, data, acl, parent_cversion, .. }| {
            TxnBody::CreateContainer(CreateContainerTxn { path, data, acl, parent_cversion })
        }),
        path().prop_map(|path| TxnBody::Delete(DeleteTxn { path })),
        path().prop_map(|path| TxnBody::DeleteContainer(DeleteTxn { path })),
        set_data_txn().prop_map(TxnBody::SetData),
        (path(), any::<i32>()).prop_map(|(path, version)| TxnBody::Check(CheckTxn { path, version })),
        any::<i32>().prop_map(|err| TxnBody::Error(ErrorTxn { err })),
    ]
    .boxed()
}

fn txn_body() -> BoxedStrategy<TxnBody> {
    prop_oneof![
        4 => simple_txn(),
        1 => any::<i32>().prop_map(|timeout_ms| TxnBody::CreateSession(CreateSessionTxn { timeout_ms })),
        1 => option::of(vec(path(), 0..4)).prop_map(|paths| TxnBody::CloseSession { paths }),
        1 => set_data_txn().prop_map(TxnBody::Reconfig),
        1 => (path(), vec(acl(), 0..4), any::<i32>())
            .prop_map(|(path, acl, version)| TxnBody::SetAcl(SetAclTxn { path, acl, version })),
        2 => vec(simple_txn(), 0..5).prop_map(TxnBody::Multi),
    ]
    .boxed()
}

fn txn() -> BoxedStrategy<Txn> {
    (any::<(i64, i32, i64, i64)>(), txn_body(), option::of(any::<i64>()))
        .prop_map(|((session, cxid, zxid, time_ms), body, digest)| {
            let digest = digest.map(|digest| TxnDigest { version: DIGEST_VERSION, digest });
            Txn { session: SessionId(session), cxid, zxid: Zxid(zxid), time_ms, body, digest }
        })
        .boxed()
}

fn touched() -> impl Strategy<Value = Vec<TouchedSession>> {
    let session = |(session, timeout_ms)| TouchedSession { session: SessionId(session), timeout_ms };
    vec(any::<(i64, i32)>(), 0..5).prop_map(move |sessions| sessions.into_iter().map(session).collect())
}

/// A packet, and whether it comes from the leader.
fn packet() -> BoxedStrategy<(bool, QuorumPacket)> {
    prop_oneof![from_leader().prop_map(|packet| (true, packet)), from_learner().prop_map(|packet| (false, packet))]
        .boxed()
}

fn from_learner() -> BoxedStrategy<QuorumPacket> {
    let forwarded = (any::<(i64, i32)>(), request(), vec(id(), 0..3)).prop_map(|((session, cxid), request, auth)| {
        let body = ForwardedBody::Request(request);
        QuorumPacket::Request(ForwardedRequest { session: SessionId(session), cxid, body, auth })
    });
    let info = || {
        (0..i64::from(i32::MAX), any::<(i64, i32, i64)>()).prop_map(|(epoch, (server, protocol_version, config))| {
            (Epoch(epoch), LearnerInfo { server: ServerId(server), protocol_version, config_version: config })
        })
    };
    prop_oneof![
        forwarded,
        any::<i64>().prop_map(|zxid| QuorumPacket::Ack { zxid: Zxid(zxid) }),
        (any::<i64>(), touched())
            .prop_map(|(zxid, touched)| QuorumPacket::Ping { zxid: Zxid(zxid), touched: Some(touched) }),
        any::<(i64, i32)>()
            .prop_map(|(session, timeout_ms)| { QuorumPacket::Revalidate { session: SessionId(session), timeout_ms } }),
        info().prop_map(|(accepted_epoch, info)| QuorumPacket::FollowerInfo { accepted_epoch, info }),
        info().prop_map(|(accepted_epoch, info)| QuorumPacket::ObserverInfo { accepted_epoch, info }),
        (any::<i64>(), option::of(0..i64::from(i32::MAX))).prop_map(|(zxid, epoch)| QuorumPacket::AckEpoch {
            last_logged: Zxid(zxid),
            current_epoch: epoch.map(Epoch),
        }),
    ]
    .boxed()
}

fn from_leader() -> BoxedStrategy<QuorumPacket> {
    let zxid = || any::<i64>().prop_map(Zxid);
    let txn = || txn().prop_map(|txn| bytes::Bytes::from(txn.to_bytes()));
    let epoch = || (0..i64::from(i32::MAX)).prop_map(Epoch);
    let server = || any::<i64>().prop_map(ServerId);
    prop_oneof![
        (zxid(), txn()).prop_map(|(zxid, txn)| QuorumPacket::Proposal { zxid, txn }),
        (zxid(), txn()).prop_map(|(zxid, txn)| QuorumPacket::Inform { zxid, txn }),
        (zxid(), server(), txn()).prop_map(|(zxid, designated_leader, txn)| {
            QuorumPacket::InformAndActivate { zxid, designated_leader, txn }
        }),
        (zxid(), server())
            .prop_map(|(zxid, designated_leader)| QuorumPacket::CommitAndActivate { zxid, designated_leader }),
        zxid().prop_map(|zxid| QuorumPacket::Commit { zxid }),
        zxid().prop_map(|zxid| QuorumPacket::Ping { zxid, touched: None }),
        any::<(i64, bool)>()
            .prop_map(|(session, valid)| QuorumPacket::Revalidated { session: SessionId(session), valid }),
        zxid().prop_map(|zxid| QuorumPacket::Sync { zxid }),
        (zxid(), option::of(text())).prop_map(|(zxid, config)| QuorumPacket::NewLeader { zxid, config }),
        (epoch(), any::<i32>())
            .prop_map(|(epoch, protocol_version)| QuorumPacket::LeaderInfo { epoch, protocol_version }),
        Just(QuorumPacket::UpToDate),
        zxid().prop_map(|zxid| QuorumPacket::Diff { zxid }),
        zxid().prop_map(|zxid| QuorumPacket::Trunc { zxid }),
        zxid().prop_map(|zxid| QuorumPacket::Snap { zxid }),
    ]
    .boxed()
}
