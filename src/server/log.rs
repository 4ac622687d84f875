//! Log lines as Apache's default configuration lays them out, so that today's greps work:
//! `yyyy-MM-dd HH:mm:ss,SSS [myid:<id>] - LEVEL [thread:module@line] - message`. UTC; to stderr.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Sends this process's log lines to stderr. `RUST_LOG` filters (default: info). For a process that is a server; a
/// program that embeds servers installs the subscriber that it likes.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // Else a closed stderr (`| head`) is answered with `eprintln!`, which panics in the thread that logs.
        .log_internal_errors(false)
        .event_format(Layout)
        .finish();
    // A second call finds the first one's subscriber in place, which is fine.
    let _ = tracing::subscriber::set_global_default(subscriber);
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
