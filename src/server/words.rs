//! The four-letter words: plain text for probes and people, on the client port before any session.
//!
//! The forms are Apache's to the byte, since scripts cut them apart. What is asked of a server that does not serve is
//! answered with one line that says so; `ruok` only says that the process is there.
//!
//! ZooKeeper: `FourLetterCommands`, `org.apache.zookeeper.server.command`.

mod dump;
mod environment;

use super::connection::Conn;
use super::mntr;
use super::shared::{ProposalSizes, Shared};
use super::{Config, VERSION_LINE};
use crate::peer::io::ServerMode;
use crate::peer::{ConnInfo, ConnPhase, ConnStats, ServerStats};
use crate::records::Zxid;
use crate::sync;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// What is sent for a word, before the connection is closed.
pub enum Answer {
    Text(String),
    /// It takes a while, because it reads directories or walks all that there is: not for the core's thread.
    Later(Box<dyn FnOnce() -> String + Send>),
    /// The word has an argument (`stmk`) that is not here yet.
    NeedsMore,
}

/// The answer to `word`; `None`: it is no word.
pub fn answer(shared: &Arc<Shared>, conn: &Arc<Conn>, word: &[u8; 4], argument: &[u8]) -> Option<Answer> {
    const WORDS: &[&str] = &[
        "conf", "cons", "crst", "dirs", "dump", "envi", "gtmk", "hash", "isro", "mntr", "ruok", "srst", "srvr", "stat",
        "stmk", "wchc", "wchp", "wchs",
    ];
    let word = WORDS.iter().find(|known| known.as_bytes() == word)?;
    let mask = argument.first_chunk::<8>().map(|mask| u64::from_be_bytes(*mask));
    if *word == "stmk" && mask.is_none() {
        return Some(Answer::NeedsMore);
    }
    tracing::info!("Processing {word} command from /{}", conn.peer);
    conn.outbox.count_word();
    if !shared.config.four_letter_words.allows(word) {
        return Some(Answer::Text(format!("{word} is not executed because it is not in the whitelist.\n")));
    }
    if let ("stmk", Some(mask)) = (*word, mask) {
        shared.metrics.trace_mask.store(mask, Ordering::Relaxed);
    }
    if matches!(*word, "conf" | "cons" | "dirs" | "dump" | "mntr" | "stat" | "wchc" | "wchp" | "wchs") {
        let (shared, conn) = (shared.clone(), conn.clone());
        return Some(Answer::Later(Box::new(move || text(&shared, &conn, word))));
    }
    Some(Answer::Text(text(shared, conn, word)))
}

fn text(shared: &Shared, conn: &Conn, word: &str) -> String {
    let mode = sync::read(&shared.db).serving().map(|serving| serving.mode);
    let stats = || sync::read(&shared.db).stats();
    match word {
        "ruok" => "imok".to_owned(),
        "isro" => match mode {
            Some(ServerMode::ReadOnly) => "ro",
            Some(_) => "rw",
            None => "null",
        }
        .to_owned(),
        // Nothing is traced here; but who sets a mask finds it again.
        "gtmk" | "stmk" => shared.metrics.trace_mask.load(Ordering::Relaxed).to_string(),
        "envi" => environment::text(),
        "hash" if mode.is_none() => NOT_SERVING.trim_end().to_owned(),
        _ if mode.is_none() => NOT_SERVING.to_owned(),
        "srvr" => server(&stats(), shared.metrics.proposals.sizes(), ""),
        "stat" => server(&stats(), shared.metrics.proposals.sizes(), &clients(shared, conn)),
        "cons" => connections(shared, conn),
        "conf" => configuration(&shared.config, directory_size(&shared.config.data_dir), log_size(&shared.config)),
        "dirs" => {
            let (data, log) = (directory_size(&shared.config.data_dir), log_size(&shared.config));
            format!("datadir_size: {data}\nlogdir_size: {log}\n")
        }
        "mntr" => mntr::text(shared, &stats()),
        "crst" => {
            sync::read(&shared.db).reset_connection_stats();
            "Connection stats reset.\n".to_owned()
        }
        "srst" => {
            sync::read(&shared.db).reset_stats();
            shared.metrics.proposals.reset();
            "Server stats reset.\n".to_owned()
        }
        "wchs" => {
            let db = sync::read(&shared.db);
            let counts = db.watch_counts();
            let (watchers, paths) = (db.data_watchers(), counts.data_paths);
            format!("{watchers} connections watching {paths} paths\nTotal watches:{}\n", counts.data)
        }
        "wchc" => dump::watches_by_session(shared),
        "wchp" => dump::watches_by_path(shared),
        "dump" => dump::text(shared),
        // `hash`: digests of the past are not kept.
        _ => String::new(),
    }
}

/// `srvr`, and with the clients `stat`.
fn server(stats: &ServerStats, proposals: ProposalSizes, clients: &str) -> String {
    let ServerStats { total, .. } = stats;
    let mode = stats.serving.map_or(ServerMode::Standalone, |serving| serving.mode);
    let read_only = if mode == ServerMode::ReadOnly { "READ-ONLY mode; serving only read-only clients\n" } else { "" };
    let mut out = format!("Zookeeper version: {VERSION_LINE}\n{read_only}{clients}");
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
        let ProposalSizes { last, min, max } = proposals;
        let _ = writeln!(out, "Proposal sizes last/min/max: {last}/{min}/{max}");
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
    let ConnInfo { conn: id, waiting, stats, .. } = conn.outbox.info();
    // Selection keys of NIO: the asking connection is being closed, the others are read, and written if they wait.
    let interest = match (id == me.outbox.conn(), conn.unsent()) {
        (true, _) => 0,
        (false, None) => 1,
        (false, Some(_)) => 5,
    };
    format!(" /{}[{interest}](queued={waiting},recved={},sent={}", conn.peer, stats.received, stats.sent)
}

fn session_fields(info: &ConnInfo, established_ms: i64) -> String {
    let stats = &info.stats;
    let average = stats.latency_total_micros.checked_div(stats.answered).unwrap_or(0) / 1000;
    let is_fresh = stats.answered == 0;
    let mut out = format!(",sid={},lop=NA,est={established_ms},to={}", info.session, info.timeout_ms);
    if !is_fresh && stats.last_xid >= 0 {
        let _ = write!(out, ",lcxid={:#x}", stats.last_xid);
    }
    let _ = write!(
        out,
        ",lzxid={},lresp={},llat={},minlat={},avglat={average},maxlat={}",
        if is_fresh { Zxid::NONE } else { stats.last_zxid },
        stats.last_answer_micros / 1000,
        stats.last_latency_micros / 1000,
        stats.latency_min_micros / 1000,
        stats.latency_max_micros / 1000
    );
    out
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
            me.election().port,
            me.quorum().port,
            me.role as u8,
            config.ensemble
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::io::{Generation, Serving};
    use crate::server::shared::Proposals;
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
        let none = Proposals::default().sizes();
        assert_eq!(server(&stats(ServerMode::Standalone), none, ""), recorded("standalone_srvr.txt"));
        let leader = server(&stats(ServerMode::Leader), none, "");
        assert!(leader.ends_with("Mode: leader\nNode count: 10\nProposal sizes last/min/max: -1/-1/-1\n"), "{leader}");
        let follower = server(&stats(ServerMode::Follower), none, "");
        assert!(follower.ends_with("Mode: follower\nNode count: 10\n"), "{follower}");

        let proposals = Proposals::default();
        [48, 95, 70].into_iter().for_each(|bytes| proposals.add(bytes));
        let total = ConnStats {
            received: 8,
            sent: 7,
            answered: 2,
            latency_min_micros: 1000,
            latency_max_micros: 6000,
            latency_total_micros: 6000,
            ..ConnStats::default()
        };
        let last_processed = Zxid(0x1_0000_0024);
        let leads = ServerStats { total, connections: 2, last_processed, node_count: 9, ..stats(ServerMode::Leader) };
        assert_eq!(server(&leads, proposals.sizes(), ""), recorded("leader_srvr.txt"));

        let total = ConnStats { received: 3, sent: 2, ..ConnStats::default() };
        let reads = ServerStats {
            total,
            connections: 1,
            last_processed: Zxid(0),
            node_count: 5,
            ..stats(ServerMode::ReadOnly)
        };
        assert_eq!(server(&reads, none, ""), recorded("readonly_srvr.txt"));
    }

    /// In the recording the asking connection is the last; its own request counts.
    #[test]
    fn cons_is_apaches_to_the_byte_but_for_the_name_of_the_last_operation() {
        let recorded = recorded("standalone_cons.txt");
        let line = recorded.lines().nth(2).unwrap();
        let fields = line.split_once(",sent=61").unwrap().1.replace("lop=CREA", "lop=NA");
        let stats = ConnStats {
            answered: 61,
            latency_max_micros: 10_000,
            latency_total_micros: 13_000,
            last_latency_micros: 3_000,
            last_xid: 0x3c,
            last_zxid: Zxid(8),
            last_answer_micros: 802_375_000,
            ..ConnStats::default()
        };
        let mut info = ConnInfo {
            conn: crate::peer::io::ConnId(1),
            peer_ip: [127, 0, 0, 1].into(),
            phase: ConnPhase::Open,
            session: crate::records::SessionId(0x0100_000b_84dc_0000),
            timeout_ms: 10_000,
            waiting: 0,
            stats,
        };
        assert_eq!(session_fields(&info, 1_795_358_967_787) + ")", fields);
        info.stats = ConnStats::default();
        let reset = ",sid=0x100000b84dc0000,lop=NA,est=1,to=10000,lzxid=0xffffffffffffffff,lresp=0,llat=0,minlat=0,avglat=0,maxlat=0";
        assert_eq!(session_fields(&info, 1), reset);
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
            config.ensemble.take(&format!("server.{id}"), &line).unwrap();
        }
        assert_eq!(configuration(&config, 67_108_880, 597), recorded("leader_conf.txt"));
    }
}
