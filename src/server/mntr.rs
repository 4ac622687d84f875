//! `mntr`: the metrics, one a line, by ZooKeeper's names.
//!
//! What dashboards and alerts look at is measured. The names that belong to Apache's own layout of threads and queues
//! are there, so that scripts find them, and stay 0.
//!
//! ZooKeeper: `ServerMetrics`, `MonitorCommand`.

use super::VERSION_LINE;
use super::shared::{Metrics, ProposalSizes, Shared, SummaryValues};
use super::words::average_latency;
use crate::peer::ServerStats;
use crate::peer::io::ServerMode;
use std::fmt::{Display, Write};
use std::sync::atomic::Ordering;

/// The lines of `mntr`, of a server that serves.
pub fn text(shared: &Shared, stats: &ServerStats) -> String {
    let mut out = Lines::default();
    let mode = stats.serving.map_or(ServerMode::Standalone, |serving| serving.mode);
    out.line("version", VERSION_LINE);
    out.line("server_state", mode);
    gauges(shared, stats, mode, &mut out);
    counters(&shared.metrics, &mut out);
    summaries(&shared.metrics, &mut out);
    out.text
}

#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn line(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.text, "zk_{name}\t{value}");
    }

    fn summary(&mut self, name: &str, values: SummaryValues) {
        let average = if values.count == 0 { 0.0 } else { values.sum as f64 / values.count as f64 };
        let _ = writeln!(
            self.text,
            "zk_avg_{name}\t{:?}\nzk_min_{name}\t{}\nzk_max_{name}\t{}\nzk_cnt_{name}\t{}\nzk_sum_{name}\t{}",
            (average * 10_000.0).round() / 10_000.0,
            values.min,
            values.max,
            values.count,
            values.sum
        );
    }
}

fn gauges(shared: &Shared, stats: &ServerStats, mode: ServerMode, out: &mut Lines) {
    let peer = shared.peer_status();
    let is_member = shared.config.my_id.is_some();
    if is_member {
        let doing = match mode {
            ServerMode::Leader => "leading - broadcast",
            ServerMode::Observer => "observing - broadcast",
            ServerMode::ReadOnly => "looking",
            _ => "following - broadcast",
        };
        out.line("peer_state", doing);
    }
    let uptime_ms = shared.clock.micros() / 1000;
    out.line("ephemerals_count", stats.ephemeral_count);
    out.line("num_alive_connections", stats.connections);
    out.line("avg_latency", average_latency(&stats.total));
    out.line("min_latency", stats.total.latency_min_micros / 1000);
    out.line("max_latency", stats.total.latency_max_micros / 1000);
    out.line("packets_received", stats.total.received);
    out.line("packets_sent", stats.total.sent);
    out.line("outstanding_requests", stats.outstanding);
    out.line("znode_count", stats.node_count);
    out.line("watch_count", stats.watches.data + stats.watches.child);
    out.line("approximate_data_size", stats.approximate_data_size);
    out.line("global_sessions", stats.session_count);
    out.line("local_sessions", stats.local_session_count);
    out.line("uptime", uptime_ms);
    out.line("open_file_descriptor_count", open_files());
    out.line("max_file_descriptor_count", max_files());
    out.line("connection_drop_probability", "0.0");
    if is_member {
        out.line("quorum_size", shared.config.ensemble.voters().len());
    }
    if is_member && mode == ServerMode::Leader {
        out.line("learners", peer.learners.connected);
        out.line("synced_followers", peer.learners.followers);
        out.line("pending_syncs", peer.pending_syncs);
        out.line("leader_uptime", uptime_ms);
        out.line("synced_non_voting_followers", peer.learners.non_voting);
        out.line("synced_observers", peer.learners.observers);
        let ProposalSizes { last, min, max } = shared.metrics.proposals.sizes();
        for (name, bytes) in [("last_proposal_size", last), ("max_proposal_size", max), ("min_proposal_size", min)] {
            out.line(name, bytes);
        }
    }
    if let Some(observers) = peer.master_of {
        out.line("synced_observers", observers);
    }
    if mode == ServerMode::Observer {
        out.line("observer_master_id", peer.master.unwrap_or_default());
    }
    for name in GAUGES_ZERO {
        out.line(name, 0);
    }
}

fn counters(metrics: &Metrics, out: &mut Lines) {
    let measured = [
        ("bytes_received_count", &metrics.bytes_received),
        ("response_bytes", &metrics.bytes_sent),
        ("connection_rejected", &metrics.connection_rejected),
        ("connection_request_count", &metrics.connection_requests),
        ("sessionless_connections_expired", &metrics.sessionless_expired),
        ("unsuccessful_handshake", &metrics.unsuccessful_handshake),
        ("tls_handshake_exceeded", &metrics.tls_handshake_exceeded),
        ("large_requests_rejected", &metrics.large_requests_rejected),
        ("request_throttle_wait_count", &metrics.throttled_waits),
        ("stale_requests", &metrics.stale_requests),
        ("stale_requests_dropped", &metrics.stale_requests),
        ("commit_count", &metrics.commits),
        ("looking_count", &metrics.looking),
        ("digest_mismatches_count", &metrics.digest_mismatches),
        ("snap_count", &metrics.snap_syncs),
        ("diff_count", &metrics.diff_syncs),
    ];
    for (name, counter) in measured {
        out.line(name, counter.load(Ordering::Relaxed));
    }
    for name in COUNTERS_ZERO {
        out.line(name, 0);
    }
}

fn summaries(metrics: &Metrics, out: &mut Lines) {
    out.summary("fsynctime", metrics.fsync.get());
    out.summary("snapshottime", metrics.snapshot.get());
    out.summary("election_time", metrics.election.get());
    out.summary("sync_processor_batch_size", metrics.batch.get());
    for name in SUMMARIES_ZERO {
        out.summary(name, SummaryValues::default());
    }
    for name in PERCENTILES_ZERO {
        out.summary(name, SummaryValues::default());
        for percentile in ["p50", "p95", "p99", "p999"] {
            out.line(&format!("{percentile}_{name}"), 0);
        }
    }
}

/// Open file descriptors of this process.
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count())
}

fn max_files() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(0)
}

/// Gauges of what is not here, or not told.
const GAUGES_ZERO: &[&str] = &[
    "non_mtls_remote_conn_count",
    "non_mtls_local_conn_count",
    "outstanding_tls_handshake",
    "auth_failed_count",
    "last_client_response_size",
    "max_client_response_size",
    "min_client_response_size",
];

/// Counters that are not counted here.
const COUNTERS_ZERO: &[&str] = &[
    "add_dead_watcher_stall_time",
    "cnxn_closed_without_zk_server_running",
    "connection_drop_count",
    "connection_revalidate_count",
    "dead_watchers_cleared",
    "dead_watchers_queued",
    "ensemble_auth_fail",
    "ensemble_auth_skip",
    "ensemble_auth_success",
    "insecure_admin_count",
    "learner_commit_received_count",
    "learner_proposal_received_count",
    "outstanding_changes_queued",
    "outstanding_changes_removed",
    "prep_processor_request_queued",
    "proposal_count",
    "quit_leading_due_to_disloyal_voter",
    "request_commit_queued",
    "requests_not_forwarded_to_commit_processor",
    "response_packet_cache_hits",
    "response_packet_cache_misses",
    "response_packet_get_children_cache_hits",
    "response_packet_get_children_cache_misses",
    "revalidate_count",
    "skip_learner_request_to_next_processor_count",
    "stale_replies",
    "stale_sessions_expired",
    "sync_processor_request_queued",
    "throttled_ops",
    "unrecoverable_error_count",
    "watch_bytes",
];

/// Summaries that are not measured here.
const SUMMARIES_ZERO: &[&str] = &[
    "commit_commit_proc_req_queued",
    "commit_process_time",
    "concurrent_request_processing_in_commit_processor",
    "connection_token_deficit",
    "dbinittime",
    "follower_sync_time",
    "inflight_diff_count",
    "inflight_snap_count",
    "leader_unavailable_time",
    "learner_request_processor_queue_size",
    "netty_queued_buffer_capacity",
    "node_changed_watch_count",
    "node_children_watch_count",
    "node_created_watch_count",
    "node_deleted_watch_count",
    "observer_sync_time",
    "pending_session_queue_size",
    "prep_process_time",
    "prep_processor_queue_size",
    "proposal_process_time",
    "read_commit_proc_issued",
    "read_commit_proc_req_queued",
    "reads_after_write_in_session_queue",
    "reads_issued_from_session_queue",
    "requests_in_session_queue",
    "session_queues_drained",
    "socket_closing_time",
    "startup_snap_load_time",
    "startup_txns_load_time",
    "startup_txns_loaded",
    "sync_process_time",
    "sync_processor_queue_size",
    "time_waiting_empty_pool_in_commit_processor_read_ms",
    "unavailable_time",
    "write_batch_time_in_commit_processor",
    "write_commit_proc_issued",
    "write_commit_proc_req_queued",
];

/// Summaries with percentiles that are not measured here.
const PERCENTILES_ZERO: &[&str] = &[
    "close_session_prep_time",
    "commit_propagation_latency",
    "dead_watchers_cleaner_latency",
    "jvm_pause_time_ms",
    "local_write_committed_time_ms",
    "om_commit_process_time_ms",
    "om_proposal_process_time_ms",
    "prep_processor_queue_time_ms",
    "propagation_latency",
    "proposal_ack_creation_latency",
    "proposal_latency",
    "quorum_ack_latency",
    "read_commitproc_time_ms",
    "read_final_proc_time_ms",
    "readlatency",
    "request_throttle_queue_time_ms",
    "server_write_committed_time_ms",
    "sync_processor_queue_and_flush_time_ms",
    "sync_processor_queue_flush_time_ms",
    "sync_processor_queue_time_ms",
    "updatelatency",
    "write_commitproc_time_ms",
    "write_final_proc_time_ms",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_prints_as_apaches() {
        let mut lines = Lines::default();
        lines.summary("fsynctime", SummaryValues { min: 0, max: 1, count: 8, sum: 1 });
        let expected = "zk_avg_fsynctime\t0.125\nzk_min_fsynctime\t0\nzk_max_fsynctime\t1\nzk_cnt_fsynctime\t8\n\
                        zk_sum_fsynctime\t1\n";
        assert_eq!(lines.text, expected);
    }

    /// Every name that Apache 3.8.0 tells is told here, but for those with a namespace or a learner in them.
    #[test]
    fn no_recorded_name_is_missing() {
        let mut lines = Lines::default();
        counters(&Metrics::default(), &mut lines);
        summaries(&Metrics::default(), &mut lines);
        let told: std::collections::BTreeSet<&str> =
            lines.text.lines().filter_map(|line| line.split('\t').next()).collect();
        let recorded = std::fs::read_to_string("tests/testdata/fourletter/standalone_mntr.txt").unwrap();
        let behind_gauges = recorded.lines().skip_while(|line| !line.starts_with("zk_proposal_count"));
        for name in behind_gauges.filter_map(|line| line.split('\t').next()) {
            assert!(told.contains(name) || name.contains("_per_namespace"), "{name} is missing");
        }
    }
}
