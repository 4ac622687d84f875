//! `_zabkit.EnsembleCore`: a running ensemble, for `zabkit.Ensemble` and `zabkit.blocking.Ensemble`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::errors::{ClosedError, EnsembleError, NoLeaderError, start_error, with_causes};
use super::owned::Owned;
use super::status::{StatusTuple, status_tuple};
use super::task::{block, later, wait};
use crate::records::{PeerType, ServerId};
use crate::server::{self, Ensemble, EnsembleConfig};

/// Time (s since 1970), server id, level, text: the fields of `zabkit.LogLine`, in order.
type LogTuple = (f64, i64, &'static str, String);
/// Time (s since 1970), server id, roles before and after, serving, epoch, leader, reason: the fields of
/// `zabkit.Transition`, in order.
type TransitionTuple = (f64, i64, String, String, bool, i64, Option<i64>, String);

/// A running ensemble. Each call that may block is here twice: `x` blocks without the GIL, `x_async` gives a future.
#[pyclass(frozen, module = "zabkit._zabkit")]
pub(super) struct EnsembleCore {
    ensemble: Owned<Ensemble>,
}

#[pymethods]
impl EnsembleCore {
    /// Starts `servers` members that vote and `observers` that do not; `directory` None means a temporary one.
    #[staticmethod]
    fn start(
        py: Python<'_>,
        servers: usize,
        observers: usize,
        directory: Option<PathBuf>,
        tick_time_ms: u32,
        timeout_s: f64,
    ) -> PyResult<Self> {
        let work = starting(servers, observers, directory, tick_time_ms, timeout_s)?;
        wait(py, work)
    }

    /// As `start`; the future holds the core.
    #[staticmethod]
    fn start_async(
        py: Python<'_>,
        servers: usize,
        observers: usize,
        directory: Option<PathBuf>,
        tick_time_ms: u32,
        timeout_s: f64,
    ) -> PyResult<Bound<'_, PyAny>> {
        let work = starting(servers, observers, directory, tick_time_ms, timeout_s)?;
        later(py, work)
    }

    /// The ids of the members, ascending.
    fn ids(&self) -> PyResult<Vec<i64>> {
        Ok(self.ensemble.get()?.ids().into_iter().map(|id| id.0).collect())
    }

    /// `host:port` of every member, in the order of `ids`, comma between.
    fn hosts(&self) -> PyResult<String> {
        Ok(self.ensemble.get()?.hosts())
    }

    /// One member's status.
    fn status(&self, id: i64) -> PyResult<StatusTuple> {
        Ok(status_tuple(self.ensemble.get()?.status(ServerId(id))))
    }

    /// The member that serves as leader now, if there is one.
    fn leader(&self) -> PyResult<Option<i64>> {
        Ok(self.ensemble.get()?.leader().map(|id| id.0))
    }

    /// Waits for a leader that serves.
    fn wait_for_leader(&self, py: Python<'_>, timeout_s: f64) -> PyResult<i64> {
        let work = self.waiting_for_leader(timeout_s)?;
        wait(py, work)
    }

    /// As `wait_for_leader`; the future holds the id.
    fn wait_for_leader_async<'py>(&self, py: Python<'py>, timeout_s: f64) -> PyResult<Bound<'py, PyAny>> {
        let work = self.waiting_for_leader(timeout_s)?;
        later(py, work)
    }

    /// Waits until each of these members serves.
    fn wait_until_serving(&self, py: Python<'_>, ids: Vec<i64>, timeout_s: f64) -> PyResult<()> {
        let work = self.waiting_until_serving(ids, timeout_s)?;
        wait(py, work)
    }

    /// As `wait_until_serving`, with a future.
    fn wait_until_serving_async<'py>(
        &self,
        py: Python<'py>,
        ids: Vec<i64>,
        timeout_s: f64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let work = self.waiting_until_serving(ids, timeout_s)?;
        later(py, work)
    }

    /// Ends members cleanly, in the order given.
    fn stop(&self, py: Python<'_>, ids: Vec<i64>) -> PyResult<()> {
        let work = self.on_each(ids, Ensemble::stop)?;
        wait(py, work)
    }

    /// As `stop`, with a future.
    fn stop_async<'py>(&self, py: Python<'py>, ids: Vec<i64>) -> PyResult<Bound<'py, PyAny>> {
        let work = self.on_each(ids, Ensemble::stop)?;
        later(py, work)
    }

    /// Ends members as `kill -9` would.
    fn kill(&self, py: Python<'_>, ids: Vec<i64>) -> PyResult<()> {
        let work = self.on_each(ids, Ensemble::kill)?;
        block(py, work)
    }

    /// As `kill`, with a future.
    fn kill_async<'py>(&self, py: Python<'py>, ids: Vec<i64>) -> PyResult<Bound<'py, PyAny>> {
        let work = self.on_each(ids, Ensemble::kill)?;
        later(py, work)
    }

    /// Starts members again, with their ports and directories; one that runs is stopped first.
    fn restart(&self, py: Python<'_>, ids: Vec<i64>) -> PyResult<()> {
        let work = self.on_each(ids, Ensemble::restart)?;
        wait(py, work)
    }

    /// As `restart`, with a future.
    fn restart_async<'py>(&self, py: Python<'py>, ids: Vec<i64>) -> PyResult<Bound<'py, PyAny>> {
        let work = self.on_each(ids, Ensemble::restart)?;
        later(py, work)
    }

    /// Starts one more member and lets it in; its id.
    fn add(&self, py: Python<'_>, observer: bool, timeout_s: f64) -> PyResult<i64> {
        let work = self.adding(observer, timeout_s)?;
        wait(py, work)
    }

    /// As `add`; the future holds the id.
    fn add_async<'py>(&self, py: Python<'py>, observer: bool, timeout_s: f64) -> PyResult<Bound<'py, PyAny>> {
        let work = self.adding(observer, timeout_s)?;
        later(py, work)
    }

    /// Takes a member out of the list and ends it.
    fn remove(&self, py: Python<'_>, id: i64, timeout_s: f64) -> PyResult<()> {
        let work = self.removing(id, timeout_s)?;
        wait(py, work)
    }

    /// As `remove`, with a future.
    fn remove_async<'py>(&self, py: Python<'py>, id: i64, timeout_s: f64) -> PyResult<Bound<'py, PyAny>> {
        let work = self.removing(id, timeout_s)?;
        later(py, work)
    }

    /// Lets another member lead; its id.
    fn hand_over(&self, py: Python<'_>, id: i64, timeout_s: f64) -> PyResult<i64> {
        let work = self.handing_over(id, timeout_s)?;
        wait(py, work)
    }

    /// As `hand_over`; the future holds the id.
    fn hand_over_async<'py>(&self, py: Python<'py>, id: i64, timeout_s: f64) -> PyResult<Bound<'py, PyAny>> {
        let work = self.handing_over(id, timeout_s)?;
        later(py, work)
    }

    /// From now on no byte passes between these groups of servers.
    fn partition(&self, groups: Vec<Vec<i64>>) -> PyResult<()> {
        let mut sets = Vec::new();
        for group in groups {
            let count = group.len();
            let set: BTreeSet<ServerId> = group.into_iter().map(ServerId).collect();
            if set.len() < count {
                return Err(PyValueError::new_err("a server is twice in one group of the partition"));
            }
            sets.push(set);
        }
        self.ensemble.get()?.partition(&sets).map_err(refused)
    }

    /// No partition and no slow link any more.
    fn heal(&self) -> PyResult<()> {
        self.ensemble.get()?.heal();
        Ok(())
    }

    /// Makes one direction of a link slow.
    fn slow_link(&self, source: i64, target: i64, latency_s: f64, loss: f64) -> PyResult<()> {
        let latency = delay("latency", latency_s)?;
        self.ensemble.get()?.slow_link(ServerId(source), ServerId(target), latency, loss).map_err(refused)
    }

    /// Stops members as SIGSTOP would.
    fn pause(&self, py: Python<'_>, ids: Vec<i64>) -> PyResult<()> {
        let work = self.on_each(ids, Ensemble::pause)?;
        block(py, work)
    }

    /// As `pause`, with a future.
    fn pause_async<'py>(&self, py: Python<'py>, ids: Vec<i64>) -> PyResult<Bound<'py, PyAny>> {
        let work = self.on_each(ids, Ensemble::pause)?;
        later(py, work)
    }

    /// Lets a member go on as SIGCONT would.
    fn resume(&self, id: i64) -> PyResult<()> {
        self.ensemble.get()?.resume(ServerId(id)).map_err(refused)
    }

    /// Whether a member is paused.
    fn is_paused(&self, id: i64) -> PyResult<bool> {
        Ok(self.ensemble.get()?.is_paused(ServerId(id)))
    }

    /// Whether a member's disk takes nothing any more.
    fn fill_disk(&self, id: i64, full: bool) -> PyResult<()> {
        let (ensemble, id) = (self.ensemble.get()?, ServerId(id));
        if full { ensemble.fill_disk(id) } else { ensemble.free_disk(id) }.map_err(refused)
    }

    /// Makes each sync of a member's disk take longer.
    fn slow_disk(&self, id: i64, delay_s: f64) -> PyResult<()> {
        self.ensemble.get()?.slow_disk(ServerId(id), delay("delay", delay_s)?).map_err(refused)
    }

    /// The newest log lines of one member, or of all, oldest first.
    fn logs(&self, id: Option<i64>) -> PyResult<Vec<LogTuple>> {
        let lines = self.ensemble.get()?.logs(id.map(ServerId)).into_iter();
        Ok(lines.map(|line| (unix_time(line.time), line.server.0, line.level.as_str(), line.text)).collect())
    }

    /// The newest transitions of all members, oldest first.
    fn transitions(&self) -> PyResult<Vec<TransitionTuple>> {
        let fields = |of: server::Transition| {
            let (before, after) = (of.before.to_string(), of.after.to_string());
            let leader = of.leader.map(|id| id.0);
            (unix_time(of.time), of.server.0, before, after, of.serving, of.epoch.0, leader, of.reason)
        };
        Ok(self.ensemble.get()?.transitions().into_iter().map(fields).collect())
    }

    /// Ends the ensemble; a second time is nothing.
    fn shutdown(&self, py: Python<'_>) -> PyResult<()> {
        let work = self.shutting_down()?;
        wait(py, work)
    }

    /// As `shutdown`, with a future.
    fn shutdown_async<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let work = self.shutting_down()?;
        later(py, work)
    }
}

/// What has to be done, apart from where: on the caller's thread or for a future.
impl EnsembleCore {
    fn waiting_for_leader(&self, timeout_s: f64) -> PyResult<impl FnOnce() -> PyResult<i64> + Send + use<>> {
        let ensemble = self.ensemble.get()?;
        let timeout = seconds(timeout_s)?;
        Ok(move || match ensemble.wait_for_leader(timeout) {
            Ok(id) => Ok(id.0),
            Err(error) => Err(NoLeaderError::new_err(with_causes(&error))),
        })
    }

    fn waiting_until_serving(
        &self,
        ids: Vec<i64>,
        timeout_s: f64,
    ) -> PyResult<impl FnOnce() -> PyResult<()> + Send + use<>> {
        let ensemble = self.ensemble.get()?;
        let timeout = seconds(timeout_s)?;
        Ok(move || {
            all_serving(&ensemble, ids.into_iter().map(ServerId).collect(), timeout)
                .map_err(|error| EnsembleError::new_err(with_causes(&error)))
        })
    }

    fn on_each<E: std::error::Error + 'static>(
        &self,
        ids: Vec<i64>,
        act: fn(&Ensemble, ServerId) -> Result<(), E>,
    ) -> PyResult<impl FnOnce() -> PyResult<()> + Send + use<E>> {
        let ensemble = self.ensemble.get()?;
        Ok(move || {
            for id in ids {
                act(&ensemble, ServerId(id)).map_err(|error| EnsembleError::new_err(with_causes(&error)))?;
            }
            Ok(())
        })
    }

    fn adding(&self, observer: bool, timeout_s: f64) -> PyResult<impl FnOnce() -> PyResult<i64> + Send + use<>> {
        let (ensemble, timeout) = (self.ensemble.get()?, seconds(timeout_s)?);
        let role = if observer { PeerType::Observer } else { PeerType::Participant };
        Ok(move || ensemble.add(role, timeout).map(|id| id.0).map_err(not_changed))
    }

    fn removing(&self, id: i64, timeout_s: f64) -> PyResult<impl FnOnce() -> PyResult<()> + Send + use<>> {
        let (ensemble, timeout) = (self.ensemble.get()?, seconds(timeout_s)?);
        Ok(move || ensemble.remove(ServerId(id), timeout).map_err(not_changed))
    }

    fn handing_over(&self, id: i64, timeout_s: f64) -> PyResult<impl FnOnce() -> PyResult<i64> + Send + use<>> {
        let (ensemble, timeout) = (self.ensemble.get()?, seconds(timeout_s)?);
        Ok(move || ensemble.hand_over_from(ServerId(id), timeout).map(|leader| leader.0).map_err(not_changed))
    }

    fn shutting_down(&self) -> PyResult<impl FnOnce() -> PyResult<()> + Send + use<>> {
        let ensemble = self.ensemble.take()?;
        Ok(move || {
            if let Some(ensemble) = ensemble {
                ensemble.shutdown();
            }
            Ok(())
        })
    }
}

fn starting(
    servers: usize,
    observers: usize,
    directory: Option<PathBuf>,
    tick_time_ms: u32,
    timeout_s: f64,
) -> PyResult<impl FnOnce() -> PyResult<EnsembleCore> + Send> {
    let timeout = seconds(timeout_s)?;
    let config = EnsembleConfig { servers, observers, dir: directory, tick_time_ms, ..EnsembleConfig::default() };
    Ok(move || {
        let ensemble = Ensemble::start(config).map_err(|error| start_error(&error))?;
        all_serving(&ensemble, ensemble.ids(), timeout).map_err(|error| start_error(&error))?;
        Ok(EnsembleCore { ensemble: Owned::new("ensemble", ensemble) })
    })
}

/// Waits for each in turn; the timeout covers all of them together.
fn all_serving(ensemble: &Ensemble, ids: Vec<ServerId>, timeout: Duration) -> Result<(), server::EnsembleError> {
    let deadline = Instant::now() + timeout;
    for id in ids {
        ensemble.wait_until_serving(id, deadline.saturating_duration_since(Instant::now()))?;
    }
    Ok(())
}

/// A timeout that Python gave, in seconds.
pub(super) fn seconds(timeout_s: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(timeout_s)
        .map_err(|error| PyValueError::new_err(format!("timeout of {timeout_s} s: {error}")))
}

/// What was asked for makes no sense: the caller's mistake.
fn refused(error: server::EnsembleError) -> PyErr {
    match error {
        server::EnsembleError::Unknown(_) | server::EnsembleError::Refused(_) => {
            PyValueError::new_err(error.to_string())
        }
        error => EnsembleError::new_err(with_causes(&error)),
    }
}

/// What was asked for makes sense, but not now.
fn not_changed(error: server::EnsembleError) -> PyErr {
    match error {
        server::EnsembleError::Unknown(_) => PyValueError::new_err(error.to_string()),
        server::EnsembleError::Start { .. } => start_error(&error),
        server::EnsembleError::ShutDown => ClosedError::new_err(error.to_string()),
        error => EnsembleError::new_err(with_causes(&error)),
    }
}

fn delay(what: &str, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{what} is in seconds, 0 or more, not {seconds}")))
}

fn unix_time(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
