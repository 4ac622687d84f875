//! Who a client is: what auth packets, SASL tokens and certificates make of a connection.
//!
//! Ids belong to the connection, not to the session: whoever renews a session says again who it is. They are bounded,
//! since every write carries them all.
//!
//! ZooKeeper: `AuthenticationProvider` and its kinds, `AuthenticationHelper`, `ZooKeeperServer.processSasl`.

use super::Database;
use super::io::Now;
use super::outbox::OutboxState;
use super::sasl::{Answer, SaslUsers};
use crate::jute::{DecodeError, Record};
use crate::records::{AuthRequest, ErrorCode, Id, ReplyHeader, Request, RequestAcl, Zxid, parent_and_name, perms};
use crate::tree::acl::{self, AclRules, DigestAlgorithm, digest_ids_equal};
use std::sync::Arc;

/// Ids of one connection at most.
const IDS_MAX: usize = 256;
/// Bytes of the ids of one connection at most.
const ID_BYTES_MAX: usize = 64 << 10;

/// Who clients are, and what they may do. The default is Apache's.
#[derive(Clone, Debug, Default)]
pub struct AuthSettings {
    /// What ids mean in ACLs.
    pub acl: AclRules,
    /// How an id of scheme `digest` is made of a password.
    pub digest_algorithm: DigestAlgorithm,
    /// Whoever authenticates to this id of scheme `digest` passes every check. ZooKeeper:
    /// `DigestAuthenticationProvider.superDigest`.
    pub super_digest: Option<String>,
    /// The names that clients of this ensemble may call it by; with none, any. `None`: there is no scheme `ensemble`.
    pub ensemble: Option<Vec<String>>,
    /// Nothing but authentication is taken from a connection without an id of one of them; empty: from any.
    pub required_schemes: Vec<String>,
    /// Who may log in by SASL; `None`: SASL is not set up.
    pub sasl: Option<SaslUsers>,
    /// These users of SASL pass every check. ZooKeeper: `superUser`, `superUser.<x>`.
    pub sasl_superusers: Vec<String>,
    /// A connection stays when its login by SASL has failed, unless SASL is required.
    pub allow_failed_sasl: bool,
    /// Writes that their ACLs forbid are refused by the server that reads them, without a transaction.
    pub eager_acl_check: bool,
}

impl AuthSettings {
    /// Whether requests are taken from a connection with `ids`.
    pub(super) fn admits(&self, ids: &[Id]) -> bool {
        self.required_schemes.is_empty() || ids.iter().any(|id| self.required_schemes.contains(&id.scheme))
    }

    fn requires_sasl(&self) -> bool {
        self.required_schemes.iter().any(|scheme| scheme == "sasl")
    }
}

/// The ids of a client whose certificate has been verified; `subject` is its distinguished name as RFC 2253 has it.
/// ZooKeeper: `X509AuthenticationProvider.handleAuthentication`.
pub fn certificate_ids(subject: &str, settings: &AuthSettings) -> Vec<Id> {
    let is_super = settings.acl.x509_superuser.as_deref() == Some(subject);
    is_super.then(|| Id::new("super", subject)).into_iter().chain([Id::new("x509", subject)]).collect()
}

/// What has become of an authentication. Names are the client's words: whoever prints them makes them harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthNote {
    Accepted {
        scheme: String,
    },
    Refused {
        scheme: String,
    },
    /// By SASL.
    LoggedIn {
        user: String,
        is_super: bool,
    },
    /// By SASL; the connection is closed, or stays as nobody.
    LoginFailed {
        reason: String,
        stays: bool,
    },
}

/// Notes of one connection that the host has not taken: what is beyond is left out.
const NOTES_MAX: usize = 16;
/// Characters of a name in a note.
const NAME_CHARS_MAX: usize = 64;

fn short(name: &str) -> String {
    name.chars().take(NAME_CHARS_MAX).collect()
}

/// What becomes of a connection that has said who it is.
enum Verdict {
    /// It has these ids, too.
    Accepted(Vec<Id>),
    /// It is told so, and closed.
    Refused,
    /// It is closed, so that the client looks for another ensemble.
    Elsewhere,
}

impl Verdict {
    fn of(request: &AuthRequest, settings: &AuthSettings) -> Verdict {
        let (scheme, auth) = (request.scheme.as_deref(), request.auth.as_deref());
        match (scheme, &settings.ensemble) {
            // The address is known; nothing in the packet changes it.
            (Some("ip"), _) => Verdict::Accepted(Vec::new()),
            (Some("digest"), _) if settings.acl.digest => auth.map_or(Verdict::Refused, |auth| {
                // Not hashed before it is known that there is room for it: the user is a part of the id.
                if auth.len() > ID_BYTES_MAX {
                    return Verdict::Refused;
                }
                let id = settings.digest_algorithm.id(&String::from_utf8_lossy(auth));
                let is_super = settings.super_digest.as_ref().is_some_and(|digest| digest_ids_equal(digest, &id));
                let superuser = is_super.then(|| Id::new("super", ""));
                Verdict::Accepted(superuser.into_iter().chain([Id::new("digest", &id)]).collect())
            }),
            (Some("ensemble"), Some(names)) => {
                let name = String::from_utf8_lossy(auth.unwrap_or_default());
                let is_ours = name.is_empty() || names.is_empty() || names.iter().any(|own| *own == name);
                if is_ours { Verdict::Accepted(Vec::new()) } else { Verdict::Elsewhere }
            }
            // An x509 id comes by the certificate alone, a sasl id by SASL.
            _ => Verdict::Refused,
        }
    }
}

impl OutboxState {
    fn note(&mut self, note: AuthNote) {
        if self.auth_notes.len() < NOTES_MAX {
            self.auth_notes.push(note);
        }
    }

    /// Adds those of `ids` that are new; false, and nothing is changed, if they are too many.
    pub(super) fn add_ids(&mut self, ids: impl IntoIterator<Item = Id>) -> bool {
        let mut all = self.auth.to_vec();
        for id in ids {
            if !all.contains(&id) {
                all.push(id);
            }
        }
        let bytes: usize = all.iter().map(|id| id.scheme.len() + id.id.len()).sum();
        if all.len() > IDS_MAX || bytes > ID_BYTES_MAX {
            return false;
        }
        if all.len() > self.auth.len() {
            self.auth = Arc::from(all);
        }
        true
    }
}

impl Database {
    /// An auth or sasl packet. Handled when read, ahead of what waits: its answer may overtake others, and requests
    /// that were read before keep the ids that they had. It tells no zxid.
    pub(super) fn authenticate(
        &self,
        state: &mut OutboxState,
        xid: i32,
        request: Option<Result<Request, DecodeError>>,
        now: Now,
    ) {
        let header = |err| ReplyHeader { xid, zxid: Zxid::ZERO, err };
        match request {
            Some(Ok(Request::Auth(auth))) => {
                let (is_accepted, is_elsewhere) = match Verdict::of(&auth, &self.settings.auth) {
                    Verdict::Accepted(ids) => (state.add_ids(ids), false),
                    Verdict::Refused => (false, false),
                    Verdict::Elsewhere => (false, true),
                };
                let scheme = short(auth.scheme.as_deref().unwrap_or_default());
                state.note(if is_accepted { AuthNote::Accepted { scheme } } else { AuthNote::Refused { scheme } });
                if is_elsewhere {
                    return state.close();
                }
                let err = if is_accepted { 0 } else { ErrorCode::AuthFailed.code() };
                state.reply(header(err), now.micros, now.micros, |_| {});
                if !is_accepted {
                    state.close();
                }
            }
            Some(Ok(Request::Sasl(sasl))) => {
                let token = self.log_in(state, &sasl.token.unwrap_or_default());
                let err = token.as_ref().err().map_or(0, |error| error.code());
                // Also a failure has a body, as Apache's.
                let token = token.unwrap_or_default();
                state.reply_with_body(header(err), now.micros, now.micros, |out| token.write(out));
                if err != 0 {
                    state.close();
                }
            }
            _ => state.close(),
        }
    }

    /// One step of a login by SASL: the token to answer with, or the error to close the connection with.
    fn log_in(&self, state: &mut OutboxState, token: &[u8]) -> Result<Option<Vec<u8>>, ErrorCode> {
        let settings = &self.settings.auth;
        let Some(users) = &settings.sasl else {
            return Ok(None); // As a server of Apache's without SASL answers.
        };
        let answer = match &mut state.sasl {
            Some(exchange) => exchange.step(token, users),
            None => Err(super::sasl::SaslError::OutOfTurn),
        };
        let reason = match answer {
            Ok(Answer::Challenge(token)) => return Ok(Some(token)),
            Ok(Answer::Done { user, token }) => {
                let is_super = settings.sasl_superusers.contains(&user);
                let superuser = is_super.then(|| Id::new("super", ""));
                if state.add_ids([Id::new("sasl", &user)].into_iter().chain(superuser)) {
                    state.note(AuthNote::LoggedIn { user: short(&user), is_super });
                    return Ok(Some(token));
                }
                "its ids are too many".to_owned()
            }
            Err(error) => error.to_string(),
        };
        let end = match settings.requires_sasl() {
            true => Err(ErrorCode::SessionClosedRequireAuth),
            false if settings.allow_failed_sasl => Ok(None),
            false => Err(ErrorCode::AuthFailed),
        };
        state.note(AuthNote::LoginFailed { reason, stays: end.is_ok() });
        end
    }

    /// Why a write of a client with `ids` is refused at once, by the tree as it is: its list of permissions is none, or
    /// it lacks one. Whatever else may be wrong with it is for the leader to say.
    /// ZooKeeper: `ZooKeeperServer.authWriteRequest`.
    pub(super) fn eager_refusal(&self, request: &Request, ids: &[Id]) -> Option<ErrorCode> {
        if !self.settings.auth.eager_acl_check {
            return None;
        }
        fn parent(path: &Option<String>) -> Option<&str> {
            parent_and_name(path.as_deref()?).map(|(parent, _)| parent)
        }
        let nothing: Option<&Option<Vec<RequestAcl>>> = None;
        let (path, perm, list) = match request {
            Request::Create(body) | Request::Create2(body) => (parent(&body.path), perms::CREATE, Some(&body.acl)),
            Request::Delete(body) => (parent(&body.path), perms::DELETE, nothing),
            Request::SetData(body) => (body.path.as_deref(), perms::WRITE, nothing),
            Request::SetAcl(body) => (body.path.as_deref(), perms::ADMIN, Some(&body.acl)),
            _ => return None,
        };
        let (path, rules) = (path.filter(|path| !path.contains('\0'))?, &self.settings.auth.acl);
        if let Some(list) = list
            && let Err(error) = acl::fix_up(rules, list.as_deref(), ids)
        {
            return Some(error);
        }
        let node = self.tree.get(path)?;
        (!acl::allows(rules, node.acl(), ids, perm)).then_some(ErrorCode::NoAuth)
    }
}
