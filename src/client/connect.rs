//! Links: when one is opened, what is said first on it, and what it means that one breaks.
//!
//! A connection counts as connected when the server has the session *and* has accepted every `add_auth`; the watches
//! are set again behind them, before any request, so no answer can show a change that a watch has missed.

use super::events::{Event, Failure, Lost, State};
use super::requests::Kind;
use super::session::{Known, Link, Session};
use crate::jute::Record;
use crate::records::{ConnectRequest, ConnectResponse, PASSWORD_LEN, SessionId, Zxid, write_frame};

/// Bounds of the time for one attempt to connect, in ms.
const ATTEMPT_MS: std::ops::RangeInclusive<u64> = 100..=5_000;

impl Session {
    /// Asks the host to connect to the next server.
    pub(super) fn connect(&mut self, now_ms: u64) {
        let server = self.servers.advance();
        let attempt_ms = (self.timeout() / self.servers.count() as u64).clamp(*ATTEMPT_MS.start(), *ATTEMPT_MS.end());
        self.link = Link::Opening { until: now_ms + attempt_ms };
        self.link_number += 1;
        self.events.push_back(Event::Connect { server });
    }

    /// The link that the session asked for is open.
    pub fn link_up(&mut self, now_ms: u64) {
        let Link::Opening { until } = self.link else {
            return; // The session has given it up.
        };
        self.link = Link::Handshake { until };
        self.heard_ms = now_ms;
        self.received.clear();
        let (session, password) = match &self.known {
            Some(known) => (known.id, known.password.clone()),
            None => (SessionId(0), vec![0; PASSWORD_LEN]),
        };
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: self.last_zxid,
            timeout_ms: self.wanted_timeout_ms,
            session,
            password: Some(password),
            read_only: Some(self.read_only),
        };
        write_frame(&mut self.handshake, |out| request.write(out));
    }

    /// The link could not be opened, or is gone.
    pub fn link_down(&mut self, now_ms: u64, why: &str) {
        match self.link {
            Link::Waiting { .. } | Link::Over => {}
            _ => self.on_link_lost(now_ms, why),
        }
    }

    /// The session gives the link up.
    pub(super) fn break_link(&mut self, now_ms: u64, why: &str) {
        self.disconnect(why);
        self.on_link_lost(now_ms, why);
    }

    pub(super) fn disconnect(&mut self, why: &str) {
        self.events.push_back(Event::Disconnect { reason: why.to_owned() });
    }

    fn on_link_lost(&mut self, now_ms: u64, why: &str) {
        if self.closing.is_some() {
            return self.finish(State::Closed);
        }
        let was_up = self.link == Link::Up;
        self.forget_link();
        self.note(format!("server {}: {why}", self.servers.current()));
        if was_up {
            self.state = State::Suspended;
            self.events.push_back(Event::State(State::Suspended));
            self.keep_what_can_wait(now_ms);
        }
        match self.servers.pause() {
            0 => self.connect(now_ms),
            pause_ms => self.link = Link::Waiting { until: now_ms + pause_ms },
        }
    }

    /// Drops what belongs to the link itself.
    pub(super) fn forget_link(&mut self) {
        self.link_number += 1;
        self.handshake.clear();
        self.handshake_sent = 0;
        self.auths_waiting.clear();
        self.watches.on_link_lost();
    }

    /// The link is lost with requests on it. Reads and syncs, and whatever had not left, wait for the next one in their
    /// order; a write that was sent fails.
    fn keep_what_can_wait(&mut self, now_ms: u64) {
        let until = now_ms + self.timeout();
        let (events, mut deadline_ms) = (&mut self.events, u64::MAX);
        self.requests.retain(|entry, is_sent| {
            entry.was_sent |= is_sent;
            match entry.kind {
                Kind::Write if is_sent => {
                    let result = Err(Failure::ConnectionLoss { sent: true });
                    events.push_back(Event::Reply { call: entry.call, zxid: Zxid::NONE, result });
                    return false;
                }
                Kind::Read | Kind::Sync | Kind::Write => {}
                Kind::Ping | Kind::Auth | Kind::RemoveWatches | Kind::Close | Kind::Done => return false,
            }
            if !entry.is_again {
                (entry.is_again, entry.deadline_ms) = (true, until);
            }
            deadline_ms = deadline_ms.min(entry.deadline_ms);
            true
        });
        for (_, call_deadline_ms) in self.auths.iter_mut().flat_map(|auth| &mut auth.calls) {
            *call_deadline_ms = (*call_deadline_ms).min(until);
            deadline_ms = deadline_ms.min(*call_deadline_ms);
        }
        self.deadline_ms = deadline_ms;
    }

    /// The answer to the connect request.
    pub(super) fn on_connect_response(&mut self, now_ms: u64, frame: &[u8]) -> Result<(), String> {
        let response = ConnectResponse::from_bytes(frame).map_err(|error| format!("no connect response: {error}"))?;
        if response.timeout_ms <= 0 {
            return self.on_refused(now_ms);
        }
        match &self.known {
            Some(known) if known.id != response.session => {
                return Err(format!("session {} is renewed as {}", known.id, response.session));
            }
            _ => self.known = Some(Known { id: response.session, password: response.password }),
        }
        self.timeout_ms = Some(response.timeout_ms);
        self.is_read_only = response.read_only == Some(true);
        let Link::Handshake { until } = self.link else { return Ok(()) };
        self.link = Link::Authenticating { until };
        for index in 0..self.auths.len() {
            self.write_auth(index);
        }
        if self.closing.is_none() {
            self.watches.restore(self.last_zxid, &mut self.handshake);
        }
        if self.auths_waiting.is_empty() {
            self.on_up(now_ms);
        }
        Ok(())
    }

    /// The server has the session and knows who we are: the calls that wait go out.
    fn on_up(&mut self, now_ms: u64) {
        self.link = Link::Up;
        (self.heard_ms, self.sent_ms) = (now_ms, now_ms);
        self.deadline_ms = u64::MAX;
        if self.closing.is_some() {
            return self.push_close(now_ms);
        }
        self.state = if self.is_read_only { State::ConnectedReadOnly } else { State::Connected };
        self.events.push_back(Event::State(self.state));
    }

    /// The session is over, says the server: a new one is opened.
    fn on_refused(&mut self, now_ms: u64) -> Result<(), String> {
        if self.known.take().is_none() {
            return Err("a new session is refused".to_owned());
        }
        self.disconnect("the session has expired");
        self.forget_link();
        (self.last_zxid, self.timeout_ms) = (Zxid::ZERO, None);
        if self.closing.is_some() {
            self.finish(State::Closed);
            return Ok(());
        }
        self.state = State::Lost;
        self.events.push_back(Event::State(State::Lost));
        self.fail_calls(|sent| Failure::SessionExpired { sent });
        self.lose_watches(Lost::SessionExpired);
        self.connect(now_ms);
        Ok(())
    }

    /// closeSession is answered.
    pub(super) fn on_closed(&mut self) {
        self.disconnect("the session is closed");
        self.finish(State::Closed);
    }

    /// A reply to an auth packet.
    pub(super) fn on_auth_reply(&mut self, now_ms: u64, err: i32) -> Result<(), String> {
        let index = self.auths_waiting.pop_front().ok_or("an answer to no add_auth")?;
        if err != 0 {
            self.disconnect("add_auth is refused");
            self.finish(State::AuthFailed);
            return Ok(());
        }
        if self.link == Link::Up && !self.requests.auth_is_done() {
            return Err("an answer to an add_auth that was not sent".to_owned());
        }
        if let Some(auth) = self.auths.get_mut(index) {
            for (call, _) in auth.calls.drain(..) {
                let result = Ok(crate::records::Response::Empty);
                self.events.push_back(Event::Reply { call, zxid: Zxid::NONE, result });
            }
        }
        if matches!(self.link, Link::Authenticating { .. }) && self.auths_waiting.is_empty() {
            self.on_up(now_ms);
        }
        Ok(())
    }

    /// The time has come that [`next_wakeup`](Self::next_wakeup) named. Bytes that have arrived are given first, or a
    /// process that was stopped for a while gives up a link that is alive.
    pub fn wakeup(&mut self, now_ms: u64) {
        if self.closing.is_some_and(|until| until <= now_ms) {
            self.disconnect("the server has not answered closeSession");
            return self.finish(State::Closed);
        }
        match self.link {
            Link::Waiting { until } if until <= now_ms => self.connect(now_ms),
            Link::Opening { until } | Link::Handshake { until } | Link::Authenticating { until } if until <= now_ms => {
                self.break_link(now_ms, "no answer to the connect request in time");
            }
            Link::Up if self.silent_at() <= now_ms => {
                self.break_link(now_ms, "nothing heard for two thirds of the session timeout");
            }
            Link::Up if self.ping_at() <= now_ms => self.push_ping(now_ms),
            _ => {}
        }
        if self.deadline_ms <= now_ms && self.link != Link::Up {
            self.expire_calls(now_ms);
        }
    }

    /// When the session wants to be woken, in ms; earlier is no harm.
    pub fn next_wakeup(&self) -> Option<u64> {
        let link = match self.link {
            Link::Waiting { until }
            | Link::Opening { until }
            | Link::Handshake { until }
            | Link::Authenticating { until } => until.min(self.deadline_ms),
            Link::Up => self.silent_at().min(self.ping_at()),
            Link::Over => return None,
        };
        Some(self.closing.map_or(link, |until| until.min(link)))
    }

    fn silent_at(&self) -> u64 {
        self.heard_ms + self.timeout() * 2 / 3
    }

    fn ping_at(&self) -> u64 {
        self.sent_ms + self.timeout() / 3
    }

    /// Calls that have waited for a connection for too long fail. A sync takes the reads behind it along: without it
    /// they could show the past.
    fn expire_calls(&mut self, now_ms: u64) {
        let (events, mut deadline_ms, mut is_sync_lost) = (&mut self.events, u64::MAX, false);
        let mut fail = |call, sent| {
            let result = Err(Failure::ConnectionLoss { sent });
            events.push_back(Event::Reply { call, zxid: Zxid::NONE, result });
        };
        self.requests.retain(|entry, _| {
            if entry.deadline_ms > now_ms && !(is_sync_lost && entry.kind == Kind::Read) {
                deadline_ms = deadline_ms.min(entry.deadline_ms);
                return true;
            }
            is_sync_lost |= entry.kind == Kind::Sync;
            fail(entry.call, entry.was_sent);
            false
        });
        for auth in &mut self.auths {
            auth.calls.retain(|(call, call_deadline_ms)| {
                let is_kept = *call_deadline_ms > now_ms;
                if is_kept {
                    deadline_ms = deadline_ms.min(*call_deadline_ms);
                } else {
                    fail(*call, true);
                }
                is_kept
            });
        }
        self.deadline_ms = deadline_ms;
    }
}
