//! Servers among each other: their two ports, how long they wait for one another, how they prove who they are.
//!
//! ZooKeeper: `QuorumPeerConfig`, `QuorumCnxManager`, `QuorumAuth`.

use super::ConfigError;
use super::tls::TlsKeys;
use super::value::Value;
use crate::peer::{CatchUpRules, HAND_OVER_AT, RoleRules};
use crate::zab::RECENT_COUNT;

/// What a server needs for the others of its ensemble. Apache's defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct QuorumConfig {
    /// `cnxTimeout`: of a connect to an election port.
    pub connect_timeout_ms: u32,
    /// `quorumCnxnTimeoutMs`: how long an accepted election connection may take to say who it is; `None`: `syncLimit`.
    pub initial_timeout_ms: Option<u32>,
    /// `electionPortBindRetry`; 0: for ever.
    pub bind_retries: u32,
    /// `quorumListenOnAllIPs`.
    pub listen_on_all_ips: bool,
    /// `multiAddress.enabled`: a server may have several addresses, all of which it tells.
    pub multi_address: bool,
    /// `multiAddress.reachabilityCheckTimeoutMs`: of one address, before the next is tried beside it.
    pub reachability_timeout_ms: u32,
    pub tls: QuorumTlsConfig,
    pub sasl: QuorumSaslConfig,
    /// `leaderServes` and what observers do.
    pub roles: RoleRules,
    /// `commitLogCount`, `forceSnapshotSync`, `snapshotSizeFactor`, `leader.maxConcurrentSnapSyncs` and
    /// `leader.maxConcurrentDiffSyncs`.
    pub catch_up: CatchUpRules,
    /// `observerMasterPort`: where a follower takes observers, and where observers go; the same on all servers.
    pub observer_master_port: Option<u16>,
}

/// Logins on the quorum and the election port: DIGEST-MD5, with the users of Java's login configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct QuorumSaslConfig {
    /// `quorum.auth.enableSasl`.
    pub enabled: bool,
    /// `quorum.auth.learnerRequireSasl`: this server logs in where it dials.
    pub learner_requires: bool,
    /// `quorum.auth.serverRequireSasl`: who dials this server must log in.
    pub server_requires: bool,
    /// `quorum.auth.learner.saslLoginContext`: the section that says as whom.
    pub learner_section: String,
    /// `quorum.auth.server.saslLoginContext`: the section that says who may.
    pub server_section: String,
}

impl Default for QuorumSaslConfig {
    fn default() -> Self {
        QuorumSaslConfig {
            enabled: false,
            learner_requires: false,
            server_requires: false,
            learner_section: "QuorumLearner".to_owned(),
            server_section: "QuorumServer".to_owned(),
        }
    }
}

impl QuorumSaslConfig {
    /// What contradicts itself, in ZooKeeper's words.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let QuorumSaslConfig { enabled, learner_requires, server_requires, .. } = *self;
        match (enabled, learner_requires, server_requires) {
            (false, true, _) => {
                Some("quorum.auth.enableSasl is disabled, so cannot enable quorum.auth.learnerRequireSasl")
            }
            (false, _, true) => {
                Some("quorum.auth.enableSasl is disabled, so cannot enable quorum.auth.serverRequireSasl")
            }
            (true, false, true) => {
                Some("quorum.auth.learnerRequireSasl is disabled, so cannot enable quorum.auth.serverRequireSasl")
            }
            _ => None,
        }
    }
}

/// TLS on the quorum and the election port.
#[derive(Clone, Debug, PartialEq)]
pub struct QuorumTlsConfig {
    /// `sslQuorum`: what this server dials, it dials by TLS, and nothing else is taken.
    pub enabled: bool,
    /// `portUnification`: both are taken, told apart by the first byte.
    pub port_unification: bool,
    /// `ssl.quorum.*`.
    pub keys: TlsKeys,
}

impl QuorumTlsConfig {
    /// Whether any connection may be TLS.
    pub fn is_used(&self) -> bool {
        self.enabled || self.port_unification
    }
}

impl Default for QuorumTlsConfig {
    fn default() -> Self {
        let keys = TlsKeys { prefix: "ssl.quorum.", client_hostname_verification: true, ..TlsKeys::default() };
        QuorumTlsConfig { enabled: false, port_unification: false, keys }
    }
}

impl Default for QuorumConfig {
    fn default() -> Self {
        QuorumConfig {
            connect_timeout_ms: 5000,
            initial_timeout_ms: None,
            bind_retries: 3,
            listen_on_all_ips: false,
            multi_address: false,
            reachability_timeout_ms: 1000,
            tls: QuorumTlsConfig::default(),
            sasl: QuorumSaslConfig::default(),
            roles: RoleRules::default(),
            catch_up: CatchUpRules::default(),
            observer_master_port: None,
        }
    }
}

impl QuorumConfig {
    /// What the core has to know.
    pub fn role_rules(&self) -> RoleRules {
        RoleRules { observer_masters: self.observer_master_port.is_some(), ..self.roles }
    }

    /// Takes the key if it is one of this area.
    pub(super) fn take(&mut self, value: &Value<'_>) -> Result<bool, ConfigError> {
        match value.key {
            "cnxTimeout" => self.connect_timeout_ms = value.number()?,
            "quorumCnxnTimeoutMs" => self.initial_timeout_ms = value.number_or_none()?,
            "electionPortBindRetry" => self.bind_retries = value.number()?,
            "quorumListenOnAllIPs" => self.listen_on_all_ips = value.boolean()?,
            "multiAddress.enabled" => self.multi_address = value.boolean()?,
            "multiAddress.reachabilityCheckTimeoutMs" => self.reachability_timeout_ms = value.number()?.max(1),
            // 0 is Apache's word for its default.
            "connectToLearnerMasterLimit" => {
                self.roles.connect_limit = Some(value.number()?).filter(|ticks| *ticks > 0)
            }
            "leaderServes" => self.roles.leader_serves = value.text != "no",
            "syncEnabled" | "observer.syncEnabled" => self.roles.observer_logs = value.boolean()?,
            "observer.reconnectDelayMs" => self.roles.observer_reconnect_delay_ms = value.number()?,
            "observer.election.DelayMs" => self.roles.observer_delay_ms = value.number()?,
            "observerMasterPort" => self.observer_master_port = Some(value.port()?).filter(|port| *port != 0),
            // Nothing is kept for observers alone.
            "observerMaster.sizeLimit" => drop(value.number()?),
            // Addresses are always tried one beside the other.
            "multiAddress.reachabilityCheckEnabled" => drop(value.boolean()?),
            // Nothing that servers say to each other may wait for more of it.
            "leader.nodelay" | "follower.nodelay" => drop(value.boolean()?),
            "zxidRolloverAt" => self.roles.hand_over_at = value.number()?.clamp(1, HAND_OVER_AT),
            "commitLogCount" => self.catch_up.recent_max = (value.number()? as usize).max(RECENT_COUNT),
            "forceSnapshotSync" => self.catch_up.snapshots_only = value.boolean()?,
            "snapshotSizeFactor" => self.catch_up.log_size_factor = size_factor(value)?,
            "leader.maxConcurrentSnapSyncs" => self.catch_up.snapshots_max = at_a_time(value)?,
            "leader.maxConcurrentDiffSyncs" => self.catch_up.diffs_max = at_a_time(value)?,
            "sslQuorum" => self.tls.enabled = value.boolean()?,
            "portUnification" => self.tls.port_unification = value.boolean()?,
            // Certificates are always reloaded.
            "sslQuorumReloadCertFiles" => drop(value.boolean()?),
            "quorum.auth.enableSasl" => self.sasl.enabled = value.boolean()?,
            "quorum.auth.learnerRequireSasl" => self.sasl.learner_requires = value.boolean()?,
            "quorum.auth.serverRequireSasl" => self.sasl.server_requires = value.boolean()?,
            "quorum.auth.learner.saslLoginContext" => value.text.clone_into(&mut self.sasl.learner_section),
            "quorum.auth.server.saslLoginContext" => value.text.clone_into(&mut self.sasl.server_section),
            // Of Kerberos, which the login file asks for and is refused there; and of threads that nobody needs.
            "quorum.auth.kerberos.servicePrincipal" => {}
            "quorum.cnxn.threads.size" => drop(value.number()?),
            key => match key.strip_prefix("ssl.quorum.") {
                Some(key) => return self.tls.keys.take(key, value),
                None => return Ok(false),
            },
        }
        Ok(true)
    }
}

/// Negative: the log on disk is never used.
fn size_factor(value: &Value<'_>) -> Result<Option<f64>, ConfigError> {
    let parsed = value.text.parse::<f64>().ok().filter(|factor| factor.is_finite());
    let factor = parsed.ok_or_else(|| value.invalid("a number is needed; a negative one turns it off"))?;
    Ok((factor >= 0.0).then_some(factor))
}

fn at_a_time(value: &Value<'_>) -> Result<usize, ConfigError> {
    match value.number()? {
        0 => Err(value.invalid("at least 1 is needed, or no observer could ever be synchronised")),
        n => Ok(n as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(&format!("dataDir=/data\n{text}")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_keys_of_observers_and_of_leaders_have_their_place() {
        let config = parse(
            "leaderServes=no\nsyncEnabled=false\nzookeeper.observer.election.DelayMs=5\n\
             observer.reconnectDelayMs=6\nobserverMasterPort=2191\nobserverMaster.sizeLimit=33554432\n\
             connectToLearnerMasterLimit=8\n",
        )
        .unwrap();
        let expected = RoleRules {
            leader_serves: false,
            observer_logs: false,
            observer_delay_ms: 5,
            observer_reconnect_delay_ms: 6,
            observer_masters: true,
            connect_limit: Some(8),
            ..RoleRules::default()
        };
        assert_eq!((config.quorum.role_rules(), config.unknown), (expected, vec![]));
        assert_eq!(config.quorum.observer_master_port, Some(2191));
        assert_eq!(parse("observerMasterPort=0\n").unwrap().quorum.role_rules(), RoleRules::default());
    }

    #[test]
    fn each_key_has_its_place_and_none_is_unknown() {
        let config = parse(
            "zookeeper.cnxTimeout=1\nquorumCnxnTimeoutMs=2\nelectionPortBindRetry=0\nquorumListenOnAllIPs=true\n\
             multiAddress.enabled=true\nmultiAddress.reachabilityCheckTimeoutMs=7\n\
             multiAddress.reachabilityCheckEnabled=false\nleader.nodelay=false\ncommitLogCount=700\n\
             zookeeper.forceSnapshotSync=true\nzookeeper.snapshotSizeFactor=0.5\n\
             zookeeper.leader.maxConcurrentSnapSyncs=2\nzookeeper.leader.maxConcurrentDiffSyncs=3\n",
        )
        .unwrap();
        let expected = QuorumConfig {
            connect_timeout_ms: 1,
            initial_timeout_ms: Some(2),
            bind_retries: 0,
            listen_on_all_ips: true,
            multi_address: true,
            reachability_timeout_ms: 7,
            catch_up: CatchUpRules {
                recent_max: 700,
                snapshots_only: true,
                log_size_factor: Some(0.5),
                snapshots_max: 2,
                diffs_max: 3,
            },
            ..QuorumConfig::default()
        };
        assert_eq!((config.quorum, config.unknown), (expected, vec![]));
        let tls = parse(
            "sslQuorum=true\nportUnification=true\nssl.quorum.keyStore.location=/k\nssl.quorum.trustStore.password=p\n\
             ssl.quorum.hostnameVerification=false\nssl.quorum.clientAuth=want\nsslQuorumReloadCertFiles=true\n",
        );
        let QuorumTlsConfig { enabled, port_unification, keys } = tls.unwrap().quorum.tls;
        assert!(enabled && port_unification && !keys.hostname_verification && keys.client_hostname_verification);
        assert_eq!((keys.prefix, keys.trust_store.password.as_str()), ("ssl.quorum.", "p"));
        let sasl = parse(
            "quorum.auth.enableSasl=true\nquorum.auth.learnerRequireSasl=true\nquorum.auth.serverRequireSasl=true\n\
             quorum.auth.learner.saslLoginContext=L\nquorum.auth.server.saslLoginContext=S\n\
             quorum.cnxn.threads.size=20\nquorum.auth.kerberos.servicePrincipal=zkquorum/host\n",
        );
        let config = sasl.unwrap();
        let (learner_section, server_section) = ("L".to_owned(), "S".to_owned());
        let (enabled, learner_requires, server_requires) = (true, true, true);
        let expected = QuorumSaslConfig { enabled, learner_requires, server_requires, learner_section, server_section };
        assert_eq!((config.quorum.sasl, config.unknown), (expected, vec![]));
        assert_eq!(parse("quorumCnxnTimeoutMs=-1\n").unwrap().quorum, QuorumConfig::default());
    }

    #[test]
    fn how_learners_catch_up_is_read_as_apache_reads_it() {
        let catch_up = |keys: &str| parse(keys).unwrap().quorum.catch_up;
        assert_eq!(catch_up("commitLogCount=7\n").recent_max, 500, "never fewer");
        assert_eq!(catch_up("snapshotSizeFactor=-1\n").log_size_factor, None);
        assert_eq!(catch_up("snapshotSizeFactor=0\n").log_size_factor, Some(0.0));
        for line in ["snapshotSizeFactor=NaN", "snapshotSizeFactor=a", "leader.maxConcurrentSnapSyncs=0"] {
            assert!(parse(line).unwrap_err().contains(" is needed"), "{line}");
        }
    }

    #[test]
    fn a_login_that_is_required_must_be_possible() {
        for text in [
            "quorum.auth.learnerRequireSasl=true\n",
            "quorum.auth.serverRequireSasl=true\n",
            "quorum.auth.enableSasl=true\nquorum.auth.serverRequireSasl=true\n",
        ] {
            assert!(parse(text).unwrap_err().contains("is disabled, so cannot enable"), "{text}");
        }
    }
}
