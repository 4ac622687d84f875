//! `_zabkit.ClientCore`: one session, driven by the caller's event loop; `zabkit.Client` is its public face.
//!
//! Each call is encoded at once from the caller's objects and answered by a real `asyncio.Future`; what one turn of
//! the loop has called leaves in one `send`. How the loop drives the session is in [`client_host`](super::client_host).
//!
//! The one thing that is easy to get wrong: Python code runs wherever a Python object is called *or dropped*, and may
//! call into this core again. So nothing of Python's is called, made or dropped while the lock is held.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PySequence, PyString, PyTuple};

use super::client_calls::{Answer, Waiting, acls, create_mode, parts};
use super::client_errors;
use super::client_link::Link;
use super::errors::ForkError;
use crate::client::{Call, CallError, CallId, Session, SessionConfig, State, WatchId};
use crate::records::{Acl, SessionId, validate_path};

/// One session, driven by the caller's event loop.
#[pyclass(frozen, module = "zabkit._zabkit", weakref)]
pub(super) struct ClientCore {
    /// [`FORKS`] when it was made: elsewhere it is a forked child's copy.
    forks: u32,
    pub(super) event_loop: Py<PyAny>,
    /// Methods of the loop, bound once.
    create_future: Py<PyAny>,
    call_soon: Py<PyAny>,
    /// Told of states and watches.
    pub(super) on_event: Py<PyAny>,
    /// When the session's clock began.
    begun: Instant,
    /// Whether the loop will call `_flush` in this turn.
    pub(super) is_flush_due: AtomicBool,
    inner: Mutex<Inner>,
}

/// What changes; small holds only, see the module.
pub(super) struct Inner {
    pub(super) session: Session,
    pub(super) hosts: Vec<SocketAddr>,
    pub(super) link: Link,
    /// How many links there have been that are a transport's.
    pub(super) transports: u64,
    /// Links are transports: the loop has no `add_reader`, or a test asked for it.
    pub(super) is_fallback: bool,
    pub(super) calls: Calls,
    /// Those who wait for `close`.
    pub(super) closing: Vec<Py<PyAny>>,
    /// When the loop will call `_wakeup` (ms of the session's clock), and what cancels it.
    pub(super) timer: Option<(u64, Py<PyAny>)>,
    /// Whether the link has to be looked at before something is put into it: a request into a link that the server has
    /// closed would be a request with an unknown outcome.
    pub(super) is_probe_due: bool,
    pub(super) is_started: bool,
    /// Whether events are being told further up the stack; then that call goes on with those that come meanwhile.
    pub(super) is_telling: bool,
    /// The server that is connected, or being connected.
    pub(super) server: Option<SocketAddr>,
    /// Why the link was lost last.
    pub(super) reason: String,
    /// The same for people, with the server.
    pub(super) last_failure: Option<String>,
}

/// The calls that are not answered, by number: each has its place until all before it are answered.
#[derive(Default)]
pub(super) struct Calls {
    /// Number of the first.
    first: u64,
    waiting: VecDeque<Option<Waiting>>,
    answered: usize,
}

impl Calls {
    fn push(&mut self, id: CallId, call: Waiting) {
        if self.waiting.is_empty() {
            self.first = id.0;
        }
        assert_eq!(id.0, self.first + self.waiting.len() as u64, "calls are numbered without gaps");
        self.waiting.push_back(Some(call));
    }

    /// Takes the call that is answered.
    pub(super) fn take(&mut self, id: CallId) -> Option<Waiting> {
        let index = usize::try_from(id.0.checked_sub(self.first)?).ok()?;
        let call = self.waiting.get_mut(index)?.take()?;
        self.answered += 1;
        while let Some(None) = self.waiting.front() {
            self.waiting.pop_front();
            self.first += 1;
            self.answered -= 1;
        }
        Some(call)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len() - self.answered
    }

    /// All that wait.
    pub(super) fn into_waiting(self) -> impl Iterator<Item = Waiting> {
        self.waiting.into_iter().flatten()
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for call in self.waiting.iter().flatten() {
            visit.call(&call.future)?;
            visit.call(&call.path)?;
        }
        Ok(())
    }
}

/// How often this process, or the one that it was copied from, has been a forked child.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Counts [`FORKS`] in each child from now on: one load for each call, where `getpid` would be a system call.
fn watch_forks(py: Python<'_>) -> PyResult<()> {
    static WATCHED: PyOnceLock<()> = PyOnceLock::new();
    WATCHED.get_or_try_init(py, || {
        let count = pyo3::types::PyCFunction::new_closure(py, None, None, |_, _| {
            FORKS.fetch_add(1, Ordering::Relaxed);
        })?;
        let options = pyo3::types::PyDict::new(py);
        options.set_item("after_in_child", count)?;
        py.import("os")?.call_method("register_at_fork", (), Some(&options))?;
        Ok::<(), PyErr>(())
    })?;
    Ok(())
}

impl ClientCore {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was a panic while the lock was held.
    pub(super) fn is_broken(&self) -> bool {
        self.inner.is_poisoned()
    }

    /// ms of the session's clock.
    pub(super) fn now(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    /// Whether this is a forked child's copy, whose socket and loop are the parent's.
    pub(super) fn is_forked(&self) -> bool {
        self.forks != FORKS.load(Ordering::Relaxed)
    }

    pub(super) fn check_process(&self) -> PyResult<()> {
        if !self.is_forked() {
            return Ok(());
        }
        Err(ForkError::new_err(
            "this client is connected in the parent process: a forked child needs a client of its own",
        ))
    }

    /// A future for a call that `queue` gives to the session.
    fn call<'py>(
        slf: &Bound<'py, Self>,
        path: Option<&Bound<'py, PyAny>>,
        answer: Answer,
        queue: impl FnOnce(&mut Session, u64) -> Result<CallId, CallError>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, core) = (slf.py(), slf.get());
        core.check_process()?;
        if core.is_broken() {
            return Err(PyRuntimeError::new_err("a bug of zabkit has broken this client"));
        }
        let future = core.create_future.bind(py).call0()?;
        core.flush_soon(slf)?;
        let path = path.map(|path| path.clone().unbind());
        let waiting = Waiting { future: future.clone().unbind(), path, answer };
        let (refused, waiting) = {
            let mut inner = core.lock();
            inner.is_probe_due |= inner.calls.len() == 0;
            match queue(&mut inner.session, core.now()) {
                Ok(id) => {
                    inner.calls.push(id, waiting);
                    return Ok(future);
                }
                Err(refused) => (refused, waiting),
            }
        };
        Err(client_errors::refused(py, &refused, waiting.error_path()))
    }

    /// As [`call`](Self::call), for the calls that the session knows as such.
    fn ask<'py>(
        slf: &Bound<'py, Self>,
        path: &Bound<'py, PyAny>,
        answer: Answer,
        call: &Call<'_>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::call(slf, Some(path), answer, |session, now_ms| session.call(now_ms, call))
    }

    /// Has the loop call `_flush` in this turn, once.
    pub(super) fn flush_soon(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        if !self.is_flush_due.swap(true, Ordering::Relaxed) {
            let flush = slf.getattr(pyo3::intern!(py, "_flush"))?;
            if let Err(closed) = self.call_soon.bind(py).call1((flush,)) {
                self.is_flush_due.store(false, Ordering::Relaxed);
                return Err(closed);
            }
        }
        Ok(())
    }
}

#[pymethods]
impl ClientCore {
    #[new]
    #[pyo3(signature = (event_loop, hosts, chroot, timeout_ms, read_only, session, auths, seed, on_event, fallback, /))]
    #[allow(clippy::too_many_arguments, reason = "Python's class has defaults for them")]
    fn new(
        event_loop: &Bound<'_, PyAny>,
        hosts: Vec<(String, u16)>,
        chroot: String,
        timeout_ms: i32,
        read_only: bool,
        session: Option<(i64, Vec<u8>)>,
        auths: Vec<(String, Vec<u8>)>,
        seed: u64,
        on_event: Py<PyAny>,
        fallback: bool,
    ) -> PyResult<Self> {
        let py = event_loop.py();
        watch_forks(py)?;
        let hosts = addresses(hosts)?;
        if !chroot.is_empty()
            && let Err(error) = validate_path(&chroot)
        {
            return Err(PyValueError::new_err(format!("the chroot {chroot:?} is not a path: {error}")));
        }
        let config = SessionConfig {
            servers: hosts.len(),
            chroot,
            timeout_ms,
            read_only,
            resume: session.map(|(id, password)| (SessionId(id), password)),
            auths,
            seed,
        };
        let inner = Inner {
            session: Session::new(config, 0),
            hosts,
            link: Link::Down,
            transports: 0,
            is_fallback: fallback,
            calls: Calls::default(),
            closing: Vec::new(),
            timer: None,
            is_probe_due: false,
            is_started: false,
            is_telling: false,
            server: None,
            reason: String::new(),
            last_failure: None,
        };
        Ok(ClientCore {
            forks: FORKS.load(Ordering::Relaxed),
            create_future: event_loop.getattr("create_future")?.unbind(),
            call_soon: event_loop.getattr("call_soon")?.unbind(),
            event_loop: event_loop.clone().unbind(),
            on_event,
            begun: Instant::now(),
            is_flush_due: AtomicBool::new(false),
            inner: Mutex::new(inner),
        })
    }

    /// Begins to connect.
    fn start(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().check_process()?;
        slf.get().lock().is_started = true;
        slf.get().flush_soon(slf)
    }

    /// The servers' addresses from now on; an open connection stays.
    #[pyo3(signature = (hosts, /))]
    fn set_hosts(&self, hosts: Vec<(String, u16)>) -> PyResult<()> {
        self.check_process()?;
        let hosts = addresses(hosts)?;
        let mut inner = self.lock();
        inner.session.set_servers(hosts.len());
        inner.hosts = hosts;
        Ok(())
    }

    /// Creates a znode: its path, or path and stat.
    #[pyo3(signature = (path, data, acl, flags, ttl_ms, include_stat, /))]
    #[allow(clippy::too_many_arguments, reason = "ZooKeeper's own")]
    fn create<'py>(
        slf: &Bound<'py, Self>,
        path: &Bound<'py, PyString>,
        data: &Bound<'py, PyBytes>,
        acl: Option<&Bound<'py, PyAny>>,
        flags: i32,
        ttl_ms: i64,
        include_stat: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        static OPEN: std::sync::LazyLock<[Acl; 1]> = std::sync::LazyLock::new(|| [Acl::open()]);
        let given = acl.map(|acl| acls(Some(acl))).transpose()?;
        let answer = if include_stat { Answer::Whole } else { Answer::PathOnly };
        let call = Call::Create {
            path: path.to_str()?,
            data: Some(data.as_bytes()),
            acl: given.as_deref().unwrap_or(&*OPEN),
            mode: create_mode(flags, ttl_ms)?,
            stat: include_stat,
        };
        Self::ask(slf, path, answer, &call)
    }

    /// Data and stat.
    #[pyo3(signature = (path, watch, /))]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        path: &Bound<'py, PyString>,
        watch: Option<u64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let call = Call::Get { path: path.to_str()?, watch: watch.map(WatchId) };
        Self::ask(slf, path, Answer::Whole, &call)
    }

    /// Replaces the data: the new stat.
    #[pyo3(signature = (path, data, version, /))]
    fn set<'py>(
        slf: &Bound<'py, Self>,
        path: &Bound<'py, PyString>,
        data: &Bound<'py, PyBytes>,
        version: i32,
    ) -> PyResult<Bound<'py, PyAny>> {
        let call = Call::Set { path: path.to_str()?, data: Some(data.as_bytes()), version };
        Self::ask(slf, path, Answer::Whole, &call)
    }

    /// The stat, or None.
    #[pyo3(signature = (path, watch, /))]
    fn exists<'py>(
        slf: &Bound<'py, Self>,
        path: &Bound<'py, PyString>,
        watch: Option<u64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let call = Call::Exists { path: path.to_str()?, watch: watch.map(WatchId) };
        Self::ask(slf, path, Answer::Exists, &call)
    }

    /// The children's names, or names and stat.
    #[pyo3(signature = (path, watch, include_stat, /))]
    fn get_children<'py>(
        slf: &Bound<'py, Self>,
        path: &Bound<'py, PyString>,
        watch: Option<u64>,
        include_stat: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let call = Call::Children { path: path.to_str()?, watch: watch.map(WatchId), stat: include_stat };
        Self::ask(slf, path, Answer::Whole, &call)
    }

    /// Deletes a znode.
    #[pyo3(signature = (path, version, /))]
    fn delete<'py>(slf: &Bound<'py, Self>, path: &Bound<'py, PyString>, version: i32) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, path, Answer::Whole, &Call::Delete { path: path.to_str()?, version })
    }

    /// ACL and stat.
    #[pyo3(signature = (path, /))]
    fn get_acls<'py>(slf: &Bound<'py, Self>, path: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, path, Answer::Whole, &Call::GetAcl { path: path.to_str()? })
    }

    /// Replaces the ACL: the new stat.
    #[pyo3(signature = (path, acl, version, /))]
    fn set_acls<'py>(
        slf: &Bound<'py, Self>,
        path: &Bound<'py, PyString>,
        acl: &Bound<'py, PyAny>,
        version: i32,
    ) -> PyResult<Bound<'py, PyAny>> {
        let call = Call::SetAcl { path: path.to_str()?, acl: &acls(Some(acl))?, version };
        Self::ask(slf, path, Answer::Whole, &call)
    }

    /// Tells this server, and each one after it, who we are.
    #[pyo3(signature = (scheme, auth, /))]
    fn add_auth<'py>(slf: &Bound<'py, Self>, scheme: &str, auth: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        Self::call(slf, None, Answer::Whole, |session, now_ms| session.add_auth(now_ms, scheme, auth))
    }

    /// Waits until the server has all that was acknowledged before this was called.
    #[pyo3(signature = (path, /))]
    fn sync<'py>(slf: &Bound<'py, Self>, path: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, path, Answer::Whole, &Call::Sync { path: path.to_str()? })
    }

    /// All or nothing: the results, or exceptions.
    #[pyo3(signature = (ops, /))]
    fn multi<'py>(slf: &Bound<'py, Self>, ops: &Bound<'py, PySequence>) -> PyResult<Bound<'py, PyAny>> {
        let given = parts(ops)?;
        let paths = PyTuple::new(slf.py(), given.iter().map(|part| part.path()))?;
        let ops = given.iter().map(|part| part.write()).collect::<PyResult<Vec<_>>>()?;
        Self::ask(slf, &paths, Answer::Parts, &Call::Multi { ops: &ops })
    }

    /// Several reads of one moment: results, or exceptions.
    #[pyo3(signature = (ops, /))]
    fn multi_read<'py>(slf: &Bound<'py, Self>, ops: &Bound<'py, PySequence>) -> PyResult<Bound<'py, PyAny>> {
        let given = parts(ops)?;
        let paths = PyTuple::new(slf.py(), given.iter().map(|part| part.path()))?;
        let ops = given.iter().map(|part| part.read()).collect::<PyResult<Vec<_>>>()?;
        Self::ask(slf, &paths, Answer::Parts, &Call::MultiRead { ops: &ops })
    }

    /// Watches a path, or all below it too, until the watch is forgotten.
    #[pyo3(signature = (path, recursive, watch, /))]
    fn add_watch<'py>(
        slf: &Bound<'py, Self>,
        path: &Bound<'py, PyString>,
        recursive: bool,
        watch: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let call = Call::AddWatch { path: path.to_str()?, recursive, watch: WatchId(watch) };
        Self::ask(slf, path, Answer::Whole, &call)
    }

    /// No event of this watch is told any more.
    #[pyo3(signature = (watch, /))]
    fn forget_watch(slf: &Bound<'_, Self>, watch: u64) -> PyResult<()> {
        let core = slf.get();
        core.check_process()?;
        core.lock().session.forget_watch(core.now(), WatchId(watch));
        // A loop that is closed sends nothing: there the watch is forgotten all the same.
        let _ = core.flush_soon(slf);
        Ok(())
    }

    /// The session's ephemeral znodes whose paths begin so.
    #[pyo3(signature = (path, /))]
    fn ephemerals<'py>(slf: &Bound<'py, Self>, path: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, path, Answer::Whole, &Call::Ephemerals { prefix: path.to_str()? })
    }

    /// The number of all znodes below.
    #[pyo3(signature = (path, /))]
    fn children_number<'py>(slf: &Bound<'py, Self>, path: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, path, Answer::Whole, &Call::ChildrenNumber { path: path.to_str()? })
    }

    /// Scheme and user of each identity.
    fn who_am_i<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::call(slf, None, Answer::Whole, |session, now_ms| session.call(now_ms, &Call::WhoAmI))
    }

    /// Changes the ensemble's members: its new configuration and stat.
    #[pyo3(signature = (joining, leaving, new_members, from_config, /))]
    fn reconfig<'py>(
        slf: &Bound<'py, Self>,
        joining: Option<&str>,
        leaving: Option<&str>,
        new_members: Option<&str>,
        from_config: i64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let call = Call::Reconfig { joining, leaving, new_members, current_config: from_config };
        Self::call(slf, None, Answer::Whole, |session, now_ms| session.call(now_ms, &call))
    }

    /// Ends the session behind what has been called; done when the server has answered, or after 5 s.
    fn close<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, core) = (slf.py(), slf.get());
        core.check_process()?;
        let future = core.create_future.bind(py).call0()?;
        core.flush_soon(slf)?;
        let waiting = future.clone().unbind();
        let is_over = {
            let mut inner = core.lock();
            inner.session.close(core.now());
            inner.closing.push(waiting);
            inner.session.state().is_final() && !inner.is_telling
        };
        if is_over {
            Self::over(slf)?;
        }
        Ok(future)
    }

    /// Closes the socket now and fails every call; the session lives on until its timeout.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().is_forked() { Ok(()) } else { Self::abort_now(slf) }
    }

    /// Where the session stands.
    #[getter]
    fn state(&self) -> PyResult<&'static str> {
        self.check_process()?;
        Ok(state_name(self.lock().session.state()))
    }

    /// Session id and password; None before the first connection.
    #[getter]
    fn client_id<'py>(&self, py: Python<'py>) -> PyResult<Option<(i64, Bound<'py, PyBytes>)>> {
        self.check_process()?;
        let (SessionId(id), password) = {
            let inner = self.lock();
            (inner.session.session_id(), inner.session.password().to_vec())
        };
        Ok((id != 0).then(|| (id, PyBytes::new(py, &password))))
    }

    /// The session's timeout in ms: the negotiated one, before that the wanted one.
    #[getter]
    fn timeout_ms(&self) -> PyResult<i32> {
        self.check_process()?;
        Ok(self.lock().session.timeout_ms())
    }

    /// The address that is connected.
    #[getter]
    fn server(&self) -> PyResult<Option<(String, u16)>> {
        self.check_process()?;
        let inner = self.lock();
        let addr = inner.server.filter(|_| inner.session.state().is_connected());
        Ok(addr.map(|addr| (addr.ip().to_string(), addr.port())))
    }

    /// Why the last link was lost or could not be opened, with the server's address.
    #[getter]
    fn last_failure(&self) -> PyResult<Option<String>> {
        self.check_process()?;
        Ok(self.lock().last_failure.clone())
    }

    /// The newest zxid that the session has seen.
    #[getter]
    fn last_zxid(&self) -> PyResult<i64> {
        self.check_process()?;
        Ok(self.lock().session.last_zxid().0)
    }

    /// Calls that are not answered.
    #[getter]
    fn in_flight(&self) -> PyResult<usize> {
        self.check_process()?;
        Ok(self.lock().calls.len())
    }

    /// The loop's: what this turn has called leaves.
    fn _flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::flush(slf)
    }

    /// The loop's: the socket has something to read.
    fn _readable(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::readable(slf)
    }

    /// The loop's: the connection stands or is refused, or the socket takes bytes again.
    fn _writable(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::writable(slf)
    }

    /// The loop's: the time has come that the session named.
    fn _wakeup(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::wakeup(slf)
    }

    /// The transport's: link `number` is open, or (`why`) is not any more.
    fn _transport_up(slf: &Bound<'_, Self>, number: u64) -> PyResult<()> {
        Self::transport_up(slf, number)
    }

    fn _transport_down(slf: &Bound<'_, Self>, number: u64, why: &str) -> PyResult<()> {
        Self::transport_down(slf, number, why)
    }

    fn _transport_full(slf: &Bound<'_, Self>, number: u64, is_full: bool) -> PyResult<()> {
        Self::transport_full(slf, number, is_full)
    }

    fn _transport_received(slf: &Bound<'_, Self>, number: u64, data: &[u8]) -> PyResult<()> {
        Self::transport_received(slf, number, data)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for object in [&self.event_loop, &self.create_future, &self.call_soon, &self.on_event] {
            visit.call(object)?;
        }
        // A lock that is held: the collector runs in a thread that does not use this core, which is alive then.
        if let Ok(inner) = self.inner.try_lock() {
            inner.calls.traverse(&visit)?;
            inner.closing.iter().try_for_each(|future| visit.call(future))?;
            if let Some((_, timer)) = &inner.timer {
                visit.call(timer)?;
            }
            if let Link::Transport { link, .. } = &inner.link {
                visit.call(link)?;
            }
        }
        Ok(())
    }

    /// Only a core that nobody can reach is cleared, so nobody is told.
    fn __clear__(&self) {
        let taken = self.inner.try_lock().ok().map(|mut inner| {
            let inner = &mut *inner;
            let link = std::mem::replace(&mut inner.link, Link::Down);
            (std::mem::take(&mut inner.calls), std::mem::take(&mut inner.closing), inner.timer.take(), link)
        });
        drop(taken);
    }
}

/// kazoo's names.
pub(super) fn state_name(state: State) -> &'static str {
    match state {
        State::Connecting => "CONNECTING",
        State::Connected => "CONNECTED",
        State::ConnectedReadOnly => "CONNECTED_RO",
        State::Suspended => "SUSPENDED",
        State::Lost => "LOST",
        State::AuthFailed => "AUTH_FAILED",
        State::Closed => "CLOSED",
    }
}

/// Numeric addresses; Python has resolved the names.
fn addresses(hosts: Vec<(String, u16)>) -> PyResult<Vec<SocketAddr>> {
    if hosts.is_empty() {
        return Err(PyValueError::new_err("there is no host to connect to"));
    }
    let address = |(ip, port): (String, u16)| match ip.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, port)),
        Err(error) => Err(PyValueError::new_err(format!("{ip:?}: {error}"))),
    };
    hosts.into_iter().map(address).collect()
}
