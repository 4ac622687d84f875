//! How the caller's event loop drives a session: four callbacks, and what the session wants done after each.
//!
//! Every callback has the same shape. Under the lock: bytes in, bytes out, the session's time. Then, without it: what
//! the session tells ([`ClientCore::tell`]), and the timer. `tell` goes on until there is nothing left, in the order
//! of the session: a watch's event before the reply that shows the change.

use std::io;
use std::sync::atomic::Ordering;

use pyo3::exceptions::{PyException, PyNotImplementedError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::client::{ClientCore, Inner, state_name};
use super::client_calls::{self, Outcome, Waiting};
use super::client_link::{self, Link};
use crate::client::{Event, Failure, Lost, State};
use crate::records::{Response, SYNC_CONNECTED};

pyo3::import_exception!(asyncio, InvalidStateError);

/// What the lock's holder has found out for the loop to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// Nothing.
    Same,
    /// Say when the socket takes bytes again.
    UntilWritable,
    /// Bytes flow again.
    NoLonger,
    /// The link is gone.
    Lost,
}

/// Something to do for the session, in its order.
enum Step {
    Answer(Waiting, Result<Response, Failure>),
    Event(Event),
}

impl ClientCore {
    /// What this turn of the loop has called leaves in one `send`.
    pub(super) fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        let core = slf.get();
        core.is_flush_due.store(false, Ordering::Relaxed);
        if core.is_forked() {
            return Ok(());
        }
        core.drive(slf, |inner, now_ms| {
            if std::mem::take(&mut inner.is_probe_due) && receive(inner, now_ms) == Watch::Lost {
                return Watch::Lost;
            }
            send(inner, now_ms)
        })
    }

    /// The socket has bytes, or its end.
    pub(super) fn readable(slf: &Bound<'_, Self>) -> PyResult<()> {
        let core = slf.get();
        if core.is_forked() {
            return Ok(());
        }
        core.drive(slf, |inner, now_ms| match receive(inner, now_ms) {
            Watch::Lost => Watch::Lost,
            _ => send(inner, now_ms),
        })
    }

    /// The connection stands or is refused, or the socket takes bytes again.
    pub(super) fn writable(slf: &Bound<'_, Self>) -> PyResult<()> {
        let core = slf.get();
        if core.is_forked() {
            return Ok(());
        }
        let is_connecting = matches!(core.lock().link, Link::Connecting(_));
        if is_connecting && core.socket_connected(slf).is_err() {
            core.drop_link(slf.py()); // The loop does not take the socket: it is closed.
            return Ok(());
        }
        core.drive(slf, send)
    }

    /// The time has come that the session named. What has arrived comes first: a loop that was blocked for longer than
    /// the session's timeout may find the server's answers waiting.
    pub(super) fn wakeup(slf: &Bound<'_, Self>) -> PyResult<()> {
        let core = slf.get();
        if core.is_forked() {
            return Ok(());
        }
        let timer = core.lock().timer.take();
        drop(timer);
        core.drive(slf, |inner, now_ms| {
            if receive(inner, now_ms) == Watch::Lost {
                return Watch::Lost;
            }
            inner.session.wakeup(now_ms);
            send(inner, now_ms)
        })
    }

    /// One callback of the loop: `act` under the lock, then all that follows from it.
    ///
    /// Only what ends the program comes back as an error: a `KeyboardInterrupt` or `SystemExit` of a listener.
    pub(super) fn drive(&self, slf: &Bound<'_, Self>, act: impl FnOnce(&mut Inner, u64) -> Watch) -> PyResult<()> {
        let py = slf.py();
        if self.is_broken() {
            return self.give_up(py);
        }
        let (watch, fd) = {
            let mut inner = self.lock();
            (act(&mut inner, self.now()), inner.link.fd())
        };
        match (watch, fd) {
            (Watch::Lost, _) => self.drop_link(py),
            (Watch::UntilWritable, Some(fd)) => {
                let writable = slf.getattr(pyo3::intern!(py, "_writable"));
                let done = writable.and_then(|writable| self.on_loop(py, "add_writer", (fd, writable)));
                drop(done); // A loop that is closed calls nobody.
            }
            (Watch::NoLonger, Some(fd)) => drop(self.on_loop(py, "remove_writer", (fd,))),
            _ => {}
        }
        let told = self.tell(slf);
        self.write_transport(py);
        self.set_timer(slf);
        told
    }

    /// Does what the session wants, and tells what has happened, until there is no more.
    fn tell(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let mut steps = Vec::new();
        let mut is_over = false;
        {
            let mut inner = self.lock();
            if inner.is_telling || !inner.is_started {
                return Ok(());
            }
            inner.is_telling = true;
        }
        let mut ending = Ok(());
        loop {
            {
                let inner = &mut *self.lock();
                while let Some(event) = inner.session.poll_event() {
                    match event {
                        Event::Reply { call, result, .. } => {
                            if let Some(waiting) = inner.calls.take(call) {
                                steps.push(Step::Answer(waiting, result));
                            }
                        }
                        event => steps.push(Step::Event(event)),
                    }
                }
                if steps.is_empty() {
                    inner.is_telling = false;
                    break;
                }
            }
            for step in steps.drain(..) {
                match step {
                    Step::Answer(waiting, result) => answer(py, &waiting, result),
                    Step::Event(event) => {
                        is_over |= matches!(event, Event::State(state) if state.is_final());
                        let told = self.on_session_event(slf, event);
                        ending = ending.and(told.or_else(|error| self.report(py, error)));
                    }
                }
            }
        }
        if is_over {
            self.end(py);
        }
        ending
    }

    fn on_session_event(&self, slf: &Bound<'_, Self>, event: Event) -> PyResult<()> {
        let py = slf.py();
        match event {
            Event::Connect { server } => self.open(slf, server),
            Event::Disconnect { reason } => {
                self.lock().note_failure(&reason);
                self.drop_link(py);
            }
            Event::Note(text) => tracing::info!(target: "zabkit::client", "{text}"),
            Event::State(state) => {
                let reason = match state {
                    State::Connected | State::ConnectedReadOnly => String::new(),
                    _ => self.lock().reason.clone(),
                };
                tracing::info!(target: "zabkit::client", "{} {reason}", state_name(state));
                self.on_event.call1(py, ("state", state_name(state), reason))?;
            }
            Event::Watch { ids, .. } if ids.is_empty() => {} // Nobody waits for it any more.
            Event::Watch { ids, event } => {
                let ids: Vec<u64> = ids.into_iter().map(|id| id.0).collect();
                let kind = event.kind as i32;
                self.on_event.call1(py, ("watch", ids, kind, SYNC_CONNECTED, event.path, event.zxid.0))?;
            }
            Event::WatchesLost { ids, reason } => {
                let ids: Vec<u64> = ids.into_iter().map(|id| id.0).collect();
                self.on_event.call1(py, ("watches_lost", ids, lost(reason)))?;
            }
            Event::Reply { .. } => {} // Answered by its future.
        }
        Ok(())
    }

    /// Opens a link to a server; an older one is over.
    pub(super) fn open(&self, slf: &Bound<'_, Self>, server: usize) {
        let py = slf.py();
        self.drop_link(py);
        let (addr, is_fallback) = {
            let mut inner = self.lock();
            inner.server = inner.hosts.get(server).copied();
            (inner.server, inner.is_fallback)
        };
        let Some(addr) = addr else {
            return self.lock().session.link_down(self.now(), "there is no such host any more");
        };
        if is_fallback {
            return self.open_transport(slf, addr);
        }
        let stream = match client_link::connect(addr) {
            Ok(stream) => stream,
            Err(error) => return self.link_down(&error),
        };
        let link = Link::Connecting(stream);
        let writable = slf.getattr(pyo3::intern!(py, "_writable"));
        match writable.and_then(|writable| self.on_loop(py, "add_writer", (link.fd(), writable))) {
            Ok(()) => self.lock().link = link,
            Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => {
                self.lock().is_fallback = true;
                self.open_transport(slf, addr);
            }
            Err(_) => {} // The loop is closed, and nothing will be called any more.
        }
    }

    /// The socket is writable for the first time: from now on the loop watches for bytes, if there is a connection.
    fn socket_connected(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let (fd, result) = {
            let mut inner = self.lock();
            let Link::Connecting(stream) = std::mem::replace(&mut inner.link, Link::Down) else {
                return Ok(());
            };
            let result = client_link::connected(&stream);
            inner.link = Link::Up { stream, is_full: false };
            (inner.link.fd(), result)
        };
        self.on_loop(py, "remove_writer", (fd,))?;
        if let Err(error) = result {
            self.link_down(&error);
            self.drop_link(py);
            return Ok(());
        }
        self.on_loop(py, "add_reader", (fd, slf.getattr(pyo3::intern!(py, "_readable"))?))?;
        self.lock().session.link_up(self.now());
        Ok(())
    }

    fn link_down(&self, error: &io::Error) {
        let mut inner = self.lock();
        inner.lost(self.now(), &error.to_string());
    }

    /// Closes the socket; the loop lets go of it first, or it would watch the next one with that number.
    pub(super) fn drop_link(&self, py: Python<'_>) {
        let link = std::mem::replace(&mut self.lock().link, Link::Down);
        // Errors: a closed loop has let go of everything.
        match &link {
            Link::Down => {}
            Link::Connecting(_) => drop(self.on_loop(py, "remove_writer", (link.fd(),))),
            Link::Up { .. } => {
                drop(self.on_loop(py, "remove_reader", (link.fd(),)));
                drop(self.on_loop(py, "remove_writer", (link.fd(),)));
            }
            Link::Transport { link, .. } => drop(link.call_method0(py, pyo3::intern!(py, "abort"))),
        }
    }

    /// Has the loop call `_wakeup` when the session wants it. A timer that fires too early is left: it costs one call
    /// in a third of the session's timeout, and a new one for each request would cost more than the request.
    fn set_timer(&self, slf: &Bound<'_, Self>) {
        let py = slf.py();
        let (wanted, old) = {
            let mut inner = self.lock();
            let Some(wanted) = inner.session.next_wakeup().filter(|_| inner.is_started) else {
                return;
            };
            if inner.timer.as_ref().is_some_and(|(set, _)| *set <= wanted) {
                return;
            }
            (wanted, inner.timer.take())
        };
        if let Some((_, old)) = old {
            drop(old.call_method0(py, pyo3::intern!(py, "cancel")));
        }
        // One more ms: the loop's clock and ours are cut to ms, and to be early is to be called twice.
        let delay_s = (wanted.saturating_sub(self.now()) + 1) as f64 / 1000.0;
        let wakeup = slf.getattr(pyo3::intern!(py, "_wakeup"));
        let timer = wakeup.and_then(|wakeup| {
            self.event_loop.bind(py).call_method1(pyo3::intern!(py, "call_later"), (delay_s, wakeup))
        });
        if let Ok(timer) = timer {
            let replaced = self.lock().timer.replace((wanted, timer.unbind()));
            drop(replaced);
        }
    }

    /// After a panic in the session, which is a bug of ours and has been raised: the loop shall not run into it again
    /// in each of its turns. Whoever waits is told.
    fn give_up(&self, py: Python<'_>) -> PyResult<()> {
        let calls = std::mem::take(&mut self.lock().calls);
        for call in calls.into_waiting() {
            let error = PyRuntimeError::new_err("a bug of zabkit has broken this client");
            resolve(call.future.bind(py), Outcome::Exception(error.into_value(py).into_bound(py).into_any()));
        }
        self.end(py);
        Ok(())
    }

    /// The session is over already: what it has to tell is told, and whoever waits for the end goes on.
    pub(super) fn over(slf: &Bound<'_, Self>) -> PyResult<()> {
        let told = slf.get().tell(slf);
        slf.get().end(slf.py());
        told
    }

    /// The session is over: the loop forgets this core, and whoever waits for the end goes on.
    fn end(&self, py: Python<'_>) {
        self.drop_link(py);
        let (timer, closing) = {
            let mut inner = self.lock();
            (inner.timer.take(), std::mem::take(&mut inner.closing))
        };
        if let Some((_, timer)) = timer {
            drop(timer.call_method0(py, pyo3::intern!(py, "cancel")));
        }
        for future in closing {
            resolve(future.bind(py), Outcome::Result(py.None().into_bound(py)));
        }
    }

    /// As if the server had closed the link while the session was being closed. Also from the thread of a garbage
    /// collection, which may be any: then the loop that runs elsewhere does it.
    pub(super) fn abort_now(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, core) = (slf.py(), slf.get());
        let event_loop = core.event_loop.bind(py);
        let running = py.import("asyncio")?.call_method0("_get_running_loop")?;
        if !running.is(event_loop) && event_loop.call_method0("is_running")?.is_truthy()? {
            return core.on_loop(py, "call_soon_threadsafe", (slf.getattr("abort")?,));
        }
        core.drop_link(py);
        let is_closed = event_loop.call_method0("is_closed")?.is_truthy()?;
        let given_up = {
            let inner = &mut *core.lock();
            inner.is_started = true;
            inner.reason = "aborted".to_owned();
            inner.session.close(core.now());
            inner.session.link_down(core.now(), "aborted");
            // Nobody waits in a loop that is closed, and a future that fails there is reported as one not looked at.
            is_closed.then(|| std::mem::take(&mut inner.calls))
        };
        drop(given_up);
        let told = core.tell(slf);
        core.end(py);
        told
    }

    pub(super) fn on_loop<'py>(
        &self,
        py: Python<'py>,
        method: &str,
        args: impl pyo3::call::PyCallArgs<'py>,
    ) -> PyResult<()> {
        self.event_loop.bind(py).call_method1(method, args).map(drop)
    }

    /// An exception of a listener: the loop decides what becomes of it, unless it is to end the program.
    fn report(&self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        if !error.is_instance_of::<PyException>(py) {
            return Err(error);
        }
        let context = PyDict::new(py);
        context.set_item("message", "a listener of a zabkit client has failed")?;
        context.set_item("exception", error.value(py))?;
        self.on_loop(py, "call_exception_handler", (context,))
    }
}

impl Inner {
    /// The link is gone, says the kernel or the transport.
    pub(super) fn lost(&mut self, now_ms: u64, why: &str) {
        self.note_failure(why);
        self.session.link_down(now_ms, why);
    }

    fn note_failure(&mut self, why: &str) {
        self.reason = why.to_owned();
        self.last_failure = self.server.map(|addr| format!("{addr}: {why}"));
    }
}

/// Reads what has come.
fn receive(inner: &mut Inner, now_ms: u64) -> Watch {
    let Link::Up { stream, .. } = &inner.link else {
        return Watch::Same;
    };
    let session = &mut inner.session;
    match client_link::receive(stream, |bytes| session.receive(now_ms, bytes)) {
        Ok(()) => Watch::Same,
        Err(error) => {
            inner.lost(now_ms, &error.to_string());
            Watch::Lost
        }
    }
}

/// Writes what the session has, as far as the kernel takes it.
fn send(inner: &mut Inner, now_ms: u64) -> Watch {
    let Link::Up { stream, is_full } = &mut inner.link else {
        return Watch::Same; // A transport is written to without the lock.
    };
    let session = &mut inner.session;
    let was_full = *is_full;
    *is_full = false;
    loop {
        let bytes = session.output();
        if bytes.is_empty() {
            break;
        }
        match client_link::send(stream, bytes) {
            Ok(Some(taken)) => session.sent(taken),
            Ok(None) => {
                *is_full = true;
                break;
            }
            Err(error) => {
                inner.lost(now_ms, &error.to_string());
                return Watch::Lost;
            }
        }
    }
    match (was_full, *is_full) {
        (false, true) => Watch::UntilWritable,
        (true, false) => Watch::NoLonger,
        _ => Watch::Same,
    }
}

/// Resolves the future of a call; one that was cancelled meanwhile stays so.
fn answer(py: Python<'_>, waiting: &Waiting, result: Result<Response, Failure>) {
    let outcome = client_calls::outcome(py, waiting, result)
        .unwrap_or_else(|error| Outcome::Exception(error.into_value(py).into_bound(py).into_any()));
    resolve(waiting.future.bind(py), outcome);
}

fn resolve(future: &Bound<'_, PyAny>, outcome: Outcome<'_>) {
    let py = future.py();
    let resolved = match outcome {
        Outcome::Result(value) => future.call_method1(pyo3::intern!(py, "set_result"), (value,)),
        Outcome::Exception(error) => future.call_method1(pyo3::intern!(py, "set_exception"), (error,)),
    };
    if let Err(error) = resolved {
        // Cancelled, or its loop is closed: nobody waits for it.
        let is_expected = error.is_instance_of::<InvalidStateError>(py) || error.is_instance_of::<PyRuntimeError>(py);
        if !is_expected {
            error.write_unraisable(py, Some(future));
        }
    }
}

/// Why watches will not fire any more, in words.
fn lost(reason: Lost) -> String {
    match reason {
        Lost::SessionExpired => "the session has expired".to_owned(),
        Lost::Closed => "the client was closed".to_owned(),
        Lost::AuthFailed => "a server has refused an add_auth".to_owned(),
        Lost::Refused(code) => format!("the server does not watch again (error {code})"),
    }
}
