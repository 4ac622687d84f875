//! `zabkit server`: one server in the foreground, with ZooKeeper's start arguments and exit codes.

use crate::server::{Config, Exit, Listeners, Server, StartError, log};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Wrong arguments, or a configuration that cannot be used.
const EXIT_INVALID: u8 = 2;
/// How long a leader is given to hand over.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(60);
/// An error that nobody foresaw.
const EXIT_UNEXPECTED: u8 = 1;

/// As of ZooKeeper's server main.
#[derive(clap::Args)]
pub struct ServerArgs {
    /// A zoo.cfg; or, for a standalone server: <CLIENT_PORT> <DATA_DIR> [TICK_TIME_MS] [MAX_CLIENT_CNXNS]
    #[arg(required = true, num_args = 1..=4, value_name = "ZOO_CFG")]
    arguments: Vec<String>,
    /// The exit status after SIGTERM is 0 instead of 143.
    #[arg(long)]
    exit_zero_on_sigterm: bool,
}

/// Runs a server until it ends.
pub fn run(args: &ServerArgs) -> ExitCode {
    log::init();
    let config = match configuration(&args.arguments) {
        Ok(config) => config,
        Err(reason) => {
            tracing::error!("Invalid config, exiting abnormally: {reason}");
            return ExitCode::from(EXIT_INVALID);
        }
    };
    match serve(config) {
        Ok(End::Start(error)) => {
            tracing::error!("Unexpected exception, exiting abnormally: {error}");
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_UNEXPECTED))
        }
        Ok(End::Server(exit)) => exit_code(&exit),
        Ok(End::Signal { number: 15, .. }) if args.exit_zero_on_sigterm => ExitCode::SUCCESS,
        Ok(End::Signal { number, exit: Exit::Stopped }) => ExitCode::from(128 + number),
        Ok(End::Signal { exit, .. }) => exit_code(&exit),
        Err(error) => {
            tracing::error!("Unexpected exception, exiting abnormally: {error}");
            ExitCode::from(EXIT_UNEXPECTED)
        }
    }
}

fn exit_code(exit: &Exit) -> ExitCode {
    match exit {
        Exit::Stopped | Exit::Killed => ExitCode::SUCCESS,
        Exit::Failed { code, .. } => ExitCode::from(u8::try_from(*code).unwrap_or(EXIT_UNEXPECTED)),
    }
}

fn configuration(arguments: &[String]) -> Result<Config, String> {
    if let [file] = arguments {
        tracing::info!("Reading configuration from: {file}");
        let flags = ["SERVER_JVMFLAGS", "JVMFLAGS"].map(|name| std::env::var(name).unwrap_or_default()).join(" ");
        return Config::from_file_with_flags(Path::new(file), &flags).map_err(|error| error.to_string());
    }
    let [port, dir, rest @ ..] = arguments else {
        return Err("a zoo.cfg, or a client port and a data directory are needed".to_owned());
    };
    let port = port.parse().map_err(|_| format!("{port:?} is not a port"))?;
    let mut config = Config::standalone(port, PathBuf::from(dir));
    let number = |text: &String| text.parse::<u32>().map_err(|_| format!("{text:?} is not a number"));
    if let Some(tick) = rest.first() {
        config.tick_time_ms = number(tick)?;
    }
    if let Some(max) = rest.get(1) {
        config.limits.max_client_cnxns = number(max)?;
    }
    Ok(config)
}

/// What ended first.
enum End {
    /// It could not start.
    Start(StartError),
    Server(Exit),
    Signal {
        number: u8,
        exit: Exit,
    },
}

/// Starts the server and waits for its own end, or for a signal, upon which it is stopped. A signal that comes while it
/// starts ends the process at once: nothing has been promised to anybody.
fn serve(config: Config) -> std::io::Result<End> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        // A leader is asked to let another server lead.
        let mut asked = signal(SignalKind::user_defined1())?;
        let (started, mut start) = tokio::sync::oneshot::channel();
        thread("start", move || drop(started.send(Server::start(config, Listeners::default()))))?;
        let server = tokio::select! {
            started = &mut start => match started {
                Ok(Ok(server)) => Arc::new(server),
                Ok(Err(error)) => return Ok(End::Start(error)),
                Err(_) => return Err(std::io::Error::other("the start has panicked")),
            },
            number = signals.next() => return Ok(End::Signal { number, exit: Exit::Stopped }),
        };
        let (ended, mut end) = tokio::sync::oneshot::channel();
        let waiting = server.clone();
        thread("wait", move || drop(ended.send(waiting.wait())))?;
        loop {
            tokio::select! {
                exit = &mut end => return Ok(End::Server(exit.unwrap_or(Exit::Killed))),
                Some(()) = asked.recv() => {
                    let server = server.clone();
                    thread("hand over", move || match server.hand_over(HAND_OVER_LIMIT) {
                        Ok(()) => tracing::info!("SIGUSR1: another server leads now, or is about to"),
                        Err(error) => tracing::warn!("SIGUSR1: {error}"),
                    })?;
                }
                number = signals.next() => {
                    tracing::info!("signal {number}: the server is stopped");
                    return Ok(End::Signal { number, exit: server.stop() });
                }
            }
        }
    })
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// The signals that end the server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Where certificates are reloaded one day; it must not end the server.
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The number of the next one.
    async fn next(&mut self) -> u8 {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return 15,
                _ = self.interrupt.recv() => return 2,
                _ = self.hang_up.recv() => {}
            }
        }
    }
}
