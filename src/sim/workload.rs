//! What clients ask for: a few shared parents, names that collide, values that never repeat.

use super::rng::Rng;
use super::run::Scenario;
use crate::client::{Call, CreateMode, WatchId, WriteOp};
use crate::records::{
    Acl, CreateRequest, CreateTtlRequest, MultiOp, MultiRequest, PathOnly, PathVersion, PathWatch, Request, RequestAcl,
    SetDataRequest,
};

/// Shared by all clients.
const PARENTS: [&str; 4] = ["/a", "/b", "/c", "/d"];
/// The parent of each client's last write.
const LAST: &str = "/last-";

/// One client's requests.
pub struct Workload {
    client: usize,
    rng: Rng,
    /// Makes each value the only one of its kind.
    value: u64,
    /// Sequential znodes that were made.
    sequential: Vec<String>,
    /// Percent of requests that are reads.
    reads: u64,
    /// Reads come behind syncs.
    syncs: bool,
    is_read_next: bool,
}

/// Whether it is a [`last_request`](Workload::last_request).
pub fn is_last(request: &Request) -> bool {
    matches!(request, Request::Create(CreateRequest { path: Some(path), .. }) if path.starts_with(LAST))
}

/// Whether the request is to set a watch.
pub fn asks_for_watch(request: &Request) -> bool {
    match request {
        Request::Exists(body) | Request::GetData(body) | Request::GetChildren(body) | Request::GetChildren2(body) => {
            body.watch
        }
        _ => false,
    }
}

/// Does `make` with the call that is the request.
pub fn with_call<R>(request: &Request, watch: Option<WatchId>, make: impl FnOnce(&Call<'_>) -> R) -> R {
    let acl = &[Acl::open()][..];
    match request {
        Request::Create(body) => make(&create(body, acl, false)),
        Request::Create2(body) => make(&create(body, acl, true)),
        Request::CreateContainer(body) => {
            let (path, data) = (text(&body.path), body.data.as_deref());
            make(&Call::Create { path, data, acl, mode: CreateMode::Container, stat: true })
        }
        Request::CreateTtl(body) => {
            let (path, data, mode) = (text(&body.path), body.data.as_deref(), CreateMode::Ttl { ttl_ms: body.ttl_ms });
            make(&Call::Create { path, data, acl, mode, stat: true })
        }
        Request::Delete(body) => make(&Call::Delete { path: text(&body.path), version: body.version }),
        Request::SetData(body) => {
            make(&Call::Set { path: text(&body.path), data: body.data.as_deref(), version: body.version })
        }
        Request::Sync(body) => make(&Call::Sync { path: text(&body.path) }),
        Request::Exists(body) => make(&Call::Exists { path: text(&body.path), watch }),
        Request::GetData(body) => make(&Call::Get { path: text(&body.path), watch }),
        Request::GetChildren(body) => make(&Call::Children { path: text(&body.path), watch, stat: false }),
        Request::GetChildren2(body) => make(&Call::Children { path: text(&body.path), watch, stat: true }),
        Request::Multi(body) => {
            let ops: Vec<WriteOp<'_>> = body.ops.iter().map(|op| write_op(op, acl)).collect();
            make(&Call::Multi { ops: &ops })
        }
        Request::Reconfig(body) => make(&Call::Reconfig {
            joining: body.joining.as_deref(),
            leaving: body.leaving.as_deref(),
            new_members: body.new_members.as_deref(),
            current_config: body.current_config,
        }),
        other => unreachable!("the workload has no {other:?}"),
    }
}

fn text(path: &Option<String>) -> &str {
    path.as_deref().unwrap_or_default()
}

fn mode(flags: i32) -> CreateMode {
    match flags {
        0 => CreateMode::Persistent,
        1 => CreateMode::Ephemeral,
        2 => CreateMode::PersistentSequential,
        _ => CreateMode::EphemeralSequential,
    }
}

fn create<'a>(body: &'a CreateRequest, acl: &'a [Acl], stat: bool) -> Call<'a> {
    Call::Create { path: text(&body.path), data: body.data.as_deref(), acl, mode: mode(body.flags), stat }
}

fn write_op<'a>(op: &'a MultiOp, acl: &'a [Acl]) -> WriteOp<'a> {
    match op {
        MultiOp::Create(body) => {
            let (data, mode) = (body.data.as_deref(), mode(body.flags));
            WriteOp::Create { path: text(&body.path), data, acl, mode, stat: false }
        }
        MultiOp::SetData(body) => {
            WriteOp::Set { path: text(&body.path), data: body.data.as_deref(), version: body.version }
        }
        MultiOp::Delete(body) => WriteOp::Delete { path: text(&body.path), version: body.version },
        MultiOp::Check(body) => WriteOp::Check { path: text(&body.path), version: body.version },
        other => unreachable!("the workload has no {other:?}"),
    }
}

impl Workload {
    pub fn new(client: usize, scenario: Scenario, mut rng: Rng) -> Workload {
        let reads = *rng.pick(&[20, 50, 80]);
        let syncs = scenario == Scenario::CutOffLeader;
        Workload { client, rng, value: 0, sequential: Vec::new(), reads, syncs, is_read_next: false }
    }

    /// Whether the last request was a sync for the sake of a read.
    pub fn is_read_next(&self) -> bool {
        self.is_read_next
    }

    /// A sequential znode was made; what is made is deleted again some time.
    pub fn created(&mut self, path: &str) {
        if path.contains("/s-") {
            self.sequential.push(path.to_owned());
        }
    }

    /// A write that must be answered once everything is healed.
    pub fn last_request(&mut self) -> Request {
        let path = format!("{LAST}{}-", self.client);
        self.create(path, 2)
    }

    pub fn next_request(&mut self) -> Request {
        if std::mem::take(&mut self.is_read_next) {
            return self.read();
        }
        if self.rng.percent(self.reads) {
            if self.syncs {
                self.is_read_next = true;
                return Request::Sync(PathOnly { path: Some("/".into()) });
            }
            return self.read();
        }
        match self.rng.below(100) {
            0..30 => self.a_create(),
            30..65 => Request::SetData(self.a_set()),
            65..80 => Request::Delete(self.a_delete()),
            80..90 => self.multi(),
            90..99 => Request::Sync(PathOnly { path: Some("/".into()) }),
            _ if self.rng.one_in(3) => Request::CloseSession,
            _ => Request::Sync(PathOnly { path: Some("/a".into()) }),
        }
    }

    fn read(&mut self) -> Request {
        let path = if self.rng.one_in(3) { self.parent() } else { self.child() };
        let body = PathWatch { path: Some(path), watch: self.rng.one_in(4) };
        match self.rng.below(4) {
            0 => Request::Exists(body),
            1 => Request::GetChildren(body),
            2 => Request::GetChildren2(body),
            _ => Request::GetData(body),
        }
    }

    fn parent(&mut self) -> String {
        (*self.rng.pick(&PARENTS)).to_owned()
    }

    fn child(&mut self) -> String {
        format!("{}/{}", self.parent(), self.rng.below(6))
    }

    fn data(&mut self) -> Option<Vec<u8>> {
        self.value += 1;
        let mut data = format!("{}:{}", self.client, self.value).into_bytes();
        if self.rng.one_in(20) {
            data.resize(data.len() + self.rng.below(3_000) as usize, b'.');
        }
        if self.rng.one_in(40) { None } else { Some(data) }
    }

    fn create(&mut self, path: String, flags: i32) -> Request {
        Request::Create(self.create_body(path, flags))
    }

    fn create_body(&mut self, path: String, flags: i32) -> CreateRequest {
        CreateRequest { path: Some(path), data: self.data(), acl: Some(vec![RequestAcl::from(&Acl::open())]), flags }
    }

    fn a_create(&mut self) -> Request {
        if self.rng.one_in(5) {
            let parent = self.parent();
            if self.rng.one_in(3) {
                return Request::CreateContainer(self.create_body(parent, 4));
            }
            return self.create(parent, 0);
        }
        if self.rng.one_in(8) {
            let path = self.child();
            let CreateRequest { path, data, acl, flags } = self.create_body(path, 5);
            let ttl_ms = 1 + self.rng.below(3_000) as i64;
            return Request::CreateTtl(CreateTtlRequest { path, data, acl, flags, ttl_ms });
        }
        let flags = *self.rng.pick(&[0, 0, 1, 1, 2, 3]);
        let path = if flags >= 2 { format!("{}/s-", self.parent()) } else { self.child() };
        if self.rng.one_in(4) {
            return Request::Create2(self.create_body(path, flags));
        }
        self.create(path, flags)
    }

    fn version(&mut self) -> i32 {
        if self.rng.one_in(4) { self.rng.below(4) as i32 } else { -1 }
    }

    fn a_set(&mut self) -> SetDataRequest {
        let path = if self.rng.one_in(4) { self.parent() } else { self.child() };
        SetDataRequest { path: Some(path), data: self.data(), version: self.version() }
    }

    fn a_delete(&mut self) -> PathVersion {
        if self.sequential.len() > 4 && self.rng.one_in(2) {
            let index = self.rng.below(self.sequential.len() as u64) as usize;
            return PathVersion { path: Some(self.sequential.swap_remove(index)), version: -1 };
        }
        let path = if self.rng.one_in(8) { self.parent() } else { self.child() };
        PathVersion { path: Some(path), version: self.version() }
    }

    fn multi(&mut self) -> Request {
        let count = 1 + self.rng.below(4);
        let ops = (0..count)
            .map(|_| match self.rng.below(8) {
                0..3 => {
                    let path = self.child();
                    let flags = *self.rng.pick(&[0, 1]);
                    MultiOp::Create(self.create_body(path, flags))
                }
                3..6 => MultiOp::SetData(self.a_set()),
                6 => MultiOp::Delete(self.a_delete()),
                _ => MultiOp::Check(PathVersion { path: Some(self.parent()), version: -1 }),
            })
            .collect();
        Request::Multi(MultiRequest { ops })
    }
}
