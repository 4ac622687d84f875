//! What two servers agree on before they talk: TLS or not, and a login.

use super::handshake::{self, HANDSHAKE};
use super::login::{Judge, Supplicant};
use super::{Channel, SetupError};
use crate::server::tls::{TlsPort, check_names, plain_names};
use rustls::pki_types::CertificateDer;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The same complaint is said once in this time.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// So many different ones are said in this time; more would come from somebody who knocks on purpose.
const TOLD_MAX: usize = 32;

/// What this server asks of the others, and shows them.
#[derive(Default)]
pub struct Security {
    pub tls: Option<QuorumTls>,
    pub sasl: Option<QuorumSasl>,
    /// The hosts of the members, by which a certificate with a `*` in its name is recognised.
    hosts: Mutex<BTreeSet<String>>,
    /// What was said lately, and when.
    told: Mutex<BTreeMap<String, Instant>>,
}

/// TLS on both ports.
pub struct QuorumTls {
    pub port: Arc<TlsPort>,
    /// `sslQuorum`: what is dialed is dialed by TLS.
    pub dials: bool,
    /// `portUnification`: what comes without it is taken too.
    pub takes_plain: bool,
}

/// Logins on both ports.
pub struct QuorumSasl {
    /// Who may log in here.
    pub judge: Judge,
    /// As whom this server logs in elsewhere; `None`: it does not.
    pub supplicant: Option<Supplicant>,
}

impl Security {
    pub fn new(tls: Option<QuorumTls>, sasl: Option<QuorumSasl>) -> Security {
        Security { tls, sasl, hosts: Mutex::default(), told: Mutex::default() }
    }

    /// From now on these are the members' hosts.
    pub fn set_hosts(&self, hosts: BTreeSet<String>) {
        *lock(&self.hosts) = hosts;
    }

    /// Whether a connection can be used as it comes.
    pub fn is_plain(&self) -> bool {
        self.tls.is_none() && self.sasl.is_none()
    }

    /// The accepting side, before anything else is read.
    pub async fn accept(&self, mut channel: Channel) -> io::Result<Channel> {
        let Some(tls) = &self.tls else { return Ok(channel) };
        if tls.takes_plain {
            let limit = Duration::from_millis(tls.port.detection_timeout_ms().into());
            let first = tokio::time::timeout(limit, channel.read_more()).await;
            if first.map_err(|_| io::ErrorKind::TimedOut)?? == 0 || channel.read.first() != Some(&HANDSHAKE) {
                return Ok(channel);
            }
        }
        let session = tls.port.session().map_err(io::Error::other)?;
        let certificate = handshake::shake(&mut channel, session, &tls.port).await?;
        if let (true, Some(certificate)) = (tls.port.verifies_dialing(), certificate) {
            let ip = channel.peer_ip()?;
            if check_names(&certificate, &[ip.to_string()]).is_err() && !self.comes_from(&certificate, ip).await {
                let reason = format!("its certificate does not name {ip}, nor a host with this address");
                return Err(SetupError::of(
                    &channel,
                    format!(
                        "{reason}: add it as a subject alternative name, or set ssl.quorum.hostnameVerification=false"
                    ),
                ));
            }
        }
        Ok(channel)
    }

    /// The dialing side, before anything is said; `host` is what was dialed.
    pub async fn dial(&self, mut channel: Channel, host: &str) -> io::Result<Channel> {
        let Some(tls) = self.tls.as_ref().filter(|tls| tls.dials) else { return Ok(channel) };
        let session = tls.port.dial(host).map_err(io::Error::other)?;
        let certificate = handshake::shake(&mut channel, session, &tls.port).await?;
        if tls.port.verifies_dialed() {
            let hosts = [channel.peer_ip()?.to_string(), host.to_owned()];
            let verdict = certificate.map(|certificate| check_names(&certificate, &hosts));
            verdict
                .unwrap_or(Err(rustls::Error::NoCertificatesPresented))
                .map_err(|error| SetupError::of(&channel, crate::server::tls::reason_between_servers(&error)))?;
        }
        Ok(channel)
    }

    /// Proves who we are to the server that was dialed, if we have to.
    pub async fn log_in(&self, channel: &mut Channel) -> io::Result<()> {
        match self.sasl.as_ref().and_then(|sasl| sasl.supplicant.as_ref()) {
            Some(supplicant) => supplicant.log_in(channel).await,
            None => Ok(()),
        }
    }

    /// Lets the other side prove who it is, if it wants to or has to.
    pub async fn authenticate(&self, channel: &mut Channel) -> io::Result<()> {
        match &self.sasl {
            Some(sasl) => sasl.judge.authenticate(channel).await,
            None => Ok(()),
        }
    }

    /// Says in the log why a connection was not made, if that is for those who configure it.
    pub fn tell(&self, error: &io::Error) {
        if let Some(error) = setup_error(error) {
            // By the host: who dials comes from another port each time.
            let key = format!("{:?}: {}", error.addr.map(|addr| addr.ip()), error.reason);
            self.tell_once(key, error);
        }
    }

    /// Says in the log that something was not done, and why: `error` alone, if that says all.
    pub fn tell_failure(&self, what: impl Display, error: &io::Error) {
        match setup_error(error) {
            Some(_) => self.tell(error),
            None => {
                let text = format!("{what}: {error}");
                self.tell_once(text.clone(), text);
            }
        }
    }

    /// Says in the log that somebody has connected, and has not said who it is in time.
    pub fn tell_silence(&self, at: &str, from: io::Result<IpAddr>) {
        let from = from.map_or_else(|_| "?".to_owned(), |ip| ip.to_string());
        let text = format!("a connection from {from} to {at} is closed: no greeting has come to its end in time");
        self.tell_once(text.clone(), text);
    }

    fn tell_once(&self, key: String, text: impl Display) {
        if self.is_news(key, Instant::now()) {
            tracing::warn!("{text}");
        }
    }

    fn is_news(&self, key: String, now: Instant) -> bool {
        let mut told = lock(&self.told);
        told.retain(|_, at| now.saturating_duration_since(*at) < TELL_AGAIN);
        if told.contains_key(&key) || told.len() >= TOLD_MAX {
            return false;
        }
        told.insert(key, now);
        true
    }

    /// Whether one of the certificate's names, or a member's host that it covers, has this address. Names are looked up,
    /// never an address: whoever owns the address says what name it has.
    async fn comes_from(&self, certificate: &CertificateDer<'static>, ip: IpAddr) -> bool {
        for name in self.names(certificate) {
            if let Ok(mut found) = tokio::net::lookup_host((name.as_str(), 0)).await
                && found.any(|addr| addr.ip().to_canonical() == ip)
            {
                return true;
            }
        }
        false
    }

    /// The names to be looked up for a certificate.
    fn names(&self, certificate: &CertificateDer<'static>) -> BTreeSet<String> {
        let hosts = lock(&self.hosts);
        let covered = hosts.iter().filter(|host| check_names(certificate, &[(*host).clone()]).is_ok());
        covered.cloned().chain(plain_names(certificate)).collect()
    }
}

fn setup_error(error: &io::Error) -> Option<&SetupError> {
    error.get_ref()?.downcast_ref::<SetupError>()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;

    /// Those who join by a reconfiguration too.
    #[test]
    fn a_certificate_with_a_wildcard_is_looked_up_by_the_hosts_of_todays_members() {
        let certificate = CertificateDer::from_pem_file("tests/testdata/tls/wildcard.pem").unwrap();
        let security = Security::default();
        let names = |hosts: &[&str]| {
            security.set_hosts(hosts.iter().map(|&host| host.to_owned()).collect());
            security.names(&certificate).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(names(&["zk1.ensemble.test", "elsewhere.test"]), ["plain.test", "zk1.ensemble.test"]);
        let grown = names(&["zk1.ensemble.test", "zk2.ensemble.test"]);
        assert_eq!(grown, ["plain.test", "zk1.ensemble.test", "zk2.ensemble.test"]);
        assert_eq!(names(&[]), ["plain.test"]);
    }

    #[test]
    fn a_complaint_is_said_again_after_a_while_and_a_flood_of_them_is_not() {
        let security = Security::default();
        let began = Instant::now();
        let is_news = |key: &str, after| security.is_news(key.to_owned(), began + after);
        assert!(is_news("a", Duration::ZERO) && is_news("b", Duration::ZERO));
        assert!(!is_news("a", TELL_AGAIN / 2) && !is_news("b", TELL_AGAIN / 2));
        assert!(is_news("a", TELL_AGAIN));
        let said = (0..1000).filter(|n| is_news(&n.to_string(), TELL_AGAIN)).count();
        assert_eq!(said, TOLD_MAX - 1);
        assert!(is_news("b", TELL_AGAIN * 2));
    }
}
