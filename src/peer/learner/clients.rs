//! A learner's clients: their writes and syncs go to the leader, and so does the question whether a session lives.
//!
//! Answers of the leader have no ids: they come in the order of the questions. ZooKeeper: `FollowerRequestProcessor`,
//! `Learner.request`, `Learner.validateSession`.

use super::super::core::{Core, Leave};
use super::super::io::{ClientRequest, ConnId, DbOp, Effects, LinkId};
use super::super::observer_master::Asked;
use super::Learner;
use crate::records::{ForwardedBody, ForwardedRequest, PathOnly, QuorumPacket, Request, SessionId, Zxid};

#[derive(Debug)]
pub(super) enum SyncWaiter {
    /// A client that asked for it by this xid.
    Client(ConnId, i32),
    /// A client that comes back to a session that only this server knows, with its timeout in ms: what its former
    /// connection had asked for is proposed once the sync is answered.
    Renewal(ConnId, SessionId, i32),
    /// An observer of ours, for a client of its own.
    Observer(LinkId),
}

/// Who waits for the leader to say whether a session lives.
#[derive(Debug)]
pub(super) enum RenewalWaiter {
    Client(ConnId),
    /// An observer of ours, for a client of its own.
    Observer(LinkId),
}

impl Learner {
    pub(super) fn forward(&mut self, requests: Vec<ClientRequest>, out: &mut Effects) {
        let Some(link) = self.link else { return };
        for ClientRequest { conn, session, xid, body, auth } in requests {
            if matches!(body, ForwardedBody::Request(Request::Sync(_))) {
                self.syncs.push_back(SyncWaiter::Client(conn, xid));
            }
            out.send(link, QuorumPacket::Request(ForwardedRequest { session, cxid: xid, body, auth: auth.to_vec() }));
        }
    }

    /// Asks the leader whether a session lives; the answer comes in the same stream.
    pub fn revalidate(&mut self, conn: ConnId, session: SessionId, timeout_ms: i32, out: &mut Effects) {
        if let Some(link) = self.link {
            self.observers.on_own(session);
            self.renewals.push_back((RenewalWaiter::Client(conn), session));
            out.send(link, QuorumPacket::Revalidate { session, timeout_ms });
        }
    }

    /// A client comes back to a session that only this server knows.
    pub fn renew_local(&mut self, conn: ConnId, session: SessionId, timeout_ms: i32, out: &mut Effects) {
        let Some(link) = self.link else { return };
        self.syncs.push_back(SyncWaiter::Renewal(conn, session, timeout_ms));
        let body = ForwardedBody::Request(Request::Sync(PathOnly { path: Some("/".to_owned()) }));
        out.send(link, QuorumPacket::Request(ForwardedRequest { session, cxid: 0, body, auth: Vec::new() }));
    }

    pub(super) fn on_revalidated(&mut self, session: SessionId, valid: bool, out: &mut Effects) -> Result<(), Leave> {
        let asked = self.renewals.iter().position(|(_, waiting)| *waiting == session);
        match asked.and_then(|index| self.renewals.remove(index)) {
            Some((RenewalWaiter::Client(conn), session)) => {
                out.db.push(DbOp::SessionRenewed { conn, session, valid, after: self.last_received });
            }
            Some((RenewalWaiter::Observer(link), session)) => {
                out.send(link, QuorumPacket::Revalidated { session, valid });
            }
            None => {}
        }
        Ok(())
    }

    /// Passes on what an observer of ours asks for.
    pub(super) fn ask_for_observer(&mut self, from: LinkId, asked: Option<Asked>, out: &mut Effects) {
        let (Some(asked), Some(link)) = (asked, self.link) else { return };
        match asked {
            Asked::Request(request) => {
                if matches!(request.body, ForwardedBody::Request(Request::Sync(_))) {
                    self.syncs.push_back(SyncWaiter::Observer(from));
                }
                out.send(link, QuorumPacket::Request(request));
            }
            Asked::Revalidate { session, timeout_ms } => {
                self.renewals.push_back((RenewalWaiter::Observer(from), session));
                out.send(link, QuorumPacket::Revalidate { session, timeout_ms });
            }
        }
    }

    pub(super) fn on_synced(&mut self, core: &Core, out: &mut Effects) {
        match self.syncs.pop_front() {
            Some(SyncWaiter::Client(conn, xid)) => out.db.push(DbOp::SyncDone { conn, xid }),
            Some(SyncWaiter::Renewal(conn, session, timeout_ms)) if core.locals.lives(session) => {
                let after = self.last_received;
                out.db.push(DbOp::OpenLocalSession { conn, session, timeout_ms, after });
            }
            // It has ended meanwhile, or become one of the ensemble.
            Some(SyncWaiter::Renewal(conn, session, timeout_ms)) => self.revalidate(conn, session, timeout_ms, out),
            Some(SyncWaiter::Observer(link)) => out.send(link, QuorumPacket::Sync { zxid: Zxid::ZERO }),
            None => {}
        }
    }
}
