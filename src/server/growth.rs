//! An [`Ensemble`] grows and shrinks while its clients go on, and its leader lets another one lead: as an operator does it.
//!
//! Who joins is started with the list of the moment and itself, follows the leader without a vote until it has all there
//! is, and is let in by a reconfiguration then; so a quorum of the new list has the history before it counts. Who leaves is
//! taken out of the list first, and stopped when somebody else leads. What is easy to get wrong: an answer that does not
//! come says nothing. The change is asked for again until it is done, which does no harm, and who may be a member is not
//! ended.
//!
//! ZooKeeper: the Administrator's Guide to dynamic reconfiguration, "Adding servers", "Removing servers".

use super::ensemble::{Ensemble, EnsembleError};
use super::operator::Answer;
use super::{HandOverError, Role};
use crate::records::{Configuration, ErrorCode, PeerType, ReconfigRequest, ServerAddr, ServerId};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How long one server is waited for before another may be asked.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);
/// How long nothing is asked after a refusal that may be over soon, unless a member becomes something else.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

impl Ensemble {
    /// Starts one more server and makes it a member that votes, or an observer; its id, which no other has had. Returns
    /// when it serves and knows that it is one. If it fails, there is no such server, unless the error is
    /// [`EnsembleError::Undecided`].
    pub fn add(&self, role: PeerType, timeout: Duration) -> Result<ServerId, EnsembleError> {
        let deadline = Instant::now() + timeout;
        let mut next_id = self.next_id.lock().unwrap_or_else(PoisonError::into_inner);
        let id = ServerId(*next_id);
        let mut member = self.new_member(role).map_err(|source| EnsembleError::Start { id, source })?;
        let joining = format!("server.{id}={}", member.line());
        let mut servers = self.lines();
        servers.insert(id, member.line());
        // Without a version: what the ensemble has agreed on is newer.
        member.list = Arc::new(Configuration { servers, ..Configuration::default() });
        self.lock().insert(id, member);
        *next_id += 1;

        let change = ReconfigRequest { joining: Some(joining), leaving: None, new_members: None, current_config: -1 };
        let done = self
            .start_one(id)
            .and_then(|()| self.await_service(id, deadline))
            .and_then(|()| self.change_list(&format!("server {id} is a member"), &change, deadline));
        match done {
            Ok(()) | Err(EnsembleError::Undecided { .. }) => {
                if let Some(member) = self.lock().get_mut(&id) {
                    member.is_listed = true;
                }
                done.and_then(|()| self.await_membership(id, deadline)).map(|()| id)
            }
            Err(error) => {
                self.forget(id);
                Err(error)
            }
        }
    }

    /// Takes a member out of the list, and stops it once somebody else leads; it may be down, or the leader itself. Its
    /// directory stays. [`EnsembleError::TimedOut`] says what did not come: agreement, and nothing has changed; or the next
    /// leader, and it is gone all the same.
    pub fn remove(&self, id: ServerId, timeout: Duration) -> Result<(), EnsembleError> {
        let deadline = Instant::now() + timeout;
        let _one_change = self.next_id.lock().unwrap_or_else(PoisonError::into_inner);
        self.known(id)?;
        if self.voters() == [id] {
            return Err(EnsembleError::Refused(format!("server {id} is the last one that votes: stop the ensemble")));
        }
        let leaving = Some(id.to_string());
        let change = ReconfigRequest { joining: None, leaving, new_members: None, current_config: -1 };
        self.change_list(&format!("server {id} is no member any more"), &change, deadline)?;
        if let Some(member) = self.lock().get_mut(&id) {
            member.is_listed = false; // So it counts as leader no more.
        }
        let led = self.wait_for("leader of those who stay", left(deadline), || self.leader());
        self.forget(id);
        led.map(drop)
    }

    /// Lets another member lead than the leader of the moment; who.
    pub fn hand_over(&self, timeout: Duration) -> Result<ServerId, EnsembleError> {
        let deadline = Instant::now() + timeout;
        let leader = self.wait_for_leader(timeout)?;
        self.hand_over_from(leader, left(deadline))
    }

    /// Lets another member lead instead of this one, which must be the leader; who. See [`Server::hand_over`].
    ///
    /// [`Server::hand_over`]: super::Server::hand_over
    pub fn hand_over_from(&self, id: ServerId, timeout: Duration) -> Result<ServerId, EnsembleError> {
        let deadline = Instant::now() + timeout;
        let epoch = self.status(id).epoch;
        self.member(id)?.hand_over(timeout).map_err(|error| match error {
            HandOverError::TimedOut(_) => self.timed_out("hand-over: it leads on", timeout),
            error => EnsembleError::Refused(format!("server {id}: {error}")),
        })?;
        let led = || self.leader().filter(|&leader| leader != id || self.status(id).epoch > epoch);
        match self.wait_for("other leader", left(deadline), led)? {
            again if again == id => Err(EnsembleError::Refused(format!("server {id} was elected again"))),
            leader => Ok(leader),
        }
    }

    /// The lines of the members of the moment.
    fn lines(&self) -> BTreeMap<ServerId, ServerAddr> {
        let members = self.lock();
        members.iter().filter(|(_, member)| member.is_listed).map(|(&id, member)| (id, member.line())).collect()
    }

    /// Stops the server, and there is no such member any more.
    fn forget(&self, id: ServerId) {
        let server = self.lock().remove(&id).and_then(|member| member.server);
        if let Some(server) = server {
            server.stop();
        }
    }

    fn await_service(&self, id: ServerId, deadline: Instant) -> Result<(), EnsembleError> {
        let serves = || {
            let status = self.status(id);
            let reason = status.failure.unwrap_or_else(|| "it was stopped".to_owned());
            let ended = || Err(EnsembleError::Refused(format!("server {id} has ended: {reason}")));
            if status.role == Role::Ended { Some(ended()) } else { status.serving.then_some(Ok(())) }
        };
        self.wait_for(&format!("service of server {id}"), left(deadline), serves)?
    }

    /// The leader's answer says that a quorum has agreed; now the server itself.
    fn await_membership(&self, id: ServerId, deadline: Instant) -> Result<(), EnsembleError> {
        let server = self.member(id)?;
        loop {
            // In the list that it was started with it is too; that one has no version.
            if server.shown_list().is_some_and(|list| list.version > 0 && list.servers.contains_key(&id)) {
                return self.await_service(id, deadline);
            }
            if !self.pause_until(deadline) {
                return Err(self.timed_out(&format!("membership that server {id} knows of"), left(deadline)));
            }
        }
    }

    /// Asks for a change of the list until it is done; `said` is what it makes true.
    fn change_list(&self, said: &str, change: &ReconfigRequest, deadline: Instant) -> Result<(), EnsembleError> {
        let began = Instant::now();
        let mut undecided = None;
        let mut refusal = String::new();
        loop {
            if let Some(addr) = self.leader().and_then(|leader| self.client_addr(leader).ok()) {
                match self.operator.reconfig(addr, change, left(deadline).min(ATTEMPT_LIMIT)) {
                    Answer::Done => return Ok(()),
                    // A joiner that is not as far as it seemed, a member that is away, another change.
                    Answer::Refused(code @ (ErrorCode::NewConfigNoQuorum | ErrorCode::ReconfigInProgress)) => {
                        refusal = format!(" ({code:?})");
                    }
                    Answer::Refused(code) if undecided.is_none() => {
                        return Err(EnsembleError::Refused(format!("the ensemble refuses the change: {code:?}")));
                    }
                    Answer::Refused(code) => refusal = format!(" ({code:?})"),
                    Answer::NotAsked(error) => refusal = format!(" ({error})"),
                    Answer::Undecided(error) => undecided = Some(error),
                }
            }
            if !self.pause_until(deadline) {
                return Err(match undecided {
                    Some(error) => EnsembleError::Undecided { change: said.to_owned(), reason: error.to_string() },
                    None => self.timed_out(&format!("agreement that {said}{refusal}"), began.elapsed()),
                });
            }
        }
    }

    /// Waits for a moment; false: there is no time left, or the ensemble ends.
    fn pause_until(&self, deadline: Instant) -> bool {
        let seen = self.signal.count();
        self.signal.wait(seen, deadline.min(Instant::now() + AGAIN_AFTER));
        !self.is_ending() && Instant::now() < deadline
    }

    fn timed_out(&self, what: &str, waited: Duration) -> EnsembleError {
        EnsembleError::TimedOut { what: what.to_owned(), waited, status: self.describe() }
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
