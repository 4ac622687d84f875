//! What a reconfig asks for, as text: whether it can be read, and who would vote. The change itself is not made yet.
//!
//! ZooKeeper: `PrepRequestProcessor`, the case of reconfig; `QuorumPeer.QuorumServer`.

use crate::records::ReconfigRequest;
use std::collections::BTreeMap;

/// Whether the lists of members have the form that they must have; an empty element counts as nothing.
pub(super) fn is_well_formed(request: &ReconfigRequest) -> bool {
    if let Some(members) = &request.new_members {
        // A whole list: the text of a dynamic file, with commas for the ends of its lines.
        let mut lines = members.split([',', '\n']).map(str::trim).filter(|line| !line.is_empty()).peekable();
        return lines.peek().is_some() && lines.all(|line| line.starts_with("version=") || is_member(line, false));
    }
    let items = |list: &'_ Option<String>, is_item: fn(&str) -> bool| {
        list.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|item| !item.is_empty()).all(is_item)
    };
    items(&request.leaving, is_server_id) && items(&request.joining, |item| is_member(item, true))
}

/// Whether enough members would vote of those in `config`, the text of `/zookeeper/config`, after a well-formed request:
/// two, or one where one is enough today (`standaloneEnabled=false`). Without members nothing is known, and all is well.
pub(super) fn keeps_voters(request: &ReconfigRequest, config: &str) -> bool {
    let today = members(config);
    if today.is_empty() {
        return true;
    }
    let voters = |members: &BTreeMap<i64, bool>| members.values().filter(|votes| **votes).count();
    let mut then = today.clone();
    if let Some(whole) = &request.new_members {
        then = members(whole);
    } else {
        for id in request.leaving.iter().flat_map(|list| list.split(',')) {
            if let Ok(id) = id.trim().parse() {
                then.remove(&id);
            }
        }
        then.extend(request.joining.iter().flat_map(|list| members(list)));
    }
    voters(&then) >= voters(&today).clamp(1, 2)
}

/// The members in a text, and whether each votes.
fn members(text: &str) -> BTreeMap<i64, bool> {
    let member = |line: &str| {
        let (id, addresses) = line.trim().strip_prefix("server.")?.split_once('=')?;
        let servers = addresses.split(';').next()?;
        let observes = |server: &str| server.rsplit(':').next().is_some_and(is_observer);
        Some((id.trim().parse().ok()?, !servers.split('|').any(observes)))
    };
    text.split([',', '\n']).filter_map(member).collect()
}

fn is_observer(role: &str) -> bool {
    role.trim().eq_ignore_ascii_case("observer")
}

fn is_server_id(text: &str) -> bool {
    text.parse::<i64>().is_ok()
}

fn is_port(text: &str) -> bool {
    text.trim().parse::<u16>().is_ok()
}

/// `server.N=` and its addresses, several of them with `|` between; who joins must say where its clients connect.
fn is_member(text: &str, needs_client: bool) -> bool {
    let Some((id, addresses)) = text.strip_prefix("server.").and_then(|rest| rest.split_once('=')) else {
        return false;
    };
    let (servers, client) = match addresses.split_once(';') {
        None => (addresses, None),
        Some((servers, client)) => (servers, Some(client.trim())),
    };
    let is_client_fine = match client {
        None | Some("") => !needs_client,
        Some(client) => is_port(client.rsplit_once(':').map_or(client, |(_, port)| port)),
    };
    is_server_id(id.trim()) && is_client_fine && servers.split('|').all(is_server)
}

/// `host:quorumPort:electionPort[:participant|:observer]`, an IPv6 host in brackets.
fn is_server(text: &str) -> bool {
    let text = text.trim();
    let split = match text.strip_prefix('[') {
        Some(inner) => inner.split_once("]:"),
        None => text.split_once(':'),
    };
    let Some((host, rest)) = split else {
        return false;
    };
    let is_role = |role: &str| ["participant", "observer"].iter().any(|known| role.trim().eq_ignore_ascii_case(known));
    let parts: Vec<&str> = rest.split(':').collect();
    !host.is_empty()
        && match parts[..] {
            [quorum, election] => is_port(quorum) && is_port(election),
            [quorum, election, role] => is_port(quorum) && is_port(election) && is_role(role),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(joining: &str, leaving: &str, new_members: Option<&str>) -> ReconfigRequest {
        let new_members = new_members.map(str::to_owned);
        ReconfigRequest {
            joining: Some(joining.into()),
            leaving: Some(leaving.into()),
            new_members,
            current_config: -1,
        }
    }

    #[test]
    fn who_joins_says_all_three_addresses() {
        for good in [
            "",
            "server.4=127.0.0.1:1:2;3",
            "server.4=host:1:2:observer;0.0.0.0:3,server.5=host:1:2:PARTICIPANT;3",
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
    fn two_must_vote_or_as_few_as_today() {
        let config = "server.1=a:1:2:participant;3\nserver.2=b:1:2:participant;3\nserver.3=c:1:2:participant;3\n\
                      server.4=d:1:2:observer;3\nversion=0";
        let one = "server.1=a:1:2:participant;3\nserver.4=d:1:2:observer;3\nversion=0";
        for (config, joining, leaving, new_members, want) in [
            (config, "", "", None, true),
            (config, "", "3", None, true),
            (config, "", "2, 3", None, false),
            (config, "server.5=e:1:2;3", "2,3", None, true),
            (config, "server.5=e:1:2:OBSERVER;3", "2,3", None, false),
            (config, "server.3=c:1:2:observer;3", "2", None, false),
            (config, "server.3=c:1:2|cc:1:2:observer;3", "2", None, false),
            (config, "server.2=b:1:2;3", "2,3", None, true),
            (config, "", "", Some("server.1=a:1:2;3"), false),
            (config, "", "", Some("server.1=a:1:2;3,server.2=b:1:2;3"), true),
            (one, "", "4", None, true),
            (one, "", "1", None, false),
            ("", "", "1", None, true),
        ] {
            let asked = request(joining, leaving, new_members);
            assert!(is_well_formed(&asked), "{asked:?}");
            assert_eq!(keeps_voters(&asked, config), want, "{asked:?} of {config}");
        }
    }

    #[test]
    fn a_whole_list_is_a_dynamic_file() {
        let whole = |text| is_well_formed(&request("not looked at", "nor this", Some(text)));
        assert!(whole("server.1=a:1:2;3,server.2=b:1:2:participant\nversion=100000000"));
        assert!(!whole(""));
        assert!(!whole("server.1=a:1:2;3,tickTime=2000"));
    }
}
