//! What two servers agree on before they talk: TLS or not, and a login.

use super::handshake::{self, HANDSHAKE};
use super::login::{Judge, Supplicant};
use super::{Channel, SetupError};
use crate::records::HostPort;
use crate::server::tls::{TlsPort, check_names, plain_names};
use rustls::pki_types::CertificateDer;
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The same complaint is said once in this time.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// What this server asks of the others, and shows them.
#[derive(Default)]
pub struct Security {
    pub tls: Option<QuorumTls>,
    pub sasl: Option<QuorumSasl>,
    /// What was said last, and when.
    told: Mutex<Option<(Instant, String)>>,
}

/// TLS on both ports.
pub struct QuorumTls {
    pub port: Arc<TlsPort>,
    /// `sslQuorum`: what is dialed is dialed by TLS.
    pub dials: bool,
    /// `portUnification`: what comes without it is taken too.
    pub takes_plain: bool,
    /// The hosts of the members, by which a certificate with a `*` in its name is recognised.
    pub hosts: BTreeSet<String>,
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
        Security { tls, sasl, told: Mutex::default() }
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
            if check_names(&certificate, &[ip.to_string()]).is_err() && !tls.comes_from(&certificate, ip).await {
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
        let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<SetupError>()) else { return };
        let text = error.to_string();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_ref().is_none_or(|(at, last)| *last != text || at.elapsed() >= TELL_AGAIN) {
            tracing::warn!("{text}");
            *told = Some((Instant::now(), text));
        }
    }
}

impl QuorumTls {
    /// Whether one of the certificate's names, or a member's host that it covers, has this address. Names are looked up,
    /// never an address: whoever owns the address says what name it has.
    async fn comes_from(&self, certificate: &CertificateDer<'static>, ip: IpAddr) -> bool {
        let covered = self.hosts.iter().filter(|host| check_names(certificate, &[(*host).clone()]).is_ok());
        let mut names: BTreeSet<String> = plain_names(certificate).into_iter().collect();
        names.extend(covered.cloned());
        for name in names {
            if let Ok(mut found) = tokio::net::lookup_host((name.as_str(), 0)).await
                && found.any(|addr| addr.ip().to_canonical() == ip)
            {
                return true;
            }
        }
        false
    }
}

/// The hosts in `addrs`.
pub fn hosts<'a>(addrs: impl IntoIterator<Item = &'a HostPort>) -> BTreeSet<String> {
    addrs.into_iter().map(|addr| addr.host.clone()).collect()
}
