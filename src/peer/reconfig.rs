//! What a reconfig asks for: the configuration that it makes of the ensemble's, or why it makes none.
//!
//! Some members may join (or get another line) and some leave, or a whole list is given; only a whole list can have
//! groups and weights.
//!
//! ZooKeeper: `PrepRequestProcessor`, the case of reconfig; `QuorumServer.checkAddressDuplicate`.

use crate::records::{Configuration, ErrorCode, HostPort, ReconfigRequest, ServerAddr, ServerId, Zxid};
use crate::zab::QuorumVerifier;

/// What a change is judged by.
pub(super) struct Ensemble<'a> {
    pub committed: &'a Configuration,
    /// Another change is on its way.
    pub is_changing: bool,
    /// So many must vote: 2, or 1 with `standaloneEnabled=false`.
    pub voters_min: usize,
}

/// The configuration that the request makes of the ensemble's, at `zxid`; `has_quorum` says whether a quorum of it is
/// connected and has the history. Or the error that is the answer; the first check that fails decides.
pub(super) fn change(
    ensemble: &Ensemble<'_>,
    request: &ReconfigRequest,
    zxid: Zxid,
    has_quorum: impl FnOnce(&QuorumVerifier) -> bool,
) -> Result<Configuration, ErrorCode> {
    let committed = ensemble.committed;
    if ensemble.is_changing {
        return Err(ErrorCode::ReconfigInProgress);
    }
    if request.current_config != -1 && request.current_config != committed.version {
        return Err(ErrorCode::BadVersion);
    }
    let mut new = match &request.new_members {
        Some(members) => whole(members)?,
        None => increment(committed, request)?,
    };
    if new.voters().len() < ensemble.voters_min {
        return Err(ErrorCode::BadArguments);
    }
    if zxid.0 <= committed.version {
        return Err(ErrorCode::RuntimeInconsistency); // Nobody would take it up.
    }
    new.version = zxid.0;
    if !has_quorum(&QuorumVerifier::of(&new)) {
        return Err(ErrorCode::NewConfigNoQuorum);
    }
    Ok(new)
}

/// A whole list: the text of a dynamic file, with commas for the ends of its lines.
fn whole(members: &str) -> Result<Configuration, ErrorCode> {
    let lines: Vec<&str> = members.split([',', '\n']).collect();
    let new = Configuration::parse(&lines.join("\n")).map_err(|_| ErrorCode::BadArguments)?;
    if new.servers.is_empty() { Err(ErrorCode::BadArguments) } else { Ok(new) }
}

/// Who leaves goes first; who joins and is there already gets another line.
fn increment(committed: &Configuration, request: &ReconfigRequest) -> Result<Configuration, ErrorCode> {
    if !committed.groups.is_empty() {
        return Err(ErrorCode::BadArguments); // In which group would who joins be?
    }
    let items = |list: &'_ Option<String>| -> Vec<String> {
        let items = list.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    };
    let mut new = committed.clone();
    for id in items(&request.leaving) {
        new.servers.remove(&ServerId(id.parse().map_err(|_| ErrorCode::BadArguments)?));
    }
    for line in items(&request.joining) {
        let (id, server) = joiner(&line).ok_or(ErrorCode::BadArguments)?;
        if new.servers.iter().any(|(other, known)| *other != id && shares_address(&server, known)) {
            return Err(ErrorCode::BadArguments);
        }
        new.servers.insert(id, server);
    }
    Ok(new)
}

/// `server.N=` and its addresses; who joins must say where its clients connect.
fn joiner(line: &str) -> Option<(ServerId, ServerAddr)> {
    let (key, value) = line.split_once('=')?;
    let id = key.strip_prefix("server.")?.trim().parse().ok()?;
    let server = ServerAddr::parse(value.trim()).ok()?;
    server.client.is_some().then_some((ServerId(id), server))
}

/// Whether one of the addresses of `joining` is one of the other's. Names are compared as they are written; addresses
/// that every machine has (0.0.0.0, 127.0.0.1) are not compared. ZooKeeper: `excludedSpecialAddresses`.
fn shares_address(joining: &ServerAddr, other: &ServerAddr) -> bool {
    fn is_special(addr: &HostPort) -> bool {
        addr.host.eq_ignore_ascii_case("localhost")
            || addr.literal().is_some_and(|addr| addr.ip().is_unspecified() || addr.ip().is_loopback())
    }
    fn addrs(of: &ServerAddr) -> impl Iterator<Item = &HostPort> {
        let all = of.addrs.iter().flat_map(|addr| [&addr.quorum, &addr.election]).chain(&of.client);
        all.filter(|addr| !is_special(addr))
    }
    addrs(joining).any(|addr| addrs(other).any(|taken| taken == addr))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jute::Record;

    const THREE: &str = "server.1=a:1:2:participant;3\nserver.2=b:1:2:participant;3\n\
                         server.3=c:1:2:participant;3\nserver.4=d:1:2:observer;3\nversion=100000000";

    fn request(joining: &str, leaving: &str, new_members: Option<&str>) -> ReconfigRequest {
        let some = |text: &str| Some(text.to_owned());
        let new_members = new_members.and_then(some);
        ReconfigRequest { joining: some(joining), leaving: some(leaving), new_members, current_config: -1 }
    }

    fn changed(config: &str, request: &ReconfigRequest, voters_min: usize) -> Result<Configuration, ErrorCode> {
        let committed = Configuration::parse(config).unwrap();
        let ensemble = Ensemble { committed: &committed, is_changing: false, voters_min };
        change(&ensemble, request, Zxid(0x1_0000_0007), |_| true)
    }

    fn is_well_formed(request: &ReconfigRequest) -> bool {
        let is_fine = changed("server.1=x:1:2;3\nserver.2=y:1:2;3", request, 1);
        assert!(matches!(is_fine, Ok(_) | Err(ErrorCode::BadArguments)), "{is_fine:?}");
        is_fine.is_ok()
    }

    #[test]
    fn who_joins_says_all_three_addresses() {
        for good in [
            "",
            "server.4=127.0.0.1:1:2;3",
            "server.4=host:1:2:observer;0.0.0.0:3,server.5=host:4:5:PARTICIPANT;6",
            "server.4=[::1]:1:2;[::1]:3",
            "server.4=a:1:2|b:1:2;3",
        ] {
            assert!(is_well_formed(&request(good, "", None)), "{good}");
        }
        for bad in [
            "some thing",
            "server.4",
            "server.x=host:1:2;3",
            "4=host:1:2;3",
            "server.4=host:1:2",
            "server.4=host:1:2;",
            "server.4=host:1;3",
            "server.4=host:1:2:leader;3",
            "server.4=host:1:65536;3",
            "server.4=:1:2;3",
            "server.4=host:1:2;3,nonsense",
            "server.4=host:1:2;3,server.5=a:1:2|b:1;3",
        ] {
            assert!(!is_well_formed(&request(bad, "", None)), "{bad}");
        }
    }

    #[test]
    fn who_leaves_is_a_number() {
        assert!(is_well_formed(&request("", "4, 5,", None)));
        assert!(!is_well_formed(&request("", "4,server.5", None)));
    }

    /// ZooKeeper: "new configuration must include at least 2 followers".
    #[test]
    fn two_must_vote_unless_one_may_stand_alone() {
        for (joining, leaving, new_members, voters) in [
            ("", "", None, 3),
            ("", "3", None, 2),
            ("", "2, 3", None, 1),
            ("", "1,2, 3", None, 0),
            ("server.5=e:1:2;4", "2,3", None, 2),
            ("server.5=e:1:2:OBSERVER;4", "2,3", None, 1),
            ("server.3=c:1:2:observer;3", "2", None, 1),
            ("server.2=b:1:2;3", "2,3", None, 2),
            ("", "", Some("server.1=a:1:2;3"), 1),
            ("", "", Some("server.1=a:1:2;3,server.2=b:1:2;3"), 2),
        ] {
            let asked = request(joining, leaving, new_members);
            for voters_min in [1, 2] {
                let is_fine = changed(THREE, &asked, voters_min).is_ok();
                assert_eq!(is_fine, voters >= voters_min, "{asked:?}, at least {voters_min}");
            }
        }
    }

    #[test]
    fn a_whole_list_is_a_dynamic_file_and_may_have_groups() {
        let whole = |text| changed(THREE, &request("not looked at", "nor this", Some(text)), 1);
        let new = whole("server.1=a:1:2;3,server.2=b:1:2:participant\nversion=5").unwrap();
        assert_eq!((new.servers.len(), new.version), (2, 0x1_0000_0007));
        assert!(whole("").is_err() && whole("server.1=a:1:2;3,tickTime=2000").is_err());
        assert!(whole("server.1=a:1:2;3,server.2=b:1:2;3,group.1=1").is_err(), "2 is in no group");
        let groups = "server.1=a:1:2;3,server.2=b:1:2;3,group.1=1:2,weight.2=0";
        let grouped = whole(groups).unwrap().to_string();
        assert!(grouped.ends_with("group.1=1:2\nweight.1=1\nweight.2=0\nversion=100000007"), "{grouped}");
        let grouped = grouped.replace("version=100000007", "version=100000006");
        let more = changed(&grouped, &request("server.3=c:1:2;3", "", None), 1);
        assert_eq!(more, Err(ErrorCode::BadArguments), "groups are given as a whole only");
        assert!(changed(&grouped, &request("", "", Some(groups)), 1).is_ok());
    }

    #[test]
    fn an_address_has_one_server_unless_it_is_everybodys() {
        for (joining, is_free) in [
            ("server.5=e:1:2;e:3", true),
            ("server.5=b:1:9;10", false),
            ("server.5=b:9:1;10", false),
            ("server.5=e:8:9;b:2", false),
            ("server.5=e:8:9|b:2:7;10", false),
            ("server.5=e:8:9;10,server.6=e:9:8;11", false),
            ("server.5=e:8:9;3", true),
            ("server.5=127.0.0.1:1:2;127.0.0.1:3,server.6=127.0.0.1:1:2;localhost:3", true),
            ("server.2=b:2:1;7", true),
        ] {
            assert_eq!(changed(THREE, &request(joining, "", None), 1).is_ok(), is_free, "{joining}");
        }
    }

    #[test]
    fn who_joins_and_is_there_gets_another_line_and_votes_unless_it_says_otherwise() {
        let new = changed(THREE, &request("server.4=d:7:8;9,server.2=b:1:2:observer;3", "", None), 2).unwrap();
        assert_eq!(
            new.to_string(),
            "server.1=a:1:2:participant;0.0.0.0:3\nserver.2=b:1:2:observer;0.0.0.0:3\n\
             server.3=c:1:2:participant;0.0.0.0:3\nserver.4=d:7:8:participant;0.0.0.0:9\nversion=100000007"
        );
    }

    /// The request that 3.8.0's leader was recorded to get, and the data of the transaction that it made of it.
    #[test]
    fn the_recorded_change_is_made_byte_by_byte() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/testdata/quorum/reconfig.json")).unwrap();
        let field = |kind: &str, name: &str| {
            let packets = vectors["packets"].as_array().unwrap();
            let packet = packets.iter().find(|packet| packet["kind"] == kind).unwrap();
            let fields = packet["fields"].as_array().unwrap();
            fields.iter().find(|field| field["name"] == name).unwrap()["value"].as_str().unwrap().to_owned()
        };
        let bytes = |hex: &str| -> Vec<u8> {
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
        };
        let committed = Configuration::parse(&field("NEWLEADER", "configText")).unwrap();
        let asked = bytes(&field("REQUEST:reconfig", "requestBody"));
        let ensemble = Ensemble { committed: &committed, is_changing: false, voters_min: 2 };
        let request = ReconfigRequest::from_bytes(&asked).unwrap();
        let new = change(&ensemble, &request, Zxid(0x1_0000_0002), |_| true).unwrap();
        assert_eq!(new.to_string().as_bytes(), bytes(&field("PROPOSAL:reconfig", "txn.data")));
    }

    #[test]
    fn the_order_of_the_checks_is_apaches() {
        let committed = Configuration::parse(THREE).unwrap();
        let asked = |text: &str, current_config| ReconfigRequest { current_config, ..request(text, "", None) };
        let ask = |is_changing, request, has_quorum: bool| {
            let ensemble = Ensemble { committed: &committed, is_changing, voters_min: 2 };
            change(&ensemble, &request, Zxid(0x1_0000_0001), |_| has_quorum).map(|new| new.version)
        };
        assert_eq!(ask(true, asked("bad", 1), false), Err(ErrorCode::ReconfigInProgress));
        assert_eq!(ask(false, asked("bad", 1), false), Err(ErrorCode::BadVersion));
        assert_eq!(ask(false, asked("bad", 0x1_0000_0000), false), Err(ErrorCode::BadArguments));
        assert_eq!(ask(false, asked("", 0x1_0000_0000), false), Err(ErrorCode::NewConfigNoQuorum));
        assert_eq!(ask(false, asked("", -1), true), Ok(0x1_0000_0001));
    }

    #[test]
    fn a_change_that_nobody_would_take_up_is_refused() {
        let asked = request("", "3", None);
        assert_eq!(changed(&THREE.replace("100000000", "100000007"), &asked, 2), Err(ErrorCode::RuntimeInconsistency));
    }
}
