//! `_zabkit.ServerCore`: one running server, for `zabkit.Server` and `zabkit.blocking.Server`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::ensemble::seconds;
use super::errors::{EnsembleError, NoLeaderError, StartError, start_error};
use super::owned::Owned;
use super::status::{StatusTuple, status_tuple};
use super::task::{block, later, wait};
use crate::server::{Config, Listeners, Role, Server, Status};

/// A running server. Each call that may block is here twice: `x` blocks without the GIL, `x_async` gives a future.
#[pyclass(frozen, module = "zabkit._zabkit")]
pub(super) struct ServerCore {
    server: Owned<Server>,
}

#[pymethods]
impl ServerCore {
    /// Starts a server from a file, or from the text of one.
    #[staticmethod]
    fn start(py: Python<'_>, file: Option<PathBuf>, text: String, timeout_s: f64) -> PyResult<Self> {
        let work = starting(file, text, timeout_s)?;
        block(py, work)
    }

    /// As `start`; the future holds the core.
    #[staticmethod]
    fn start_async(py: Python<'_>, file: Option<PathBuf>, text: String, timeout_s: f64) -> PyResult<Bound<'_, PyAny>> {
        let work = starting(file, text, timeout_s)?;
        later(py, work)
    }

    /// `host:port` for clients.
    fn hosts(&self) -> PyResult<String> {
        Ok(self.server.get()?.client_addr().to_string())
    }

    /// The status now.
    fn status(&self) -> PyResult<StatusTuple> {
        Ok(status_tuple(self.server.get()?.status()))
    }

    /// Waits until it serves.
    fn wait_until_serving(&self, py: Python<'_>, timeout_s: f64) -> PyResult<()> {
        let work = self.waiting_until_serving(timeout_s)?;
        block(py, work)
    }

    /// As `wait_until_serving`, with a future.
    fn wait_until_serving_async<'py>(&self, py: Python<'py>, timeout_s: f64) -> PyResult<Bound<'py, PyAny>> {
        let work = self.waiting_until_serving(timeout_s)?;
        later(py, work)
    }

    /// Lets another server lead; its id.
    fn hand_over(&self, py: Python<'_>, timeout_s: f64) -> PyResult<i64> {
        let work = self.handing_over(timeout_s)?;
        wait(py, work)
    }

    /// As `hand_over`; the future holds the id.
    fn hand_over_async<'py>(&self, py: Python<'py>, timeout_s: f64) -> PyResult<Bound<'py, PyAny>> {
        let work = self.handing_over(timeout_s)?;
        later(py, work)
    }

    /// Ends it cleanly.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        let work = self.ending(|server| drop(server.stop()))?;
        block(py, work)
    }

    /// As `stop`, with a future.
    fn stop_async<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let work = self.ending(|server| drop(server.stop()))?;
        later(py, work)
    }

    /// Ends it as `kill -9` would.
    fn kill(&self, py: Python<'_>) -> PyResult<()> {
        let work = self.ending(Server::kill)?;
        block(py, work)
    }

    /// As `kill`, with a future.
    fn kill_async<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let work = self.ending(Server::kill)?;
        later(py, work)
    }
}

impl ServerCore {
    fn handing_over(&self, timeout_s: f64) -> PyResult<impl FnOnce() -> PyResult<i64> + Send + use<>> {
        let (server, timeout) = (self.server.get()?, seconds(timeout_s)?);
        Ok(move || {
            let deadline = Instant::now() + timeout;
            server.hand_over(timeout).map_err(|error| EnsembleError::new_err(error.to_string()))?;
            // Its role has ended: now it finds out who leads.
            let has_leader = |status: &Status| status.role != Role::Looking && status.leader.is_some();
            wait_until(&server, deadline.saturating_duration_since(Instant::now()), has_leader)
                .map_err(NoLeaderError::new_err)?;
            match server.status() {
                Status { role: Role::Leading, .. } => Err(EnsembleError::new_err("this server was elected again")),
                Status { leader: Some(leader), .. } => Ok(leader.0),
                _ => Err(NoLeaderError::new_err("the leader that followed was lost at once")),
            }
        })
    }

    fn waiting_until_serving(&self, timeout_s: f64) -> PyResult<impl FnOnce() -> PyResult<()> + Send + use<>> {
        let server = self.server.get()?;
        let timeout = seconds(timeout_s)?;
        Ok(move || wait_until(&server, timeout, |status| status.serving).map_err(EnsembleError::new_err))
    }

    /// The server stays readable (its last status) after it has ended.
    fn ending(&self, end: fn(&Server)) -> PyResult<impl FnOnce() -> PyResult<()> + Send + use<>> {
        let server = self.server.get()?;
        Ok(move || {
            end(&server);
            Ok(())
        })
    }
}

fn starting(
    file: Option<PathBuf>,
    text: String,
    timeout_s: f64,
) -> PyResult<impl FnOnce() -> PyResult<ServerCore> + Send> {
    let timeout = seconds(timeout_s)?;
    Ok(move || {
        let config = match file {
            Some(path) => Config::from_file(&path),
            // A zoo.cfg means what it means to Apache; keywords are ours.
            None => Config::parse(&text).map(|mut config| {
                config.nodes.extended_types.get_or_insert(true);
                config
            }),
        }
        .map_err(|error| start_error(&error))?;
        let server = Server::start(config, Listeners::default()).map_err(|error| start_error(&error))?;
        // A member may be the first of its ensemble to start, so it is up when it looks for a leader.
        let is_up = |status: &Status| status.serving || status.role != Role::Standalone && status.role != Role::Ended;
        wait_until(&server, timeout, is_up).map_err(StartError::new_err)?;
        Ok(ServerCore { server: Owned::new("server", server) })
    })
}

/// Waits until `is_up`. Gives up, with the reason, when the server has ended or at the timeout.
fn wait_until(server: &Server, timeout: Duration, is_up: fn(&Status) -> bool) -> Result<(), String> {
    let deadline = Instant::now() + timeout;
    let mut status = server.status();
    while !is_up(&status) {
        if status.role == Role::Ended {
            return Err(status.failure.unwrap_or_else(|| "the server has ended".into()));
        }
        if Instant::now() >= deadline {
            return Err(format!("the server does not serve after {timeout:?}, it is {:?}", status.role));
        }
        status = server.wait_status(status.version, deadline);
    }
    Ok(())
}
