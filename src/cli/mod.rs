//! The `zabkit` command.

mod server;
mod simulate;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// ZooKeeper's coordination service without the JVM.
#[derive(Parser)]
#[command(name = "zabkit", version, arg_required_else_help = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a server in the foreground until SIGTERM.
    Server(server::ServerArgs),
    /// Run seeds of the simulator: whole ensembles under faults, checked after every event.
    Simulate(simulate::SimulateArgs),
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    match Args::parse().command {
        Command::Server(args) => server::run(&args),
        Command::Simulate(args) => simulate::run(&args),
    }
}
