//! `zabkit simulate`: runs seeds of the simulator and says what did not hold.

use crate::sim::faults::Kind;
use crate::sim::steps::{STEPS, VICTIMS};
use crate::sim::{Counts, Options, Planted, Report, Scenario, run_seed};
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Instant;

#[derive(clap::Args)]
pub struct SimulateArgs {
    /// Run this seed only
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Run so many seeds
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Servers of the ensemble; the seed decides if not given
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=9))]
    servers: Option<u8>,
    /// What the runs are about
    #[arg(long, default_value = "mixed")]
    scenario: Scenario,
    /// Only voters of equal weight that stay what they are, with counters that do not end
    #[arg(long)]
    plain: bool,
    /// Break the simulated host on purpose
    #[arg(long)]
    planted: Option<Planted>,
    /// The only kind of fault, instead of those that the seed draws
    #[arg(long)]
    only: Option<Kind>,
    /// Print every event to stderr, from this second of the run on
    #[arg(long, num_args = 0..=1, default_missing_value = "0", value_name = "SECOND")]
    trace: Option<f64>,
    /// One JSON object for each seed that failed, and one with the counts
    #[arg(long)]
    json: bool,
}

/// Over so many seeds with all faults everything that is counted must happen at least once.
const SEEDS_FOR_EVERYTHING: u64 = 500;

/// Exit code 1 when something did not hold, or when many seeds have not met what they are for.
pub fn run(args: &SimulateArgs) -> ExitCode {
    let (from, count) = args.seed.map_or((args.from, args.seeds), |seed| (seed, 1));
    let options = Options {
        servers: args.servers.map(usize::from),
        scenario: args.scenario,
        plain: args.plain,
        planted: args.planted,
        only: args.only,
        trace_from: args.trace.map(|second| (second * 1e6) as u64),
    };
    if args.trace.is_none() {
        // A failed assertion of a simulated server is a violation, told with its seed.
        std::panic::set_hook(Box::new(|_| {}));
    }
    let began = Instant::now();
    let mut counts = Counts::default();
    let mut failed = 0;
    let mut interrupted = BTreeSet::new();
    for seed in from..from.saturating_add(count) {
        let report = run_seed(seed, options);
        counts.add(&report.counts);
        interrupted.extend(report.interrupted.iter().copied());
        if report.violation.is_some() {
            failed += 1;
            print_violation(&report, args);
        }
    }
    if args.scenario == Scenario::ReconfigSteps && !args.json {
        for step in STEPS {
            let hit: Vec<String> = VICTIMS
                .iter()
                .filter(|who| interrupted.contains(&(step, **who)))
                .map(|who| format!("{who:?}"))
                .collect();
            println!("interrupted at {step:?}: {}", hit.join(", "));
        }
    }
    print_summary(count, failed, &counts, began.elapsed().as_secs_f64(), args.json);
    let is_whole = count >= SEEDS_FOR_EVERYTHING && args.only.is_none() && args.planted.is_none() && !args.plain;
    let never = if is_whole { counts.never(args.scenario) } else { Vec::new() };
    for name in &never {
        eprintln!("never happened in {count} seeds: {}", name.replace('_', " "));
    }
    if failed == 0 && never.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_violation(report: &Report, args: &SimulateArgs) {
    let Some((at, what)) = &report.violation else {
        return;
    };
    let seconds = *at as f64 / 1e6;
    if args.json {
        let object = serde_json::json!({
            "seed": report.seed, "servers": report.servers, "at_seconds": seconds, "violation": what,
            "trace_hash": format!("{:016x}", report.trace_hash),
        });
        return println!("{object}");
    }
    println!("seed {} ({} servers) at {seconds:.6} s: {what}", report.seed, report.servers);
    let mut servers = args.servers.map(|servers| format!(" --servers {servers}")).unwrap_or_default();
    match args.scenario {
        Scenario::Mixed => {}
        Scenario::CutOffLeader => servers += " --scenario cut-off-leader",
        Scenario::ReconfigSteps => servers += " --scenario reconfig-steps",
    }
    if args.plain {
        servers += " --plain";
    }
    println!("  replay: zabkit simulate --seed {}{servers} --trace {:.3}", report.seed, (seconds - 0.5).max(0.0));
}

fn print_summary(seeds: u64, failed: u64, counts: &Counts, seconds: f64, json: bool) {
    let events_per_second = counts.events as f64 / seconds.max(1e-9);
    if json {
        let object = serde_json::json!({
            "seeds": seeds, "violations": failed, "seconds": seconds, "events_per_second": events_per_second,
            "counts": counts,
        });
        return println!("{object}");
    }
    println!(
        "{seeds} seeds, {failed} violations; {} events in {seconds:.1} s, {events_per_second:.0} events/s, {:.0} simulated seconds",
        counts.events,
        counts.simulated_ms as f64 / 1e3,
    );
    for (name, count) in counts.all() {
        println!("  {count:>12} {}", name.replace('_', " "));
    }
}
