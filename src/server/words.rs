//! The four-letter words: plain text for probes and people, on the client port before any session.
//!
//! The forms are Apache's to the byte, since scripts cut them apart. What is asked of a server that does not serve is
//! answered with one line that says so; `ruok` only says that the process is there.
//!
//! ZooKeeper: `FourLetterCommands`, `org.apache.zookeeper.server.command`.

use super::connection::Conn;
use super::log::java_date;
use super::mntr;
use super::shared::Shared;
use super::{Config, VERSION_LINE};
use crate::peer::io::ServerMode;
use crate::peer::{ConnInfo, ConnPhase, ConnStats, ServerStats};
use crate::records::{PeerState, SessionId};
use crate::sync;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// What is sent for a word, before the connection is closed.
pub enum Answer {
    Text(Vec<u8>),
    /// The word has an argument (`stmk`) that is not here yet.
    NeedsMore,
}

/// The answer to `word`; `None`: it is no word.
pub fn answer(shared: &Arc<Shared>, conn: &Conn, word: &[u8; 4], argument: &[u8]) -> Option<Answer> {
    const WORDS: &[&str] = &[
        "conf", "cons", "crst", "dirs", "dump", "envi", "gtmk", "isro", "mntr", "ruok", "srst", "srvr", "stat", "stmk",
        "wchc", "wchp", "wchs",
    ];
    let word = WORDS.iter().find(|known| known.as_bytes() == word)?;
    if *word == "stmk" && argument.len() < 8 {
        return Some(Answer::NeedsMore);
    }
    tracing::info!("Processing {word} command from /{}", conn.peer);
    if !shared.config.four_letter_words.allows(word) {
        return Some(Answer::Text(
            format!("{word} is not executed because it is not in the whitelist.\n").into_bytes(),
        ));
    }
    Some(Answer::Text(text(shared, conn, word).into_bytes()))
}

fn text(shared: &Arc<Shared>, conn: &Conn, word: &str) -> String {
    let stats = sync::read(&shared.db).stats();
    let is_serving = stats.serving.is_some();
    match word {
        "ruok" => "imok".to_owned(),
        "isro" => if is_serving { "rw" } else { "null" }.to_owned(),
        // Trace masks have no meaning here; Apache's default is told.
        "gtmk" | "stmk" => "306".to_owned(),
        "envi" => environment(),
        _ if !is_serving => NOT_SERVING.to_owned(),
        "srvr" => server(&stats, ""),
        "stat" => server(&stats, &clients(shared, conn)),
        "cons" => connections(shared, conn),
        "conf" => configuration(&shared.config, directory_size(&shared.config.data_dir), log_size(&shared.config)),
        "dirs" => {
            let (data, log) = (directory_size(&shared.config.data_dir), log_size(&shared.config));
            format!("datadir_size: {data}\nlogdir_size: {log}\n")
        }
        "mntr" => mntr::text(shared, &stats),
        "crst" => {
            shared.connections.all().iter().for_each(|conn| conn.outbox.reset_stats());
            "Connection stats reset.\n".to_owned()
        }
        "srst" => {
            sync::read(&shared.db).reset_stats();
            "Server stats reset.\n".to_owned()
        }
        "wchs" => format!(
            "{} connections watching {} paths\nTotal watches:{}\n",
            sync::read(&shared.db).data_watchers(),
            stats.watches.data_paths,
            stats.watches.data
        ),
        "dump" => dump(shared),
        // wchc and wchp walk all watches; they are not told.
        _ => "\n".to_owned(),
    }
}

/// `srvr`, and with the clients `stat`.
fn server(stats: &ServerStats, clients: &str) -> String {
    let ServerStats { total, .. } = stats;
    let mode = stats.serving.map_or(ServerMode::Standalone, |serving| serving.mode);
    let mut out = format!("Zookeeper version: {VERSION_LINE}\n{clients}");
    let _ = write!(
        out,
        "Latency min/avg/max: {}/{}/{}\nReceived: {}\nSent: {}\nConnections: {}\nOutstanding: {}\nZxid: {}\n\
         Mode: {mode}\nNode count: {}\n",
        total.latency_min_micros / 1000,
        average_latency(total),
        total.latency_max_micros / 1000,
        total.received,
        total.sent,
        stats.connections,
        stats.outstanding,
        stats.last_processed,
        stats.node_count
    );
    if mode == ServerMode::Leader {
        out.push_str("Proposal sizes last/min/max: -1/-1/-1\n");
    }
    out
}

/// Mean latency in ms as Java prints a double of four places.
pub fn average_latency(stats: &ConnStats) -> String {
    if stats.answered == 0 {
        return "0.0".to_owned();
    }
    let ms = stats.latency_total_micros as f64 / 1000.0 / stats.answered as f64;
    format!("{:?}", (ms * 10_000.0).round() / 10_000.0)
}

fn clients(shared: &Shared, me: &Conn) -> String {
    let lines: String = shared.connections.all().iter().map(|conn| client(conn, me) + ")\n").collect();
    format!("Clients:\n{lines}\n")
}

fn connections(shared: &Shared, me: &Conn) -> String {
    let mut out = String::new();
    for conn in shared.connections.all() {
        let info = conn.outbox.info();
        out.push_str(&client(&conn, me));
        if info.phase == ConnPhase::Open {
            out.push_str(&session_fields(&info, conn.established_ms));
        }
        out.push_str(")\n");
    }
    out + "\n"
}

/// A connection's line up to its common fields.
fn client(conn: &Conn, me: &Conn) -> String {
    let info = conn.outbox.info();
    // Selection keys of NIO: this connection is being closed, the others are read.
    let is_me = info.conn == me.outbox.conn();
    let interest = if is_me { 0 } else { 1 };
    let received = info.stats.received + u64::from(is_me);
    format!(" /{}[{interest}](queued={},recved={received},sent={}", conn.peer, info.waiting, info.stats.sent)
}

fn session_fields(info: &ConnInfo, established_ms: i64) -> String {
    let stats = &info.stats;
    let average = stats.latency_total_micros.checked_div(stats.answered).unwrap_or(0) / 1000;
    format!(
        ",sid={},lop=NA,est={established_ms},to={},lcxid={:#x},lzxid={},lresp={},llat={},minlat={},avglat={average},maxlat={}",
        info.session,
        info.timeout_ms,
        stats.last_xid,
        stats.last_zxid,
        stats.last_answer_micros / 1000,
        stats.last_latency_micros / 1000,
        stats.latency_min_micros / 1000,
        stats.latency_max_micros / 1000
    )
}

fn configuration(config: &Config, data_size: u64, log_size: u64) -> String {
    let mut out = format!(
        "clientPort={}\nsecureClientPort={}\ndataDir={}\ndataDirSize={data_size}\ndataLogDir={}\ndataLogSize={log_size}\n\
         tickTime={}\nmaxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\nclientPortListenBacklog={}\n\
         serverId={}\n",
        config.client_addr.map_or(-1, |addr| i32::from(addr.port())),
        config.tls.secure_client_addr.map_or(-1, |addr| i32::from(addr.port())),
        config.data_dir.join("version-2").display(),
        config.data_log_dir.join("version-2").display(),
        config.tick_time_ms,
        config.limits.max_client_cnxns,
        config.min_session_timeout_ms(),
        config.max_session_timeout_ms(),
        config.limits.client_backlog,
        config.my_id.map_or(0, |id| id.0)
    );
    if let Some(me) = config.me() {
        let _ = write!(
            out,
            "initLimit={}\nsyncLimit={}\nelectionAlg=3\nelectionPort={}\nquorumPort={}\npeerType={}\nmembership: \n{}",
            config.init_limit,
            config.sync_limit,
            me.election.port,
            me.quorum.port,
            me.role as u8,
            config.config_text()
        );
    }
    out
}

/// Bytes of all files in the `version-2` directory.
fn directory_size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir.join("version-2")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).filter(|file| file.is_file()).map(|file| file.len()).sum()
}

fn log_size(config: &Config) -> u64 {
    directory_size(&config.data_log_dir)
}

fn environment() -> String {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let kernel =
        |name: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default().trim().to_owned();
    let memory = memory_mb();
    format!(
        "Environment:\nzookeeper.version={VERSION_LINE}\nhost.name={}\njava.version=none\njava.vendor=\njava.home=\n\
         java.class.path=\njava.library.path=\njava.io.tmpdir={}\njava.compiler=\nos.name={}\nos.arch={}\nos.version={}\n\
         user.name={}\nuser.home={}\nuser.dir={}\nos.memory.free={}MB\nos.memory.max={}MB\nos.memory.total={}MB\n",
        kernel("hostname"),
        std::env::temp_dir().display(),
        kernel("ostype"),
        std::env::consts::ARCH,
        kernel("osrelease"),
        variable("USER"),
        variable("HOME"),
        std::env::current_dir().unwrap_or_default().display(),
        memory.0,
        memory.1,
        memory.1
    )
}

/// Free and total memory of the machine, in MB.
fn memory_mb() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
    };
    (field("MemAvailable:").unwrap_or(0), field("MemTotal:").unwrap_or(0))
}

fn dump(shared: &Shared) -> String {
    let is_leader = shared.peer_status().state == PeerState::Leading;
    let now_ms = shared.now().wall_ms.max(0) as u64;
    let mut out = "SessionTracker dump:\n".to_owned();
    let db = sync::read(&shared.db);
    let sessions = db.sessions();
    if is_leader {
        // When exactly each expires is the tracker's; a full timeout from now is the most it can be.
        let _ = writeln!(out, "Session Sets ({})/({}):", sessions.len(), sessions.len());
        for (session, timeout_ms) in sessions {
            let expiry = java_date(now_ms + u64::from(timeout_ms.unsigned_abs()));
            let _ = writeln!(out, "1 expire at {expiry}:\n\t{session}");
        }
    } else {
        let _ = writeln!(out, "Global Sessions({}):", sessions.len());
        for (session, timeout_ms) in sessions {
            let _ = writeln!(out, "{session}\t{timeout_ms}ms");
        }
    }
    let owners: Vec<SessionId> = db.tree().ephemeral_owners().collect();
    let _ = writeln!(out, "ephemeral nodes dump:\nSessions with Ephemerals ({}):", owners.len());
    for owner in owners {
        let _ = writeln!(out, "{owner}:");
        for path in db.tree().ephemerals(owner) {
            let _ = writeln!(out, "\t{path}");
        }
    }
    drop(db);
    let conns = shared.connections.all();
    let _ = writeln!(out, "Connections dump:\nConnections Sets ({})/({}):", conns.len().min(1), conns.len());
    if !conns.is_empty() {
        let _ = writeln!(out, "{} expire at {}:", conns.len(), java_date(now_ms + 10_000));
    }
    for conn in conns {
        let _ = writeln!(out, "\tip: /{} sessionId: {}", conn.peer, conn.outbox.info().session);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::io::{Generation, Serving};
    use crate::records::Zxid;
    use crate::tree::WatchCounts;

    fn recorded(name: &str) -> String {
        let text = std::fs::read_to_string(format!("tests/testdata/fourletter/{name}")).unwrap();
        text.replace("3.8.0-${mvngit.commit.id}, built on 2024-12-29 17:54 UTC", VERSION_LINE)
    }

    fn stats(mode: ServerMode) -> ServerStats {
        ServerStats {
            total: ConnStats {
                received: 70,
                sent: 70,
                answered: 22,
                latency_max_micros: 10_000,
                latency_total_micros: 13_000,
                ..ConnStats::default()
            },
            connections: 3,
            outstanding: 0,
            last_processed: Zxid(8),
            serving: Some(Serving { generation: Generation(1), mode, until_micros: u64::MAX }),
            node_count: 10,
            ephemeral_count: 2,
            approximate_data_size: 2122,
            session_count: 2,
            local_session_count: 0,
            watches: WatchCounts::default(),
        }
    }

    #[test]
    fn srvr_is_apaches_to_the_byte() {
        assert_eq!(server(&stats(ServerMode::Standalone), ""), recorded("standalone_srvr.txt"));
        let leader = server(&stats(ServerMode::Leader), "");
        assert!(leader.ends_with("Mode: leader\nNode count: 10\nProposal sizes last/min/max: -1/-1/-1\n"), "{leader}");
        let follower = server(&stats(ServerMode::Follower), "");
        assert!(follower.ends_with("Mode: follower\nNode count: 10\n"), "{follower}");
    }

    #[test]
    fn latencies_print_as_javas_doubles() {
        assert_eq!(average_latency(&ConnStats::default()), "0.0");
        let of = |answered, latency_total_micros| {
            average_latency(&ConnStats { answered, latency_total_micros, ..ConnStats::default() })
        };
        assert_eq!((of(2, 6000).as_str(), of(3, 1000).as_str()), ("3.0", "0.3333"));
    }

    #[test]
    fn conf_is_apaches_to_the_byte() {
        let standalone = "tickTime=2000\ndataDir=/var/lib/zookeeper\nclientPort=22181\n";
        let config = Config::parse(standalone).unwrap();
        assert_eq!(configuration(&config, 67_109_337, 67_109_337), recorded("standalone_conf.txt"));

        let mut config = Config {
            my_id: Some(crate::records::ServerId(3)),
            data_dir: "/var/lib/zookeeper3".into(),
            data_log_dir: "/var/lib/zookeeper3-log".into(),
            client_addr: Some("0.0.0.0:22193".parse().unwrap()),
            tick_time_ms: 2000,
            init_limit: 10,
            sync_limit: 5,
            ..Config::default()
        };
        for id in 1..=3 {
            let line = format!("127.0.0.1:{}:{}", 22_800 + id, 22_900 + id);
            config.servers.insert(crate::records::ServerId(id), super::super::ServerAddr::parse(&line).unwrap());
        }
        assert_eq!(configuration(&config, 67_108_880, 597), recorded("leader_conf.txt"));
    }
}
