//! Who may do what: ACLs, authentication, super users.
//!
//! ZooKeeper: `QuorumPeerConfig`, `ProviderRegistry`, `AuthenticationHelper`, `ServerCnxnFactory.configureSaslLogin`.

use super::super::jaas;
use super::quorum::QuorumSaslConfig;
use super::value::Value;
use super::{At, ConfigError};
use crate::peer::SaslUsers;
use crate::peer::auth::AuthSettings;
use crate::tree::acl::{AclRules, DigestAlgorithm};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The section of a login configuration unless `sasl.serverconfig` names another.
const JAAS_SECTION: &str = "Server";
const DIGEST_MODULE: &str = "org.apache.zookeeper.server.auth.DigestLoginModule";

/// A password: a configuration is printed in errors and tests, and this is not.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// Who may do what: ACLs, authentication, super users. Apache's defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthConfig {
    /// `skipACL`.
    pub skip_acl: bool,
    /// `enableEagerACLCheck`.
    pub eager_acl_check: bool,
    /// `DigestAuthenticationProvider.enabled`.
    pub digest: bool,
    /// `DigestAuthenticationProvider.digestAlg`.
    pub digest_algorithm: DigestAlgorithm,
    /// `DigestAuthenticationProvider.superDigest`: `user:base64(sha1(user:password))` of who passes every ACL.
    pub super_digest: Option<String>,
    /// `X509AuthenticationProvider.superUser`: the distinguished name of who passes every ACL.
    pub x509_superuser: Option<String>,
    /// The schemes of `authProvider.<n>`.
    pub providers: BTreeSet<&'static str>,
    /// Classes of `authProvider.<n>` that there are none of here; one warning each.
    pub unknown_providers: Vec<String>,
    /// `ensembleAuthName`; empty: any name.
    pub ensemble_names: Vec<String>,
    /// `enforce.auth.enabled`.
    pub enforce: bool,
    /// `enforce.auth.schemes`.
    pub enforced_schemes: Vec<String>,
    /// `sessionRequireClientSASLAuth`.
    pub require_sasl: bool,
    /// `allowSaslFailedClients`.
    pub allow_failed_sasl: bool,
    /// `superUser`, `superUser.<x>`: users of SASL who pass every ACL.
    pub sasl_superusers: Vec<String>,
    /// `letAnySaslUserDoX`.
    pub any_sasl_user: Option<String>,
    /// `java.security.auth.login.config`: Java's login configuration with the users of SASL.
    pub jaas_file: Option<PathBuf>,
    /// `sasl.serverconfig`: its section; `Server` unless set.
    pub jaas_section: Option<String>,
    /// `saslUsersFile`: the users of SASL, a line `user:password` each.
    pub users_file: Option<PathBuf>,
    /// `SASLAuthenticationProvider.superPassword`: instead of that of the user `super` in the file.
    pub super_password: Option<Password>,
    /// `fips-mode=true` turns SASL by DIGEST-MD5 off.
    pub fips: bool,
}

impl Default for AuthConfig {
    fn default() -> Self {
        AuthConfig {
            skip_acl: false,
            eager_acl_check: false,
            digest: true,
            digest_algorithm: DigestAlgorithm::default(),
            super_digest: None,
            x509_superuser: None,
            providers: BTreeSet::new(),
            unknown_providers: Vec::new(),
            ensemble_names: Vec::new(),
            enforce: false,
            enforced_schemes: Vec::new(),
            require_sasl: false,
            allow_failed_sasl: false,
            sasl_superusers: Vec::new(),
            any_sasl_user: None,
            jaas_file: None,
            jaas_section: None,
            users_file: None,
            super_password: None,
            fips: false,
        }
    }
}

impl AuthConfig {
    /// Takes the key if it is one of this area.
    pub(super) fn take(&mut self, value: &Value<'_>) -> Result<bool, ConfigError> {
        let text = || Some(value.text.to_owned());
        let list =
            || value.text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect();
        match value.key {
            "skipACL" => {
                self.skip_acl = match value.text {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(value.invalid("yes or no is needed")),
                }
            }
            "enableEagerACLCheck" => self.eager_acl_check = value.boolean()?,
            "DigestAuthenticationProvider.enabled" => self.digest = value.boolean()?,
            "DigestAuthenticationProvider.digestAlg" => {
                let algorithm = DigestAlgorithm::parse(value.text);
                self.digest_algorithm = algorithm.ok_or_else(|| {
                    value.invalid("a hash that Java and this server know is needed, such as SHA1 or SHA-256")
                })?;
            }
            "DigestAuthenticationProvider.superDigest" => self.super_digest = text(),
            "X509AuthenticationProvider.superUser" => self.x509_superuser = text(),
            "ensembleAuthName" => self.ensemble_names = list(),
            "enforce.auth.enabled" => self.enforce = value.boolean()?,
            "enforce.auth.schemes" => self.enforced_schemes = list(),
            "sessionRequireClientSASLAuth" => self.require_sasl = value.boolean()?,
            "allowSaslFailedClients" => self.allow_failed_sasl = value.boolean()?,
            "letAnySaslUserDoX" => self.any_sasl_user = text(),
            "java.security.auth.login.config" => self.jaas_file = Some(PathBuf::from(value.text)),
            "sasl.serverconfig" | "LoginContextName" => self.jaas_section = text(),
            "saslUsersFile" => self.users_file = Some(PathBuf::from(value.text)),
            "SASLAuthenticationProvider.superPassword" => self.super_password = text().map(Password),
            "fips-mode" => self.fips = value.boolean()?,
            key if key == "superUser" || key.starts_with("superUser.") => self.sasl_superusers.extend(text()),
            key if key.starts_with("authProvider.") => match scheme_of(value.text) {
                Some(scheme) => _ = self.providers.insert(scheme),
                None => self.unknown_providers.push(value.text.to_owned()),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The schemes of which a connection needs one; empty: none is needed.
    fn required_schemes(&self) -> Vec<String> {
        match (self.require_sasl, self.enforce) {
            (true, _) => vec!["sasl".to_owned()],
            (false, true) => self.enforced_schemes.clone(),
            (false, false) => Vec::new(),
        }
    }

    /// What contradicts itself, or would lock everybody out. ZooKeeper: `AuthenticationHelper`.
    pub(super) fn check(&self, at: &At) -> Result<(), ConfigError> {
        let refuse = |reason: String| Err(ConfigError::Refused { at: at.clone(), reason });
        if self.enforce && !self.require_sasl && self.enforced_schemes.is_empty() {
            return refuse("enforce.auth.enabled is true, enforce.auth.schemes must be configured".to_owned());
        }
        for scheme in self.required_schemes() {
            let is_there = match scheme.as_str() {
                "ip" => true,
                "digest" => self.has_digest(),
                "x509" | "sasl" => self.providers.contains(scheme.as_str()),
                _ => false,
            };
            if !is_there {
                return refuse(format!(
                    "Authentication scheme {scheme} is not available: set authProvider.{scheme}=org.apache.zookeeper.server\
                     .auth.… for it, or do not require it"
                ));
            }
        }
        if self.jaas_file.is_some() && self.users_file.is_some() && self.jaas_section.is_some() {
            return refuse("users of SASL are in saslUsersFile and by sasl.serverconfig: keep one of them".to_owned());
        }
        Ok(())
    }

    fn has_digest(&self) -> bool {
        self.digest || self.providers.contains("digest")
    }

    /// The rules that the database is given. Reads the files with the users.
    pub fn settings(&self, is_ensemble: bool) -> Result<AuthSettings, ConfigError> {
        Ok(AuthSettings {
            acl: AclRules {
                skip: self.skip_acl,
                digest: self.has_digest(),
                x509: self.providers.contains("x509"),
                x509_superuser: self.x509_superuser.clone(),
                sasl: self.providers.contains("sasl"),
                any_sasl_user: self.any_sasl_user.clone(),
            },
            digest_algorithm: self.digest_algorithm,
            super_digest: self.super_digest.clone(),
            ensemble: self.providers.contains("ensemble").then(|| self.ensemble_names.clone()),
            required_schemes: self.required_schemes(),
            sasl: if self.fips { None } else { self.sasl_users()? },
            sasl_superusers: self.sasl_superusers.clone(),
            allow_failed_sasl: self.allow_failed_sasl,
            // A standalone server of Apache's has no stage for it.
            eager_acl_check: self.eager_acl_check && is_ensemble,
        })
    }

    /// Who may log in by SASL; `None`: it is not set up.
    fn sasl_users(&self) -> Result<Option<SaslUsers>, ConfigError> {
        let users = match (&self.users_file, &self.jaas_file) {
            (Some(path), _) => Some(read_users(path)?),
            (None, Some(path)) => read_jaas(path, self.jaas_section.as_deref().unwrap_or(JAAS_SECTION))?,
            (None, None) => None,
        };
        Ok(users.map(|mut users| {
            if let Some(Password(password)) = &self.super_password {
                users.set_password("super", password);
            }
            users
        }))
    }
}

/// The scheme that a class of Apache's stands for.
fn scheme_of(class: &str) -> Option<&'static str> {
    Some(match class.strip_prefix("org.apache.zookeeper.server.auth.")? {
        "SASLAuthenticationProvider" => "sasl",
        "X509AuthenticationProvider" => "x509",
        "IPAuthenticationProvider" => "ip",
        "DigestAuthenticationProvider" => "digest",
        "EnsembleAuthenticationProvider" => "ensemble",
        _ => return None,
    })
}

fn refuse_file<T>(path: &Path, line: Option<usize>, reason: String) -> Result<T, ConfigError> {
    Err(ConfigError::Refused { at: At { file: Some(path.to_owned()), line }, reason })
}

/// The users of a file of lines `user:password`; `#` begins a comment, at a line's beginning only. Blanks around the user
/// do not count, those of the password do.
fn read_users(path: &Path) -> Result<SaslUsers, ConfigError> {
    let text = super::reading::read(path)?;
    let mut users = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once(':').map(|(user, password)| (user.trim(), password)) {
            Some((user, password)) if !user.is_empty() && !password.is_empty() => {
                users.push((user.to_owned(), password.to_owned()));
            }
            // Not the line itself: there may be a password in it.
            _ => return refuse_file(path, Some(index + 1), "a line user:password is needed".to_owned()),
        }
    }
    Ok(users.into_iter().collect())
}

/// The users of a section of a login configuration; `None` if it has no such section.
fn read_jaas(path: &Path, name: &str) -> Result<Option<SaslUsers>, ConfigError> {
    Ok(read_section(path, name)?.map(users_of))
}

/// The options of a section of a login configuration for DIGEST-MD5; `None` if it has no such section.
fn read_section(path: &Path, name: &str) -> Result<Option<Vec<(String, String)>>, ConfigError> {
    let sections = match jaas::parse(&super::reading::read(path)?) {
        Ok(sections) => sections,
        Err(error) => return refuse_file(path, Some(error.line), error.to_string()),
    };
    // Java keeps the last of equal names.
    let Some(section) = sections.into_iter().rfind(|section| section.name == name) else {
        return Ok(None);
    };
    if let Some(other) = section.modules.iter().find(|module| module.class != DIGEST_MODULE) {
        let class = &other.class;
        return refuse_file(path, None, format!("{name}: {class} is not supported, only {DIGEST_MODULE} is"));
    }
    Ok(Some(section.modules.into_iter().flat_map(|module| module.options).collect()))
}

fn users_of(options: Vec<(String, String)>) -> SaslUsers {
    let users = options.into_iter();
    users.filter_map(|(key, password)| Some((key.strip_prefix("user_")?.to_owned(), password))).collect()
}

/// The servers that may log in at this one, and the name and password by which it logs in at others.
#[derive(Debug, PartialEq)]
pub struct QuorumLogins {
    pub users: SaslUsers,
    pub user: String,
    pub password: Password,
}

impl AuthConfig {
    /// Reads the sections for servers among each other.
    pub fn quorum_logins(&self, sasl: &QuorumSaslConfig) -> Result<QuorumLogins, ConfigError> {
        let Some(path) = &self.jaas_file else {
            let remedy = "quorum.auth.enableSasl=true needs Java's login configuration, with the sections QuorumServer \
                          and QuorumLearner: a line java.security.auth.login.config=FILE here, or \
                          SERVER_JVMFLAGS=-Djava.security.auth.login.config=FILE in the environment";
            return Err(ConfigError::Missing { at: At::default(), key: "java.security.auth.login.config", remedy });
        };
        let section = |name: &str| match read_section(path, name)? {
            Some(options) => Ok(options),
            None => refuse_file(path, None, format!("there is no section {name}, which quorum.auth.enableSasl needs")),
        };
        let users = users_of(section(&sasl.server_section)?);
        let options = section(&sasl.learner_section)?;
        let option = |key: &str| options.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        match (option("username"), option("password")) {
            (Some(user), Some(password)) => Ok(QuorumLogins { users, user, password: Password(password) }),
            _ => refuse_file(path, None, format!("{}: username and password are needed", sasl.learner_section)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(&format!("dataDir=/data\n{text}"))
    }

    fn settings(text: &str) -> AuthSettings {
        parse(text).unwrap().auth.settings(true).unwrap()
    }

    fn error(text: &str) -> String {
        match parse(text) {
            Ok(config) => config.auth.settings(true).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        }
    }

    const PROVIDERS: &str = "org.apache.zookeeper.server.auth";

    #[test]
    fn each_key_has_its_place_and_none_is_unknown() {
        let config = parse(&format!(
            "skipACL=yes\nenableEagerACLCheck=true\nDigestAuthenticationProvider.enabled=false\n\
             zookeeper.DigestAuthenticationProvider.digestAlg=SHA-256\nX509AuthenticationProvider.superUser=CN=root\n\
             authProvider.1={PROVIDERS}.SASLAuthenticationProvider\nauthProvider.x509={PROVIDERS}.X509AuthenticationProvider\n\
             authProvider.e={PROVIDERS}.EnsembleAuthenticationProvider\nauthProvider.9=com.example.Own\n\
             ensembleAuthName=one, two\nenforce.auth.enabled=true\nenforce.auth.schemes=sasl, x509\n\
             allowSaslFailedClients=true\nsuperUser=bob\nsuperUser.2=eve\nletAnySaslUserDoX=anyone\n"
        ))
        .unwrap();
        assert_eq!(
            (&config.unknown, &config.auth.unknown_providers[..]),
            (&vec![], &["com.example.Own".to_owned()][..])
        );
        let settings = config.auth.settings(true).unwrap();
        let acl = AclRules {
            skip: true,
            digest: false,
            x509: true,
            x509_superuser: Some("CN=root".into()),
            sasl: true,
            any_sasl_user: Some("anyone".into()),
        };
        assert_eq!(settings.acl, acl);
        assert_eq!(settings.digest_algorithm, DigestAlgorithm::Sha256);
        assert_eq!(settings.ensemble.as_deref(), Some(&["one".to_owned(), "two".to_owned()][..]));
        assert_eq!(settings.required_schemes, ["sasl", "x509"]);
        assert_eq!(settings.sasl_superusers, ["bob", "eve"]);
        assert!(settings.allow_failed_sasl && settings.eager_acl_check && settings.sasl.is_none());
        assert!(!config.auth.settings(false).unwrap().eager_acl_check, "not where there is nobody to ask");
    }

    #[test]
    fn a_plain_file_gets_apaches_defaults() {
        let settings = settings("");
        assert_eq!(settings.acl, AclRules::default());
        assert_eq!(settings.digest_algorithm, DigestAlgorithm::Sha1);
        assert!(settings.sasl.is_none() && settings.ensemble.is_none() && settings.required_schemes.is_empty());
        assert!(!settings.allow_failed_sasl && !settings.eager_acl_check);
    }

    #[test]
    fn a_digest_provider_that_is_named_is_there_also_if_it_is_not_enabled() {
        let off = "DigestAuthenticationProvider.enabled=false\n";
        assert!(!settings(off).acl.digest);
        assert!(settings(&format!("{off}authProvider.1={PROVIDERS}.DigestAuthenticationProvider\n")).acl.digest);
    }

    #[test]
    fn required_schemes_must_be_there() {
        let sasl = format!("authProvider.1={PROVIDERS}.SASLAuthenticationProvider\n");
        assert_eq!(settings(&format!("{sasl}sessionRequireClientSASLAuth=true\n")).required_schemes, ["sasl"]);
        assert_eq!(settings("enforce.auth.schemes=digest\n").required_schemes, [""; 0]);
        assert_eq!(settings("enforce.auth.enabled=true\nenforce.auth.schemes=digest\n").required_schemes, ["digest"]);
        assert!(error("sessionRequireClientSASLAuth=true\n").contains("scheme sasl is not available"));
        assert!(error("enforce.auth.enabled=true\n").contains("enforce.auth.schemes must be configured"));
        assert!(error("enforce.auth.enabled=true\nenforce.auth.schemes=world\n").contains("scheme world"));
        assert!(error("skipACL=true\n").contains("yes or no"));
        assert!(error("DigestAuthenticationProvider.digestAlg=ROT13\n").contains("SHA-256"));
    }

    #[test]
    fn users_come_from_javas_login_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("jaas.conf");
        let text = "Server { org.apache.zookeeper.server.auth.DigestLoginModule required user_super=\"a\" user_bob=b debug=x; };\n\
                    Other { org.apache.zookeeper.server.auth.DigestLoginModule required user_eve=\"c\"; };\n\
                    Kerberos { com.sun.security.auth.module.Krb5LoginModule required; };\n";
        std::fs::write(&file, text).unwrap();
        let key = format!("java.security.auth.login.config={}\n", file.display());
        let users = |pairs: &[(&str, &str)]| -> Option<SaslUsers> {
            Some(pairs.iter().map(|(user, password)| ((*user).to_owned(), (*password).to_owned())).collect())
        };
        assert_eq!(settings(&key).sasl, users(&[("super", "a"), ("bob", "b")]));
        let super_password = format!("{key}SASLAuthenticationProvider.superPassword=z\n");
        assert_eq!(settings(&super_password).sasl, users(&[("super", "z"), ("bob", "b")]));
        let printed = format!("{:?}", parse("SASLAuthenticationProvider.superPassword=secret\n").unwrap());
        assert!(printed.contains("super_password") && !printed.contains("secret"));
        assert_eq!(settings(&format!("{key}zookeeper.sasl.serverconfig=Other\n")).sasl, users(&[("eve", "c")]));
        assert_eq!(settings(&format!("{key}sasl.serverconfig=None\n")).sasl, None);
        assert_eq!(settings(&format!("{key}fips-mode=true\n")).sasl, None);
        assert!(error(&format!("{key}sasl.serverconfig=Kerberos\n")).contains("Krb5LoginModule is not supported"));
        std::fs::write(&file, "Server {\n").unwrap();
        assert!(error(&key).contains("jaas.conf:2: expected a login module"), "{}", error(&key));
        std::fs::remove_file(&file).unwrap();
        assert!(error(&key).starts_with("cannot read"));
    }

    #[test]
    fn servers_log_in_by_sections_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("jaas.conf");
        let module = "org.apache.zookeeper.server.auth.DigestLoginModule required";
        let key = format!("quorum.auth.enableSasl=true\njava.security.auth.login.config={}\n", file.display());
        let logins = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let config = parse(&key).unwrap();
            config.auth.quorum_logins(&config.quorum.sasl).map_err(|error| error.to_string())
        };
        let server = format!("QuorumServer {{ {module} user_test=\"pw\"; }};\n");
        let learner = format!("QuorumLearner {{ {module} username=\"test\" password=\"pw\"; }};\n");
        let both = logins(&format!("{server}{learner}")).unwrap();
        let users = [("test".to_owned(), "pw".to_owned())].into_iter().collect();
        assert_eq!(both, QuorumLogins { users, user: "test".to_owned(), password: Password("pw".to_owned()) });
        assert!(!format!("{both:?}").contains("pw"));
        assert!(logins(&server).unwrap_err().contains("no section QuorumLearner"));
        assert!(logins(&learner).unwrap_err().contains("no section QuorumServer"));
        let nobody = format!("{server}QuorumLearner {{ {module} username=\"test\"; }};\n");
        assert!(logins(&nobody).unwrap_err().contains("username and password"));
        let missing = parse("quorum.auth.enableSasl=true\n").unwrap();
        let error = missing.auth.quorum_logins(&missing.quorum.sasl).unwrap_err().to_string();
        assert!(error.contains("java.security.auth.login.config is not set"), "{error}");
    }

    #[test]
    fn users_come_from_a_file_of_lines() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("users");
        std::fs::write(&file, "# who\n\nbob: se:cret \n eve :x\n").unwrap();
        let key = format!("saslUsersFile={}\n", file.display());
        let expected =
            [("bob", " se:cret "), ("eve", "x")].map(|(user, password)| (user.to_owned(), password.to_owned()));
        assert_eq!(settings(&key).sasl, Some(expected.into_iter().collect()));
        std::fs::write(&file, "bob:x\nsecret\n").unwrap();
        assert!(error(&key).contains("users:2: a line user:password is needed") && !error(&key).contains("secret"));
    }
}
