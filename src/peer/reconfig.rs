//! What a reconfig asks for, as text: whether it can be read. The change itself is not made yet.
//!
//! ZooKeeper: `PrepRequestProcessor`, the case of reconfig; `QuorumPeer.QuorumServer`.

use crate::records::ReconfigRequest;

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

    #[test]
    fn a_whole_list_is_a_dynamic_file() {
        let whole = |text| is_well_formed(&request("not looked at", "nor this", Some(text)));
        assert!(whole("server.1=a:1:2;3,server.2=b:1:2:participant\nversion=100000000"));
        assert!(!whole(""));
        assert!(!whole("server.1=a:1:2;3,tickTime=2000"));
    }
}
