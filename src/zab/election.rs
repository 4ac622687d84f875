//! Who should lead: the server with the newest history that a quorum can see. ZooKeeper: `FastLeaderElection`.
//!
//! The machine runs in all states: while LOOKING it counts votes, afterwards it answers those who look. The winner of an
//! election only *tries* to lead; discovery (Zab phase 1) decides.
//!
//! One thing differs from ZooKeeper: when every voter's vote of this round is in hand, or the missing voter's link is
//! known to be down, nothing can arrive that would change the result, so nothing is waited for. Otherwise
//! `finalizeWait` (200 ms) gives a better vote the time to arrive.

use super::Quorums;
use crate::records::{Notification, NotificationForm, PeerState, PeerType, ServerId, Zxid};
use std::collections::{BTreeMap, BTreeSet};

/// `finalizeWait`: how long a quorum waits for a better vote, in microseconds.
pub const FINALIZE_WAIT_MICROS: u64 = 200_000;
/// `fastleader.minNotificationInterval`: first wait before votes are sent again, in microseconds.
const RESEND_MIN_MICROS: u64 = 200_000;
/// `fastleader.maxNotificationInterval`, in microseconds.
const RESEND_MAX_MICROS: u64 = 60_000_000;

/// How long the same words of a server that is no voter are not answered again, in microseconds: less than it waits
/// before it repeats itself.
const STRANGER_MICROS: u64 = 100_000;
/// Of so many of them what they said is remembered; of more every word is answered.
const STRANGERS_MAX: usize = 64;

/// While a reconfiguration is on its way, an election that has waited so long, in microseconds, may be stuck: another
/// round begins.
const NEXT_ROUND_MICROS: u64 = 1_600_000;
/// The same for a server that has no vote, or that others have told of a leader whom they follow: they have their
/// ensemble and never turn to it by themselves, so it must not lose sight of them for long. In microseconds.
const RESEND_MAX_ALONE_MICROS: u64 = 3_200_000;

/// No ensemble gets here by elections: a round beyond it is not believed. (-1 is what ZooKeeper says after a
/// reconfiguration.)
const ROUND_MAX: i64 = i64::MAX / 2;

/// A vote: this server has the newest history I know of. Ordered as ZooKeeper orders votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vote {
    /// currentEpoch of the server voted for.
    pub peer_epoch: i64,
    /// Its last logged zxid; [`Zxid::NONE`] if its database is empty and not trusted.
    pub zxid: Zxid,
    pub leader: ServerId,
}

impl Vote {
    /// The vote of a server that does not vote: worse than any other. One that is no observer, but in no list, says
    /// beside it what it has.
    pub const NOBODY: Vote = Vote { peer_epoch: i64::MIN, zxid: Zxid(i64::MIN), leader: ServerId(i64::MIN) };
}

/// The vote that an election ended with, as settled servers tell it to those who look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledVote {
    pub vote: Vote,
    pub round: i64,
    pub state: PeerState,
}

/// The end of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub leader: ServerId,
    pub took_micros: u64,
}

/// A vote received, with the sender's round and state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ballot {
    vote: Vote,
    round: i64,
    state: PeerState,
    version: i32,
}

/// The state of an election that goes on.
#[derive(Clone, Debug)]
struct Looking {
    started: u64,
    /// The vote for ourselves, also if we have none.
    own: Vote,
    first: Vote,
    proposal: Vote,
    /// Votes of this round, by sender.
    received: BTreeMap<ServerId, Ballot>,
    /// The last vote of each server that was answered at once. A server that takes us for no voter answers whatever we
    /// say: each vote is answered once, or the two would never stop.
    answered: BTreeMap<ServerId, Ballot>,
    /// Votes of servers that follow or lead, of whatever round.
    settled: BTreeMap<ServerId, Ballot>,
    /// When each voter was last heard, in microseconds.
    heard: BTreeMap<ServerId, u64>,
    resend_at: u64,
    resend_interval: u64,
    /// A quorum agrees; decided unless something better comes before.
    finalize_at: Option<u64>,
}

/// One server's side of all its elections.
#[derive(Clone, Debug)]
pub struct Election {
    my_id: ServerId,
    /// What we become under another leader.
    peer_type: PeerType,
    quorums: Quorums,
    /// Sent with each notification.
    config_text: String,
    /// ZooKeeper's logicalClock; lives in memory only.
    round: i64,
    looking: Option<Looking>,
    settled: Option<SettledVote>,
    /// Voters whose link is known to be down.
    down: BTreeSet<ServerId>,
    /// Servers that are no voters: what they were answered last.
    strangers: BTreeMap<ServerId, Said>,
}

/// An answer to a server that is no voter; until then it is not given again.
#[derive(Clone, Debug)]
struct Said {
    until: u64,
    notification: Notification,
    answer: Notification,
}

type Outbox = Vec<(ServerId, Notification)>;

impl Election {
    pub fn new(my_id: ServerId, peer_type: PeerType, quorums: Quorums, config_text: String) -> Self {
        let (round, down, strangers) = Default::default();
        Election { my_id, peer_type, quorums, config_text, round, looking: None, settled: None, down, strangers }
    }

    /// The configuration has changed, or another one is proposed or given up; `config_text` is the committed one's.
    pub fn set_configuration(&mut self, peer_type: PeerType, quorums: Quorums, config_text: String) {
        self.down.retain(|server| quorums.is_voter(*server));
        (self.peer_type, self.quorums, self.config_text) = (peer_type, quorums, config_text);
    }

    pub fn round(&self) -> i64 {
        self.round
    }

    /// When [`Election::on_wakeup`] wants to be called, in microseconds.
    pub fn next_wakeup(&self) -> Option<u64> {
        let looking = self.looking.as_ref()?;
        Some(looking.finalize_at.unwrap_or(looking.resend_at))
    }

    /// Begins to look for a leader; `first` is the vote for ourselves, which counts only if we are a voter.
    pub fn start(&mut self, now: u64, first: Vote, out: &mut Outbox) -> Option<Decision> {
        let own = first;
        let first = if self.quorums.is_voter(self.my_id) { first } else { Vote::NOBODY };
        self.settled = None;
        self.looking = Some(Looking {
            started: now,
            own,
            first,
            proposal: first,
            received: BTreeMap::new(),
            answered: BTreeMap::new(),
            settled: BTreeMap::new(),
            heard: BTreeMap::new(),
            resend_at: now + RESEND_MIN_MICROS,
            resend_interval: RESEND_MIN_MICROS,
            finalize_at: None,
        });
        self.begin_round(now, self.round + 1);
        self.tell_all(out);
        self.check_quorum(now)
    }

    /// No vote of a former round counts any more. While a reconfiguration is on its way a round that is stuck is
    /// followed by another soon; whoever hears of that begins it too, so all are in the same one.
    fn begin_round(&mut self, now: u64, round: i64) {
        self.round = round;
        let own = self.own_vote(now);
        let is_changing = self.quorums.is_changing();
        let Some(looking) = &mut self.looking else { return };
        looking.received.clear();
        (looking.proposal, looking.finalize_at) = (own, None);
        if is_changing {
            (looking.resend_at, looking.resend_interval) = (now + RESEND_MIN_MICROS, RESEND_MIN_MICROS);
        }
        self.count_myself();
    }

    /// What we begin a round with: the vote for ourselves, unless we cannot lead. Who counts by a proposed configuration
    /// cannot lead while those who are there are no quorum of it; those who have not heard of it may be a quorum without
    /// us, and would elect us for ever, since we have logged more than they.
    fn own_vote(&self, now: u64) -> Vote {
        let Some(looking) = &self.looking else { return Vote::NOBODY };
        let is_here = |at: u64| now < at + 2 * NEXT_ROUND_MICROS;
        let others = looking.heard.iter().filter(|(_, at)| is_here(**at)).map(|(voter, _)| *voter);
        let is_early = now < looking.started + NEXT_ROUND_MICROS;
        let can_win = is_early || !self.quorums.is_changing() || self.quorums.is_reached(others.chain([self.my_id]));
        if can_win && self.is_preferred(looking.first.leader) { looking.first } else { Vote::NOBODY }
    }

    /// A reconfiguration, committed at `zxid`, names the next leader: there is no election, and nobody's round.
    pub fn appoint(&mut self, leader: ServerId, zxid: Zxid) {
        self.looking = None;
        let vote = Vote { peer_epoch: -1, zxid, leader };
        self.settled = Some(SettledVote { vote, round: -1, state: self.state_under(leader) });
    }

    /// What we become with that leader.
    fn state_under(&self, leader: ServerId) -> PeerState {
        match self.peer_type {
            _ if leader == self.my_id => PeerState::Leading,
            PeerType::Participant => PeerState::Following,
            PeerType::Observer => PeerState::Observing,
        }
    }

    /// The election has ended with a role in which this vote is what others should be told.
    pub fn settle(&mut self, state: PeerState, peer_epoch: Option<i64>) {
        if let Some(settled) = &mut self.settled {
            settled.state = state;
            settled.vote.peer_epoch = peer_epoch.unwrap_or(settled.vote.peer_epoch);
        }
    }

    /// No election goes on any more, until the next one begins.
    pub fn stop(&mut self) {
        (self.looking, self.settled) = (None, None);
    }

    /// The role that the election ended with is over: until the next election there is nothing to tell.
    pub fn unsettle(&mut self) {
        self.settled = None;
    }

    /// The election link with `server` opened, or is known to be closed.
    pub fn on_link(&mut self, now: u64, server: ServerId, up: bool, out: &mut Outbox) -> Option<Decision> {
        if up {
            self.down.remove(&server);
            if self.looking.is_some() && self.quorums.is_voter(server) {
                out.push((server, self.my_notification()));
            }
            return None;
        }
        self.down.insert(server);
        if let Some(looking) = self.looking.as_mut().filter(|_| !self.quorums.is_voter(self.my_id)) {
            looking.resend_at = looking.resend_at.min(now + RESEND_MIN_MICROS);
        }
        self.check_quorum(now)
    }

    /// Whether the election link with `server` is known to be down.
    pub fn is_down(&self, server: ServerId) -> bool {
        self.down.contains(&server)
    }

    pub fn on_wakeup(&mut self, now: u64, out: &mut Outbox) -> Option<Decision> {
        let looking = self.looking.as_mut()?;
        if looking.finalize_at.is_some_and(|at| at <= now) {
            return self.decide(now);
        }
        if looking.resend_at <= now {
            let is_awaited = self.quorums.is_voter(self.my_id) && looking.settled.is_empty();
            let max = if is_awaited { RESEND_MAX_MICROS } else { RESEND_MAX_ALONE_MICROS };
            looking.resend_interval = (2 * looking.resend_interval).min(max);
            looking.resend_at = now + looking.resend_interval;
            let is_stuck = looking.resend_interval >= NEXT_ROUND_MICROS && looking.finalize_at.is_none();
            if is_stuck && self.quorums.is_changing() && self.quorums.is_voter(self.my_id) {
                self.begin_round(now, self.round + 1);
            }
            self.tell_all(out);
            return self.check_quorum(now);
        }
        None
    }

    /// A notification arrived. The host has checked nothing.
    pub fn on_notification(
        &mut self,
        now: u64,
        from: ServerId,
        notification: &Notification,
        out: &mut Outbox,
    ) -> Option<Decision> {
        self.down.remove(&from);
        if !self.quorums.is_voter(from) {
            self.answer_stranger(now, from, notification, out);
            return None;
        }
        let Some(looking) = &mut self.looking else {
            if notification.state == PeerState::Looking {
                out.push((from, self.my_notification()));
            }
            return None;
        };
        looking.heard.insert(from, now);
        // A voter of a proposed list that has not heard of it votes for nobody. Its round counts all the same: it takes no
        // vote of an earlier one.
        let is_nobody = notification.state == PeerState::Looking && notification.leader == Vote::NOBODY.leader;
        let is_known = self.quorums.is_voter(notification.leader) || is_nobody;
        if !is_known || !(-1..ROUND_MAX).contains(&notification.election_epoch) {
            return None;
        }
        let Notification { peer_epoch, zxid, leader, .. } = *notification;
        let ballot = Ballot {
            vote: if is_nobody { Vote::NOBODY } else { Vote { peer_epoch, zxid, leader } },
            round: notification.election_epoch,
            state: notification.state,
            version: notification.version(),
        };
        match notification.state {
            PeerState::Looking => self.on_looking(now, from, ballot, out),
            PeerState::Observing => None,
            PeerState::Following | PeerState::Leading => self.on_settled(now, from, ballot),
        }
    }

    /// It wants to know; its own vote means nothing. If neither of us is a voter of what the other goes by, each answer
    /// would be answered: what has just been answered is not answered again.
    fn answer_stranger(&mut self, now: u64, from: ServerId, notification: &Notification, out: &mut Outbox) {
        let answer = self.my_notification();
        self.strangers.retain(|_, said| said.until > now);
        let is_same = |said: &Said| said.notification == *notification && said.answer == answer;
        if self.strangers.get(&from).is_some_and(is_same) {
            return;
        }
        if self.strangers.len() < STRANGERS_MAX {
            let (until, notification, answer) = (now + STRANGER_MICROS, notification.clone(), answer.clone());
            self.strangers.insert(from, Said { until, notification, answer });
        }
        out.push((from, answer));
    }

    /// While a reconfiguration is on its way only those are voted for, in each other round, whom also servers know that
    /// have not heard of it; in the other rounds all are, as ZooKeeper's servers do it from the beginning. (They wait
    /// until the one with the old list is told, for ever if nobody is left who could.) The round decides, since all that
    /// look for a leader are in the same one: if each took turns of its own, some would always be out of step.
    fn is_preferred(&self, leader: ServerId) -> bool {
        let by_committed = self.quorums.is_changing() && self.round % 2 != 0;
        let committed = self.quorums.committed();
        !by_committed || committed.is_voter(leader) && !committed.is_weightless(leader)
    }

    /// Whether this vote replaces our proposal. Whoever has logged less than we have would not let us follow.
    fn supersedes(&self, vote: Vote) -> bool {
        let Some(looking) = &self.looking else { return false };
        let knows_enough = (vote.peer_epoch, vote.zxid) >= (looking.first.peer_epoch, looking.first.zxid);
        let is_eligible = !self.quorums.is_weightless(vote.leader) && self.is_preferred(vote.leader);
        knows_enough && is_eligible && vote > looking.proposal
    }

    /// A vote of a server that looks as well.
    fn on_looking(&mut self, now: u64, from: ServerId, ballot: Ballot, out: &mut Outbox) -> Option<Decision> {
        let looking = self.looking.as_ref()?;
        if ballot.round < self.round {
            self.answer(from, ballot, out); // It must catch up with our round.
            return None;
        }
        // An untrusted empty database neither counts votes nor is counted.
        if looking.first.zxid == Zxid::NONE || ballot.vote.zxid == Zxid::NONE {
            return None;
        }
        let is_new_round = ballot.round > self.round;
        if is_new_round {
            self.begin_round(now, ballot.round);
        }
        let is_better = self.supersedes(ballot.vote);
        if is_better && let Some(looking) = &mut self.looking {
            (looking.proposal, looking.finalize_at) = (ballot.vote, None);
            self.count_myself();
        }
        if is_new_round || is_better {
            self.tell_all(out);
        } else if self.looking.as_ref().is_some_and(|looking| ballot.vote < looking.proposal) {
            // It may have begun to look after we told everybody; ZooKeeper lets it wait until we repeat ourselves.
            self.answer(from, ballot, out);
        }
        self.looking.as_mut()?.received.insert(from, ballot);
        self.check_quorum(now)
    }

    fn answer(&mut self, from: ServerId, ballot: Ballot, out: &mut Outbox) {
        let Some(looking) = &mut self.looking else { return };
        if looking.answered.insert(from, ballot) != Some(ballot) {
            out.push((from, self.my_notification()));
        }
    }

    /// A vote of a server that follows or leads: join it, if a quorum says so and the leader itself does.
    fn on_settled(&mut self, now: u64, from: ServerId, ballot: Ballot) -> Option<Decision> {
        let (my_id, round) = (self.my_id, self.round);
        let looking = self.looking.as_mut()?;
        if ballot.round == round {
            looking.received.insert(from, ballot);
            if Self::is_elected(&self.quorums, &looking.received, &ballot, my_id, round) {
                return self.join(now, ballot);
            }
        }
        let looking = self.looking.as_mut()?;
        looking.settled.insert(from, ballot);
        if Self::is_elected(&self.quorums, &looking.settled, &ballot, my_id, round) {
            self.round = ballot.round;
            return self.join(now, ballot);
        }
        None
    }

    /// Whether a quorum of `ballots` agrees with `ballot`, and its leader is seen to lead: else a crashed leader would be
    /// elected again and again. While a reconfiguration is on its way a quorum of either configuration is enough to join
    /// another: it may have been given up by others, or be committed, and that server counts both if it must. We do: to
    /// lead we need both.
    fn is_elected(
        quorums: &Quorums,
        ballots: &BTreeMap<ServerId, Ballot>,
        ballot: &Ballot,
        my_id: ServerId,
        round: i64,
    ) -> bool {
        let agrees = |other: &Ballot| {
            let same_leader = other.vote.leader == ballot.vote.leader;
            if other.state == PeerState::Looking {
                other.vote == ballot.vote && other.round == ballot.round
            } else if (other.version == 0) != (ballot.version == 0) {
                same_leader
            } else {
                same_leader && other.vote.peer_epoch == ballot.vote.peer_epoch
            }
        };
        let leader = ballot.vote.leader;
        let agreeing = ballots.iter().filter(|(_, other)| agrees(other)).map(|(server, _)| *server);
        if leader == my_id {
            return round == ballot.round && quorums.is_reached(agreeing);
        }
        let leads = ballots.get(&leader).is_some_and(|own| own.state == PeerState::Leading);
        leads && quorums.is_reached_in_any(agreeing)
    }

    fn count_myself(&mut self) {
        let (my_id, round) = (self.my_id, self.round);
        if let Some(looking) = &mut self.looking {
            let mine = Ballot { vote: looking.proposal, round, state: PeerState::Looking, version: 2 };
            looking.received.insert(my_id, mine);
        }
    }

    /// Whether our proposal has a quorum: then decide at once if nothing better can arrive, else wait for it.
    fn check_quorum(&mut self, now: u64) -> Option<Decision> {
        let looking = self.looking.as_mut()?;
        let agree = looking.received.iter().filter(|(_, ballot)| ballot.vote == looking.proposal);
        if [Zxid::NONE, Vote::NOBODY.zxid].contains(&looking.proposal.zxid)
            || !self.quorums.is_reached(agree.map(|(server, _)| *server))
        {
            looking.finalize_at = None;
            return None;
        }
        let may_still_vote = |voter: &ServerId| !looking.received.contains_key(voter) && !self.down.contains(voter);
        if !self.quorums.voters().iter().any(may_still_vote) {
            return self.decide(now);
        }
        looking.finalize_at.get_or_insert(now + FINALIZE_WAIT_MICROS);
        None
    }

    fn decide(&mut self, now: u64) -> Option<Decision> {
        let looking = self.looking.take()?;
        let vote = looking.proposal;
        self.end(now, looking.started, vote)
    }

    fn join(&mut self, now: u64, ballot: Ballot) -> Option<Decision> {
        let looking = self.looking.take()?;
        self.end(now, looking.started, ballot.vote)
    }

    fn end(&mut self, now: u64, started: u64, vote: Vote) -> Option<Decision> {
        self.settled = Some(SettledVote { vote, round: self.round, state: self.state_under(vote.leader) });
        Some(Decision { leader: vote.leader, took_micros: now.saturating_sub(started) })
    }

    /// What we say now: our proposal, or how the election ended.
    fn my_notification(&self) -> Notification {
        let (vote, round, state) = match (&self.looking, &self.settled) {
            // ZooKeeper: `getInitId` goes by the list, `getInitLastLoggedZxid` and `getPeerEpoch` by the peer type.
            (Some(looking), _) if looking.proposal == Vote::NOBODY && self.peer_type == PeerType::Participant => {
                (Vote { leader: Vote::NOBODY.leader, ..looking.own }, self.round, PeerState::Looking)
            }
            (Some(looking), _) => (looking.proposal, self.round, PeerState::Looking),
            (None, Some(settled)) => (settled.vote, settled.round, settled.state),
            (None, None) => (Vote::NOBODY, self.round, PeerState::Looking),
        };
        Notification {
            state,
            leader: vote.leader,
            zxid: vote.zxid,
            election_epoch: round,
            peer_epoch: vote.peer_epoch,
            form: NotificationForm::V2 { version: 2, config: self.config_text.clone() },
        }
    }

    fn tell_all(&self, out: &mut Outbox) {
        let notification = self.my_notification();
        let others = self.quorums.voters().iter().filter(|voter| **voter != self.my_id);
        out.extend(others.map(|voter| (*voter, notification.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::super::QuorumVerifier;
    use super::*;

    /// Servers with instant links, and all messages in one queue.
    struct World {
        servers: BTreeMap<ServerId, Election>,
        queue: std::collections::VecDeque<(ServerId, ServerId, Notification)>,
        decided: BTreeMap<ServerId, (u64, ServerId)>,
        now: u64,
    }

    impl World {
        fn new(n: i64) -> World {
            let of = |id| {
                let quorums = Quorums::majority_of((1..=n).map(ServerId).collect());
                (id, Election::new(id, PeerType::Participant, quorums, "v".into()))
            };
            World {
                servers: (1..=n).map(ServerId).map(of).collect(),
                queue: Default::default(),
                decided: BTreeMap::new(),
                now: 0,
            }
        }

        /// All have logged that the voters `new` are to take the place of `old`.
        fn changing(old: &[i64], new: &[i64]) -> World {
            let of = |ids: &[i64]| QuorumVerifier::majority_of(ids.iter().copied().map(ServerId).collect());
            let quorums = Quorums::new(of(old), Some(of(new)));
            let server = |id: &ServerId| (*id, Election::new(*id, PeerType::Participant, quorums.clone(), "v".into()));
            World { servers: quorums.voters().iter().map(server).collect(), ..World::new(0) }
        }

        fn act(&mut self, id: i64, f: impl FnOnce(&mut Election, u64, &mut Outbox) -> Option<Decision>) {
            let (id, mut out) = (ServerId(id), Vec::new());
            let decision = f(self.servers.get_mut(&id).unwrap(), self.now, &mut out);
            self.queue.extend(out.into_iter().map(|(to, notification)| (id, to, notification)));
            if let Some(decision) = decision {
                self.decided.insert(id, (self.now, decision.leader));
            }
        }

        fn start(&mut self, id: i64, epoch: i64, counter: i64) {
            let first = Vote { peer_epoch: epoch, zxid: Zxid(counter), leader: ServerId(id) };
            self.act(id, |election, now, out| election.start(now, first, out));
        }

        /// Delivers messages among `alive`, then lets time pass until they decide or `until`.
        fn run(&mut self, alive: &[i64], until: u64) {
            loop {
                while let Some((from, to, notification)) = self.queue.pop_front() {
                    if alive.contains(&to.0) {
                        self.act(to.0, |election, now, out| election.on_notification(now, from, &notification, out));
                    }
                }
                let next = |id: &i64| self.servers[&ServerId(*id)].next_wakeup();
                let Some(at) = alive.iter().filter_map(next).min().filter(|at| *at <= until) else { return };
                self.now = at;
                for id in alive {
                    self.act(*id, |election, now, out| election.on_wakeup(now, out));
                }
            }
        }

        fn leaders(&self) -> Vec<(i64, i64)> {
            self.decided.iter().map(|(id, (_, leader))| (id.0, leader.0)).collect()
        }
    }

    #[test]
    fn with_equal_histories_the_highest_id_wins_and_nobody_waits_when_all_have_voted() {
        let mut world = World::new(3);
        (1..=3).for_each(|id| world.start(id, 1, 5));
        world.run(&[1, 2, 3], 10_000_000);
        assert_eq!(world.leaders(), [(1, 3), (2, 3), (3, 3)]);
        assert_eq!(world.now, 0, "no wait was needed");
    }

    #[test]
    fn the_newest_epoch_wins_then_the_newest_zxid() {
        let mut world = World::new(3);
        world.start(1, 2, 5);
        world.start(2, 1, 9);
        world.start(3, 2, 4);
        world.run(&[1, 2, 3], 10_000_000);
        assert_eq!(world.leaders(), [(1, 1), (2, 1), (3, 1)]);
    }

    #[test]
    fn a_silent_voter_is_waited_for_but_one_known_to_be_down_is_not() {
        let mut world = World::new(3);
        world.start(1, 1, 1);
        world.start(2, 1, 1);
        world.run(&[1, 2], 10_000_000);
        assert_eq!(world.leaders(), [(1, 2), (2, 2)]);
        assert_eq!(world.now, FINALIZE_WAIT_MICROS);

        let mut world = World::new(3);
        for id in [1, 2] {
            world.act(id, |election, now, out| election.on_link(now, ServerId(3), false, out));
            world.start(id, 1, 1);
        }
        world.run(&[1, 2], 10_000_000);
        assert_eq!((world.leaders(), world.now), (vec![(1, 2), (2, 2)], 0));
    }

    #[test]
    fn a_server_that_comes_late_joins_the_leader_that_a_quorum_follows() {
        let mut world = World::new(3);
        world.start(1, 1, 1);
        world.start(2, 1, 1);
        world.run(&[1, 2], 10_000_000);
        for (id, state) in [(1, PeerState::Following), (2, PeerState::Leading)] {
            world.servers.get_mut(&ServerId(id)).unwrap().settle(state, Some(2));
        }
        world.start(3, 1, 9);
        world.run(&[1, 2, 3], 10_000_000);
        assert_eq!(world.leaders(), [(1, 2), (2, 2), (3, 2)]);
    }

    #[test]
    fn a_follower_of_a_leader_that_is_gone_does_not_make_it_elected() {
        let mut world = World::new(3);
        (1..=3).for_each(|id| world.start(id, 1, 1));
        world.run(&[1, 2, 3], 10_000_000);
        world.decided.clear();
        // 3 dies; 1 has not noticed and still follows; 2 looks, and must not be told to follow 3.
        world.start(2, 1, 2);
        world.run(&[1, 2], 1_000_000);
        assert_eq!(world.leaders(), []);
        world.start(1, 1, 1);
        world.run(&[1, 2], 10_000_000);
        assert_eq!(world.leaders(), [(1, 2), (2, 2)]);
    }

    #[test]
    fn an_untrusted_empty_server_neither_counts_nor_is_counted() {
        let mut world = World::new(3);
        world.start(1, 0, -1);
        world.start(2, 0, 0);
        world.run(&[1, 2], 1_000_000);
        assert_eq!(world.leaders(), []);
        world.start(3, 0, 0);
        world.run(&[1, 2, 3], 10_000_000);
        assert_eq!(world.leaders(), [(1, 3), (2, 3), (3, 3)], "1 joins the leader that 2 and 3 have settled on");
    }

    #[test]
    fn a_server_that_begins_to_look_late_is_told_of_the_better_vote_at_once() {
        let mut world = World::new(3);
        for id in [1, 2] {
            world.act(id, |election, now, out| election.on_link(now, ServerId(3), false, out));
        }
        world.start(2, 1, 1);
        world.queue.clear(); // 1 was still ending its last role.
        world.start(1, 1, 1);
        world.run(&[1, 2], 10_000_000);
        assert_eq!((world.leaders(), world.now), (vec![(1, 2), (2, 2)], 0));
    }

    #[test]
    fn a_minority_decides_nothing() {
        let mut world = World::new(5);
        world.start(1, 1, 1);
        world.start(2, 1, 1);
        world.run(&[1, 2], 3_000_000);
        assert_eq!(world.leaders(), []);
    }

    /// What the recorded server 4 said when it had learnt that it was no member.
    #[test]
    fn a_participant_that_is_in_no_list_votes_for_nobody_and_says_what_it_has() {
        let mut world = World::new(3);
        for (peer_type, zxid, peer_epoch) in [(PeerType::Participant, 7, 1), (PeerType::Observer, i64::MIN, i64::MIN)] {
            let quorums = Quorums::majority_of([1, 2, 3].map(ServerId).into());
            world.servers.insert(ServerId(4), Election::new(ServerId(4), peer_type, quorums, String::new()));
            world.start(4, 1, 7);
            let (_, _, said) = world.queue.pop_back().unwrap();
            assert_eq!((said.leader.0, said.zxid.0, said.peer_epoch), (i64::MIN, zxid, peer_epoch), "{peer_type:?}");
        }
    }

    /// A voter of a proposed list that has not heard of it: its history is no vote, however new.
    #[test]
    fn a_vote_for_nobody_is_none_whatever_it_says_beside_it() {
        let mut world = World::new(3);
        world.start(1, 1, 5);
        world.queue.clear();
        let mine = world.servers[&ServerId(1)].my_notification();
        let nobody = Notification { leader: Vote::NOBODY.leader, zxid: Zxid(9), peer_epoch: 2, ..mine.clone() };
        world.act(1, |election, now, out| election.on_notification(now, ServerId(2), &nobody, out));
        assert_eq!(world.servers[&ServerId(1)].my_notification(), mine);
        assert_eq!(world.queue.pop_back(), Some((ServerId(1), ServerId(2), mine)), "it is told of the better vote");
        world.act(1, |election, now, out| election.on_notification(now, ServerId(3), &nobody, out));
        world.run(&[1], 10_000_000);
        assert_eq!(world.leaders(), []);
    }

    #[test]
    fn who_has_been_told_of_a_leader_asks_again_soon_though_nobody_asks_him() {
        let mut world = World::new(5);
        world.start(1, 1, 1);
        let told = Notification { state: PeerState::Following, leader: ServerId(3), ..world.queue[0].2.clone() };
        world.act(1, |election, now, out| election.on_notification(now, ServerId(2), &told, out));
        world.run(&[1], 60_000_000);
        let next = world.servers[&ServerId(1)].next_wakeup().unwrap();
        assert!(next - world.now <= RESEND_MAX_ALONE_MICROS, "waits {} microseconds", next - world.now);
        assert_eq!(world.leaders(), []);
    }

    /// All four are needed, and 3 began once more than the others: if each took turns of its own in whom it votes for, 3
    /// would for ever vote for a new member when the others vote for an old one.
    #[test]
    fn all_that_look_prefer_the_same_servers_at_a_time() {
        let mut world = World::changing(&[1, 2], &[3, 4]);
        world.start(3, 1, 5);
        world.queue.clear();
        (1..=4).for_each(|id| world.start(id, 1, 5));
        world.run(&[1, 2, 3, 4], 20_000_000);
        assert_eq!(world.leaders(), [(1, 4), (2, 4), (3, 4), (4, 4)]);
    }

    /// The voters of the committed list are preferred in the first round; but 4 and 5 could not follow one of them.
    #[test]
    fn nobody_votes_for_a_server_that_has_logged_less() {
        let mut world = World::changing(&[1, 2, 3], &[2, 4, 5]);
        for (id, counter) in [(1, 5), (2, 5), (4, 6), (5, 6)] {
            world.start(id, 1, counter);
        }
        world.run(&[1, 2, 4, 5], 20_000_000);
        assert_eq!(world.leaders(), [(1, 5), (2, 5), (4, 5), (5, 5)]);
    }

    /// 3 alone knows that 2, 4 and 5 are to vote, and 4 and 5 are not there: 1 and 2 are a quorum without it.
    #[test]
    fn who_lacks_a_quorum_of_the_proposed_list_does_not_stand_for_ever() {
        let mut world = World::new(3);
        let changing = World::changing(&[1, 2, 3], &[2, 4, 5]);
        world.servers.insert(ServerId(3), changing.servers[&ServerId(3)].clone());
        world.start(3, 1, 6);
        for _ in 0..5 {
            [1, 2].into_iter().for_each(|id| world.start(id, 1, 5));
            world.run(&[1, 2, 3], world.now + 1_000_000);
            assert!(!world.leaders().contains(&(3, 3)), "it leads without a quorum");
        }
        assert_eq!(world.leaders(), [(1, 2), (2, 2), (3, 2)]);
    }

    #[test]
    fn strangers_are_answered_and_not_counted() {
        let mut world = World::new(3);
        world.start(1, 1, 1);
        world.queue.clear();
        let stranger = Notification { leader: ServerId(9), ..world.servers[&ServerId(1)].my_notification() };
        world.act(1, |election, now, out| election.on_notification(now, ServerId(9), &stranger, out));
        let (from, to, answer) = world.queue.pop_front().unwrap();
        assert_eq!((from, to, answer.leader), (ServerId(1), ServerId(9), ServerId(1)));
        world.act(1, |election, now, out| election.on_notification(now, ServerId(9), &stranger, out));
        assert_eq!(world.queue.len(), 0, "two that are strangers to each other would never end");
        world.now += STRANGER_MICROS;
        world.act(1, |election, now, out| election.on_notification(now, ServerId(9), &stranger, out));
        assert_eq!(world.queue.len(), 1);
    }
}
