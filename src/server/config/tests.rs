//! What a `zoo.cfg` means, and what its errors say.

use super::*;

fn error(text: &str) -> String {
    Config::parse(text).unwrap_err().to_string()
}

#[test]
fn a_standalone_file_gets_apaches_defaults() {
    let config = Config::parse("tickTime=2000\ndataDir=/data\nclientPort=2181\n").unwrap();
    assert_eq!((config.my_id, config.client_addr), (None, Some("0.0.0.0:2181".parse().unwrap())));
    assert_eq!((config.min_session_timeout_ms(), config.max_session_timeout_ms()), (4000, 40_000));
    assert_eq!((config.snap_count, config.pre_alloc_kib, config.limits.max_client_cnxns), (100_000, 65_536, 60));
    assert_eq!((config.data_log_dir.as_path(), config.retain_snapshots), (Path::new("/data"), 3));
    assert!(config.four_letter_words.allows("srvr") && !config.four_letter_words.allows("ruok"));
}

#[test]
fn the_superuser_is_known_by_a_digest_that_may_hold_equals_signs() {
    let text = "dataDir=/data\nDigestAuthenticationProvider.superDigest=super:lK75jTNcA+U9vtVEw5vB51mj/w4=\n";
    let config = Config::parse(text).unwrap();
    assert_eq!(config.auth.super_digest.as_deref(), Some("super:lK75jTNcA+U9vtVEw5vB51mj/w4="));
    assert_eq!(config.unknown, []);
}

#[test]
fn an_ensemble_takes_its_id_from_myid_and_its_client_port_from_its_line() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("myid"), "2\n").unwrap();
    let text = format!(
        "dataDir={}\ninitLimit=10\nsyncLimit=5\nserver.1=a:1:2\nserver.2=127.0.0.1:3:4:participant;127.0.0.1:0\n\
         server.3=c:5:6:observer\nzookeeper.extra=1\n4lw.commands.whitelist=mntr, ruok\n",
        dir.path().display()
    );
    let config = Config::parse(&text).unwrap();
    assert_eq!((config.my_id, config.client_addr), (Some(ServerId(2)), Some("127.0.0.1:0".parse().unwrap())));
    assert_eq!(config.ensemble.voters(), BTreeSet::from([ServerId(1), ServerId(2)]));
    assert_eq!(config.unknown, [("extra".to_owned(), "1".to_owned())]);
    assert!(["mntr", "ruok", "srvr"].iter().all(|word| config.four_letter_words.allows(word)));
    assert!(config.ensemble.to_string().ends_with("server.3=c:5:6:observer\nversion=0"));
    let without_limit = text.replace("syncLimit=5\n", "");
    assert!(error(&without_limit).contains("syncLimit is not set"));
    std::fs::write(dir.path().join("myid"), "9").unwrap();
    assert!(error(&text).contains("My id 9 not in the peer list"));
    std::fs::remove_file(dir.path().join("myid")).unwrap();
    assert!(error(&text).contains("myid file is missing"));
}

#[test]
fn a_servers_own_line_says_what_it_is_whatever_peer_type_says() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("myid"), "3\n").unwrap();
    for (role, peer_type, expected) in [
        ("observer", "", PeerType::Observer),
        ("observer", "peerType=participant\n", PeerType::Observer),
        ("participant", "peerType=observer\n", PeerType::Participant),
    ] {
        let text = format!(
            "dataDir={}\ninitLimit=5\nsyncLimit=2\nserver.1=a:1:2\nserver.2=b:3:4\nserver.3=c:5:6:{role}\n{peer_type}",
            dir.path().display()
        );
        assert_eq!(Config::parse(&text).unwrap().peer_type(), expected, "{role} {peer_type}");
    }
}

#[test]
fn one_server_line_is_a_standalone_server() {
    let config = Config::parse("dataDir=/data\nserver.1=a:1:2:participant;127.0.0.1:2181\n").unwrap();
    assert_eq!((config.my_id, config.client_addr), (None, Some("127.0.0.1:2181".parse().unwrap())));
    assert!(config.ensemble.servers.is_empty());
}

#[test]
fn errors_name_the_line_and_what_to_do() {
    assert!(error("clientPort=1\n").contains("dataDir is not set"));
    assert_eq!(
        error("dataDir=/d\n\ntickTime=2s\n"),
        "configuration:3: tickTime=2s: a number that is not negative is needed"
    );
    assert!(error("dataDir=/d\nclientPortAddress=127.0.0.1\n").contains("clientPort is not"));
    assert!(error("dataDir=/d\nminSessionTimeout=9\nmaxSessionTimeout=8\n").contains("minSessionTimeout"));
    assert!(error("dataDir=/d\nsslQuorum=maybe\n").contains("true or false"));
    assert!(error("dataDir=/d\npeerType=leader\n").contains("participant or observer"));
    assert!(error("dataDir=/d\nquorumListenOnAllIPs=maybe\n").contains("true or false"));
    assert!(
        error("dataDir=/d\nserver.1=a:1:2\nserver.2=b:1:2\ngroup.1=1\n").contains("server 2 votes and is in no group")
    );
    let missing = Config::from_file(Path::new("/nonexistent/zoo.cfg")).unwrap_err();
    assert!(missing.to_string().starts_with("cannot read /nonexistent/zoo.cfg"));
}

#[test]
fn jvm_flags_count_unless_the_file_has_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("zoo.cfg");
    std::fs::write(&file, "dataDir=/d\nsnapCount=7\n").unwrap();
    let flags = "-Xmx1g -Dzookeeper.snapCount=9 -Dzookeeper.preAllocSize=64 -Dreadonlymode.enabled=true -Dother=1";
    let config = Config::from_file_with_flags(&file, flags).unwrap();
    assert_eq!((config.snap_count, config.pre_alloc_kib), (7, 64));
    assert!(config.four_letter_words.allows("isro") && config.unknown.is_empty());
}

#[test]
fn a_dynamic_file_brings_the_servers_and_their_version() {
    let dir = tempfile::tempdir().unwrap();
    let dynamic = dir.path().join("zoo.cfg.dynamic.1f");
    std::fs::write(&dynamic, "server.1=a:1:2:participant;127.0.0.1:2181\nserver.2=b:1:2:participant;2181\n").unwrap();
    std::fs::write(dir.path().join("myid"), "1").unwrap();
    let base = format!("dataDir={}\ninitLimit=5\nsyncLimit=2\n", dir.path().display());
    let text = format!("{base}dynamicConfigFile={}\n", dynamic.display());
    let config = Config::parse(&text).unwrap();
    assert_eq!((config.ensemble.servers.len(), config.ensemble.version), (2, 0x1f));
    assert!(error(&format!("{text}server.3=c:1:2\n")).contains("keep one of them"));
    std::fs::write(&dynamic, "tickTime=1\n").unwrap();
    assert!(error(&text).contains("zoo.cfg.dynamic.1f:1: tickTime=1: only server"));
}
