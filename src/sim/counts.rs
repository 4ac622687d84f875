//! How often a run has met what the simulator is for. A count of zero over many seeds means that nothing was tested.

use super::disk::CrashReport;
use super::ensemble::Shape;
use super::run::Scenario;
use crate::peer::io::{LogPlace, Note};
use crate::storage::Repair;

macro_rules! counts {
    ($( $(#[$meta:meta])* $name:ident, )*) => {
        /// Counts of a run, or of many.
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
        pub struct Counts { $( $(#[$meta])* pub $name: u64, )* }

        impl Counts {
            /// Adds another run's.
            pub fn add(&mut self, other: &Counts) {
                $( self.$name += other.$name; )*
            }

            /// Every count with its name.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![ $( (stringify!($name), self.$name), )* ]
            }
        }
    };
}

counts! {
    events,
    /// Ensembles with groups and weights.
    hierarchical_runs,
    /// Servers that are told only what is committed; of them, those without a log.
    observers,
    observers_without_a_log,
    /// Servers that are no members.
    strangers,
    /// Followers, observers and strangers that began to follow, and clients that these served.
    followings,
    observings,
    leaders_without_clients,
    sessions_on_observers,
    /// Observers that connected to a follower.
    links_to_masters,
    /// Leaders that ended their epoch because its counter came to its end, or were asked to let another lead.
    roll_overs,
    hand_overs,
    /// Changes of the ensemble: asked for, refused, committed, by whom they were proposed or by the next leader; and
    /// servers that began to go by one.
    reconfigs_asked,
    reconfigs_refused,
    reconfigs_committed,
    reconfigs_completed_later,
    /// At one of their steps, by a trap of `--scenario reconfig-steps`.
    reconfigs_interrupted,
    configurations_activated,
    /// Leaders that named another in their place, and members whose list was too old to find anybody by.
    leaders_designated,
    members_mended,
    simulated_ms,
    requests,
    replies,
    writes_acknowledged,
    reads_answered,
    unknown_outcomes,
    /// Calls that waited for a connection in vain.
    calls_never_sent,
    /// Reads and syncs whose link broke.
    reads_sent_again,
    /// Reads that owed something to a sync before them.
    reads_behind_a_sync,
    /// Requests that had to wait behind a write or sync of their session.
    parked_reads,
    events_seen,
    watches_fired,
    watches_forgotten,
    watches_removed,
    /// Containers and TTL nodes.
    reaped,
    links_lost,
    sessions_created,
    sessions_renewed,
    /// Reconnects to another server than before.
    session_move_attempts,
    sessions_moved,
    sessions_expired,
    /// Sessions that one server alone knew.
    local_sessions,
    /// Of them, those whose first ephemeral was answered.
    sessions_upgraded,
    /// Ephemerals refused to such a session.
    ephemerals_refused,
    /// Servers without a quorum that began to serve readers, sessions that they opened, and what was asked of them.
    read_only_servers,
    read_only_sessions,
    read_only_answers,
    read_only_refusals,
    elections,
    leaderships,
    diff,
    trunc,
    snap,
    /// Learners that were older than a leader's memory: they got the rest from its log, or it was of no use.
    found_in_log,
    not_in_log,
    crashes,
    leader_crashes,
    kills,
    power_cuts_inside_a_step,
    /// Something struck at a packet of discovery or synchronisation.
    packet_kill_points,
    ended_by_disk,
    unsynced_bytes_dropped,
    /// Writes of which a crash kept a part.
    torn_writes,
    /// Logs whose tail had to be cut at a start.
    torn_tails,
    /// Creations, renames and removals that a crash undid.
    names_lost,
    partitions,
    asymmetric_partitions,
    /// Leaders in a minority with followers and clients.
    leaders_cut_off,
    /// Times that requests came to such a minority after others had been told of newer writes.
    served_behind_a_cut,
    /// Syncs that were called there, and what became of the reads behind them: fresh, or failed.
    syncs_behind_a_cut,
    fresh_behind_a_cut,
    failed_behind_a_cut,
    resets,
    cut_with_bytes_under_way,
    pauses,
    snapshots,
    snapshots_interrupted,
    snapshots_interleaved,
    streams,
    streams_interrupted,
}

impl Counts {
    /// What has never happened, although many runs of this kind should meet it some time.
    pub fn never(&self, scenario: Scenario) -> Vec<&'static str> {
        let is_wanted = |name: &str| match scenario {
            Scenario::Mixed => name != "reconfigs_interrupted",
            Scenario::CutOffLeader => name.ends_with("a_cut"),
            Scenario::ReconfigSteps => name.starts_with("reconfigs_") && name != "reconfigs_refused",
        };
        let never = self.all().into_iter().filter(|(name, count)| *count == 0 && is_wanted(name));
        never.map(|(name, _)| name).collect()
    }

    pub fn on_shape(&mut self, shape: &Shape) {
        self.hierarchical_runs += u64::from(shape.is_hierarchical());
        let observers = shape.configuration.observers().len() as u64;
        self.observers += observers;
        self.observers_without_a_log += if shape.roles.observer_logs { 0 } else { observers };
        self.strangers += shape.strangers.len() as u64;
        self.leaders_without_clients += u64::from(!shape.roles.leader_serves);
    }

    pub fn on_note(&mut self, note: &Note) {
        match note {
            Note::ServingReadOnly => self.read_only_servers += 1,
            Note::ElectionWon { .. } => self.elections += 1,
            Note::Leading { .. } => self.leaderships += 1,
            Note::HandingOver { reason } if reason.contains("used up") => self.roll_overs += 1,
            Note::HandingOver { .. } => self.hand_overs += 1,
            Note::LeaderDesignated { .. } => self.leaders_designated += 1,
            Note::Following { .. } => self.followings += 1,
            Note::Observing { .. } => self.observings += 1,
            Note::SyncReceived { how: "DIFF", .. } => self.diff += 1,
            Note::SyncReceived { how: "TRUNC", .. } => self.trunc += 1,
            Note::SyncReceived { how: "SNAP", .. } => self.snap += 1,
            _ => {}
        }
    }

    pub fn on_log_searched(&mut self, place: LogPlace) {
        match place {
            LogPlace::Prefix => self.found_in_log += 1,
            LogPlace::Unknown(_) => self.not_in_log += 1,
        }
    }

    pub fn on_crash(&mut self, report: &CrashReport) {
        self.crashes += 1;
        self.unsynced_bytes_dropped += report.unsynced_bytes_dropped;
        self.torn_writes += report.torn_tails;
        self.names_lost += report.lost_dir_entries;
    }

    pub fn on_repairs(&mut self, repairs: &[Repair]) {
        self.torn_tails += repairs.iter().filter(|repair| matches!(repair, Repair::TornTail { .. })).count() as u64;
    }
}
