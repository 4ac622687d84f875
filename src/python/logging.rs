//! Rust's log lines on their way to Python's `logging`: a bounded queue between them.
//!
//! A thread of a server must never wait for the interpreter, and `logging` runs whatever handlers the program has. So
//! the line is put into a queue by the thread that logs, and taken out by a thread of Python's that waits in
//! [`log_lines`] without the GIL. At the bound a line is dropped and counted; the next line that comes through says how
//! many were lost before it.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level};

use super::errors::ForkError;
use crate::server::log;

/// Lines that wait for Python at most.
const LINES_MAX: usize = 10_000;

/// What `logging` needs of a line: level (Python's number), logger, message, file, line, thread, seconds since 1970,
/// the server's id ("" outside servers), and how many lines were dropped before it.
pub(super) type LineTuple = (u32, String, String, &'static str, u32, String, f64, String, u64);

#[derive(Default)]
struct Queue {
    lines: VecDeque<LineTuple>,
    /// Since the last line that came through.
    dropped: u64,
    has_ended: bool,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue { lines: VecDeque::new(), dropped: 0, has_ended: false });
static CAME: Condvar = Condvar::new();
/// The process whose threads take the lines.
static OWNER: OnceLock<u32> = OnceLock::new();

fn queue() -> MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on lines of this level (Python's number) and above are queued.
pub(super) fn begin(level: i64) -> PyResult<()> {
    if log::is_on_stderr() {
        return Err(PyRuntimeError::new_err("the log lines of this process go elsewhere already: log_to_stderr"));
    }
    if *OWNER.get_or_init(std::process::id) != std::process::id() {
        // Its lock may be held by a thread that is not in the child.
        return Err(ForkError::new_err(
            "the log lines go to the logging of the parent process; this is a forked child",
        ));
    }
    if !log::forward(filter(level), put) {
        return Err(PyRuntimeError::new_err("the log lines of this process go elsewhere already"));
    }
    queue().has_ended = false;
    Ok(())
}

/// Waits for lines, without the GIL; `None` after [`end`].
pub(super) fn lines(py: Python<'_>, limit: usize) -> Option<Vec<LineTuple>> {
    py.detach(|| {
        let mut queue = queue();
        while queue.lines.is_empty() && !queue.has_ended {
            queue = CAME.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let count = queue.lines.len().min(limit);
        (count > 0).then(|| queue.lines.drain(..count).collect())
    })
}

/// No more lines are queued; those that wait can still be taken.
pub(super) fn end(py: Python<'_>) {
    if !is_owner() {
        return;
    }
    py.detach(|| {
        log::forward(LevelFilter::OFF, put);
        queue().has_ended = true;
        CAME.notify_all();
    });
}

fn is_owner() -> bool {
    OWNER.get() == Some(&std::process::id())
}

/// Python's level as Rust's filter: 10 DEBUG, 20 INFO, 30 WARNING, 40 and above ERROR.
fn filter(level: i64) -> LevelFilter {
    match level {
        ..10 => LevelFilter::TRACE,
        10..20 => LevelFilter::DEBUG,
        20..30 => LevelFilter::INFO,
        30..40 => LevelFilter::WARN,
        _ => LevelFilter::ERROR,
    }
}

fn number(level: Level) -> u32 {
    match level {
        Level::TRACE => 5,
        Level::DEBUG => 10,
        Level::INFO => 20,
        Level::WARN => 30,
        Level::ERROR => 40,
    }
}

/// Puts a line of this server into the queue.
fn put(event: &Event<'_>, server: &str) {
    if !is_owner() {
        return; // A forked child: nobody takes the lines there.
    }
    let metadata = event.metadata();
    let mut message = Message(String::new());
    event.record(&mut message);
    let thread = std::thread::current();
    let at_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let mut queue = queue();
    if queue.lines.len() >= LINES_MAX {
        queue.dropped += 1;
        return;
    }
    let dropped = std::mem::take(&mut queue.dropped);
    queue.lines.push_back((
        number(*metadata.level()),
        metadata.target().replace("::", "."),
        message.0,
        metadata.file().unwrap_or("rust"),
        metadata.line().unwrap_or(0),
        thread.name().unwrap_or("rust").to_owned(),
        at_s,
        server.to_owned(),
        dropped,
    ));
    drop(queue);
    CAME.notify_one();
}

/// The message, and every other field behind it as `name=value`.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
