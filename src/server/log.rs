//! Log lines as Apache's default configuration lays them out, so that today's greps work:
//! `yyyy-MM-dd HH:mm:ss,SSS [myid:<id>] - LEVEL [thread:module@line] - message`. UTC; to stderr.

use super::journal::{Journal, LogLine};
use crate::records::ServerId;
use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// What goes to stderr, once [`init`] has said so.
static STDERR: OnceLock<EnvFilter> = OnceLock::new();

/// Sends this process's log lines to stderr. `RUST_LOG` filters (default: info). For a process that is a server; a
/// program that embeds servers installs the subscriber that it likes.
pub fn init() {
    STDERR.get_or_init(|| EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")));
    install();
    // Whoever logged before has been told that nobody listens.
    tracing::callsite::rebuild_interest_cache();
}

/// Whether [`init`] has sent the lines to stderr.
pub fn is_on_stderr() -> bool {
    STDERR.get().is_some()
}

/// A line, and the id of the server that logs it ("" outside servers).
pub type Forward = fn(&Event<'_>, &str);

static FORWARD: OnceLock<Forward> = OnceLock::new();
/// Index into [`LEVELS`].
static FORWARD_LEVEL: AtomicUsize = AtomicUsize::new(0);
const LEVELS: [LevelFilter; 6] = [
    LevelFilter::OFF,
    LevelFilter::ERROR,
    LevelFilter::WARN,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
    LevelFilter::TRACE,
];

/// From now on `forward` is called, on the thread that logs, for each line of this level and above; only the first
/// call's `forward` counts, later ones change the level. False: the program has a subscriber of its own.
pub fn forward(level: LevelFilter, forward: Forward) -> bool {
    let _ = FORWARD.set(forward);
    FORWARD_LEVEL.store(LEVELS.iter().position(|&of| of == level).unwrap_or(0), Ordering::Relaxed);
    let is_ours = install();
    tracing::callsite::rebuild_interest_cache();
    is_ours
}

/// Makes the lines of servers with a [`Journal`] reach it, and whatever else was asked for. False: the program has
/// installed a subscriber of its own; that one gets the lines, and journals have none.
pub(super) fn install() -> bool {
    static IS_OURS: OnceLock<bool> = OnceLock::new();
    *IS_OURS.get_or_init(|| {
        let stderr = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(false)
            // Else a closed stderr (`| head`) is answered with `eprintln!`, which panics in the thread that logs.
            .log_internal_errors(false)
            .event_format(Layout)
            .with_filter(ToStderr);
        let capture = Capture.with_filter(LevelFilter::INFO);
        let forward = Forwarding.with_filter(ToForward);
        let subscriber = Registry::default().with(capture).with(stderr).with(forward);
        tracing::subscriber::set_global_default(subscriber).is_ok()
    })
}

/// Calls what [`forward`] was given.
struct Forwarding;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Forwarding {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(forward) = FORWARD.get() else { return };
        let mut server = String::new();
        for span in context.event_scope(event).into_iter().flatten() {
            // As the layer for stderr has written them.
            if let Some(fields) = span.extensions().get::<FormattedFields<DefaultFields>>() {
                server = fields.fields.strip_prefix("myid=").unwrap_or_default().to_owned();
            }
        }
        forward(event, &server);
    }
}

struct ToForward;

impl<S> Filter<S> for ToForward {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        metadata.is_span() || *metadata.level() <= LEVELS[FORWARD_LEVEL.load(Ordering::Relaxed)]
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LEVELS[FORWARD_LEVEL.load(Ordering::Relaxed)].max(LevelFilter::ERROR))
    }
}

/// Spans always, since a server may have been started before its lines were asked for; lines once they were.
struct ToStderr;

impl<S> Filter<S> for ToStderr {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        metadata.is_span() || STDERR.get().is_some_and(|filter| filter.enabled(metadata, context.clone()))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        STDERR.get().map_or(Some(LevelFilter::ERROR), EnvFilter::max_level_hint)
    }
}

thread_local! {
    /// Whose thread this is.
    static OWNER: RefCell<Option<Owner>> = const { RefCell::new(None) };
}

/// A server whose lines are kept.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub journal: Arc<Journal>,
    pub server: ServerId,
}

/// As long as it lives, what this thread logs is its owner's.
pub(super) struct Owned {
    former: Option<Owner>,
}

pub(super) fn owned_by(owner: Option<Owner>) -> Owned {
    Owned { former: OWNER.replace(owner) }
}

impl Drop for Owned {
    fn drop(&mut self) {
        OWNER.set(self.former.take());
    }
}

/// Puts lines into the journal of the server whose thread logs.
struct Capture;

impl<S: Subscriber> Layer<S> for Capture {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // Not from within a destructor of the thread, when the owner is gone.
        let _ = OWNER.try_with(|owner| {
            let owner = owner.borrow();
            let Some(Owner { journal, server }) = &*owner else { return };
            let mut text = Text::default();
            event.record(&mut text);
            let level = *event.metadata().level();
            journal.line(LogLine { time: SystemTime::now(), server: *server, level, text: text.0 });
        });
    }
}

/// The message, and other fields behind it.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write as _;
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"), // Writing to a String cannot fail.
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

/// Apache's line layout.
struct Layout;

impl<S, N> FormatEvent<S, N> for Layout
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write_time(&mut out, SystemTime::now())?;
        out.write_str(" [myid:")?;
        for span in ctx.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                out.write_str(fields.fields.strip_prefix("myid=").unwrap_or(&fields.fields))?;
            }
        }
        let metadata = event.metadata();
        let module = metadata.target().rsplit("::").next().unwrap_or_default();
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("main");
        write!(out, "] - {} [{thread}:{module}@{}] - ", metadata.level(), metadata.line().unwrap_or(0))?;
        ctx.format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

/// `yyyy-MM-dd HH:mm:ss,SSS`, UTC.
fn write_time(out: &mut impl fmt::Write, time: SystemTime) -> fmt::Result {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = civil(since.as_secs() / 86_400);
    let second = since.as_secs() % 86_400;
    let (hour, minute, second, ms) = (second / 3600, second / 60 % 60, second % 60, since.subsec_millis());
    write!(out, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02},{ms:03}")
}

/// `Sun Nov 22 14:49:39 UTC 2026`, as `java.util.Date` prints.
pub(super) fn java_date(ms: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = ms / 1000;
    let days = seconds / 86_400;
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let (weekday, month) = (DAYS[(days % 7) as usize], MONTHS[month as usize - 1]);
    format!("{weekday} {month} {day:02} {hour:02}:{minute:02}:{second:02} UTC {year}")
}

/// Year, month and day of a day since 1970 (Howard Hinnant's `civil_from_days`, for days after 1970).
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z - era * 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_print_as_javas_loggers_and_dates_do() {
        let mut text = String::new();
        write_time(&mut text, UNIX_EPOCH + Duration::from_millis(1_795_358_979_007)).unwrap();
        assert_eq!(text, "2026-11-22 14:49:39,007");
        assert_eq!(java_date(1_795_358_979_007), "Sun Nov 22 14:49:39 UTC 2026");
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
    }
}
