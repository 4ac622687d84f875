//! Clients that do nothing but watch, raw on the wire, for `watches.py`: many connections with many watches, and one
//! reader beside them whose latencies count.
//!
//! `hold` sets watches and keeps them; `fire` sets them, changes all their nodes in one transaction and counts what
//! comes; `read` reads by a fixed schedule, so that a server that stands still is charged with every read that was due;
//! `write` (for `snapshots.py`) sets 100 bytes in the same manner, each connection those of a node of its own.
//! The standard library alone; times are wall-clock microseconds, to compare those of two processes.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Session timeout asked for, in ms: nobody pings while a million watches are set.
const TIMEOUT_MS: i32 = 600_000;
/// Operations of a multi, and bytes of paths of a setWatches. Java's client sends at most 128 KiB of them at once.
const BATCH: usize = 1000;
const BATCH_BYTES: usize = 128 << 10;
/// Connections that are opened at once.
const OPENING: usize = 500;

const CREATE: i32 = 1;
const DELETE: i32 = 2;
const GET_DATA: i32 = 4;
const SET_DATA: i32 = 5;
const PING: i32 = 11;
const MULTI: i32 = 14;
const SET_WATCHES: i32 = 101;
const NODE_EXISTS: i32 = -110;
const NODE_DELETED: i32 = 2;

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["hold", server, conns, paths] => hold(server, number(conns)?, number(paths)?),
        ["fire", server, conns, paths, rounds] => fire(server, number(conns)?, number(paths)?, number(rounds)?),
        ["read", server, conns, period] => paced(server, number(conns)?, number(period)?, false),
        ["write", server, conns, period] => paced(server, number(conns)?, number(period)?, true),
        // `cargo test --benches` runs it without a word.
        _ => {
            println!(
                "usage: watchers hold SERVER CONNECTIONS PATHS | fire SERVER CONNECTIONS PATHS ROUNDS | \
                 read|write SERVER CONNECTIONS PERIOD_MICROS"
            );
            Ok(())
        }
    }
}

fn number<T: std::str::FromStr>(word: &str) -> io::Result<T> {
    word.parse().map_err(|_| io::Error::other(format!("{word} is not a number")))
}

fn wall_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

/// Sets a watch on each path for each connection, says so, and keeps them until standard input ends.
fn hold(server: &str, conns: usize, paths: usize) -> io::Result<()> {
    let mut control = Client::open(server)?;
    let paths = paths_below(&mut control, "/services", paths)?;
    make(&mut control, &paths)?;
    println!("{{\"ready\": true}}");
    wait_for_line()?;
    let mut clients = open_all(server, conns)?;
    println!("{{\"connected\": {conns}}}");
    wait_for_line()?;
    let begin = wall_micros();
    set_watches(&mut clients, &paths)?;
    let seconds = (wall_micros() - begin) as f64 / 1e6;
    println!("{{\"watches\": {}, \"seconds\": {seconds:.3}}}", conns * paths.len());
    io::stdin().read_to_end(&mut Vec::new()).map(|_| ())
}

fn wait_for_line() -> io::Result<()> {
    io::stdin().read_line(&mut String::new()).map(|_| ())
}

/// Every round: all watch all, all is deleted in one multi, and everybody must hear of everything once and in order.
fn fire(server: &str, conns: usize, paths: usize, rounds: usize) -> io::Result<()> {
    let mut control = Client::open(server)?;
    let paths = paths_below(&mut control, "/fired", paths)?;
    let mut clients = open_all(server, conns)?;
    for _ in 0..rounds {
        make(&mut control, &paths)?;
        set_watches(&mut clients, &paths)?;
        println!("{{\"ready\": true}}");
        wait_for_line()?;
        let sent = wall_micros();
        control.send(MULTI, |out| paths.iter().for_each(|path| delete(path, out)), true)?;
        control.reply()?;
        let replied = wall_micros();
        for (n, client) in clients.iter_mut().enumerate() {
            for path in &paths {
                let event = client.event()?;
                if event != (NODE_DELETED, path.clone()) {
                    return Err(io::Error::other(format!("watcher {n} was told of {event:?} in place of {path}")));
                }
            }
        }
        let last = wall_micros();
        // Nothing twice: what comes next is the answer to a ping.
        for client in &mut clients {
            client.send(PING, |_| {}, false)?;
        }
        for client in &mut clients {
            client.reply()?;
        }
        let events = conns * paths.len();
        println!("{{\"sent\": {sent}, \"replied\": {replied}, \"last\": {last}, \"events\": {events}}}");
    }
    Ok(())
}

/// Each connection reads (or writes) once in a period, a thread each, until standard input ends. Then everything is
/// printed: when a read was due, and how long after that it was answered. Those that were due by then are all made.
fn paced(server: &str, conns: usize, period_micros: u64, is_write: bool) -> io::Result<()> {
    let mut control = Client::open(server)?;
    let parent = if is_write { "/write" } else { "/read" };
    control.create(parent)?;
    for n in 0..if is_write { conns } else { 0 } {
        control.create(&format!("{parent}/{n}"))?;
    }
    let begin = wall_micros() + 100_000;
    let end = std::sync::Arc::new(AtomicU64::new(u64::MAX));
    let threads: Vec<_> = (0..conns)
        .map(|n| {
            let (mut client, end) = (Client::open(server), end.clone());
            std::thread::spawn(move || -> io::Result<Vec<(u64, u64)>> {
                let client = client.as_mut().map_err(|error| io::Error::other(error.to_string()))?;
                let (mut samples, mut due) = (Vec::new(), begin + n as u64 * period_micros / conns as u64);
                while due < end.load(Ordering::Relaxed) {
                    // Reads are due by the clock, however late the one before was answered.
                    std::thread::sleep(Duration::from_micros(due.saturating_sub(wall_micros())));
                    if is_write {
                        let set = |out: &mut Vec<u8>| {
                            string(&format!("/write/{n}"), out);
                            int(100, out);
                            out.extend([7; 100]);
                            int(-1, out);
                        };
                        client.send(SET_DATA, set, false)?;
                    } else {
                        client.send(GET_DATA, |out| (string("/read", out), out.push(0)).0, false)?;
                    }
                    client.reply()?;
                    samples.push((due, wall_micros() - due));
                    due += period_micros;
                }
                Ok(samples)
            })
        })
        .collect();
    println!("{{\"ready\": true}}");
    io::stdin().read_to_end(&mut Vec::new())?;
    end.store(wall_micros(), Ordering::Relaxed);
    let mut out = io::BufWriter::new(io::stdout().lock());
    for thread in threads {
        for (due, latency) in thread.join().map_err(|_| io::Error::other("a reader has panicked"))?? {
            writeln!(out, "{due} {latency}")?;
        }
    }
    Ok(())
}

fn paths_below(control: &mut Client, parent: &str, count: usize) -> io::Result<Vec<String>> {
    control.create(parent)?;
    Ok((0..count).map(|n| format!("{parent}/instance-{n:010}")).collect())
}

/// Creates those that are not there.
fn make(control: &mut Client, paths: &[String]) -> io::Result<()> {
    for batch in paths.chunks(BATCH) {
        let ops = |out: &mut Vec<u8>| {
            for path in batch {
                multi_header(CREATE, out);
                create(path, out);
            }
        };
        control.send(MULTI, ops, true)?;
        control.reply()?;
    }
    Ok(())
}

fn open_all(server: &str, count: usize) -> io::Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(count);
    while clients.len() < count {
        let begin = clients.len();
        for _ in begin..count.min(begin + OPENING) {
            clients.push(Client::connect(server)?);
        }
        clients[begin..].iter_mut().try_for_each(Client::opened)?;
    }
    Ok(clients)
}

/// As after a reconnect: of nodes that have not changed since.
fn set_watches(clients: &mut [Client], paths: &[String]) -> io::Result<()> {
    let per_request = BATCH_BYTES / paths[0].len();
    for batch in paths.chunks(per_request) {
        for client in &mut *clients {
            let lists = |out: &mut Vec<u8>| {
                out.extend(i64::MAX.to_be_bytes());
                int(batch.len() as i32, out);
                batch.iter().for_each(|path| string(path, out));
                int(0, out);
                int(0, out);
            };
            client.send(SET_WATCHES, lists, false)?;
        }
        clients.iter_mut().try_for_each(Client::reply)?;
    }
    Ok(())
}

/// One connection, with a session of its own.
struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    begin: usize,
}

impl Client {
    /// Asks for a session; [`Client::opened`] waits for it.
    fn connect(server: &str) -> io::Result<Client> {
        let mut stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut body = Vec::new();
        int(0, &mut body);
        body.extend(0i64.to_be_bytes());
        int(TIMEOUT_MS, &mut body);
        body.extend(0i64.to_be_bytes());
        int(16, &mut body);
        body.extend([0; 17]);
        stream.write_all(&framed(&body))?;
        Ok(Client { stream, input: Vec::new(), begin: 0 })
    }

    fn opened(&mut self) -> io::Result<()> {
        let timeout = self.frame(|body| int_at(body, 4))?;
        if timeout > 0 { Ok(()) } else { Err(io::Error::other("the session was refused")) }
    }

    fn open(server: &str) -> io::Result<Client> {
        let mut client = Client::connect(server)?;
        client.opened()?;
        Ok(client)
    }

    fn send(&mut self, op: i32, body: impl FnOnce(&mut Vec<u8>), is_multi: bool) -> io::Result<()> {
        let mut frame = Vec::new();
        int(1, &mut frame);
        int(op, &mut frame);
        body(&mut frame);
        if is_multi {
            int(-1, &mut frame);
            frame.push(1);
            int(-1, &mut frame);
        }
        self.stream.write_all(&framed(&frame))
    }

    /// The next frame's error code; that of the first operation that failed, of a multi.
    fn code(&mut self) -> io::Result<i32> {
        self.frame(|body| match int_at(body, 0) {
            -1 => i32::MIN,
            _ if int_at(body, 12) == 0 && body.len() > 25 && int_at(body, 16) == -1 && body[20] == 0 => {
                int_at(body, 21)
            }
            _ => int_at(body, 12),
        })
    }

    fn reply(&mut self) -> io::Result<()> {
        match self.code()? {
            0 => Ok(()),
            i32::MIN => Err(io::Error::other("an event that nobody expects")),
            code => Err(io::Error::other(format!("an answer with error {code}"))),
        }
    }

    fn create(&mut self, path: &str) -> io::Result<()> {
        self.send(CREATE, |out| create(path, out), false)?;
        match self.code()? {
            0 | NODE_EXISTS => Ok(()),
            code => Err(io::Error::other(format!("create {path}: error {code}"))),
        }
    }

    /// The next frame's event: kind and path.
    fn event(&mut self) -> io::Result<(i32, String)> {
        self.frame(|body| match int_at(body, 0) {
            -1 => (int_at(body, 16), String::from_utf8_lossy(&body[28..]).into_owned()),
            xid => (i32::MIN, format!("the answer to {xid}")),
        })
    }

    fn frame<T>(&mut self, take: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        loop {
            let waiting = &self.input[self.begin..];
            if waiting.len() >= 4 {
                let length = int_at(waiting, 0) as usize;
                if waiting.len() >= 4 + length {
                    let taken = take(&waiting[4..4 + length]);
                    self.begin += 4 + length;
                    return Ok(taken);
                }
            }
            self.input.drain(..self.begin);
            self.begin = 0;
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::Error::other("the server has closed the connection")),
                n => self.input.extend(&chunk[..n]),
            }
        }
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend(body);
    frame
}

fn int(value: i32, out: &mut Vec<u8>) {
    out.extend(value.to_be_bytes());
}

fn int_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn string(text: &str, out: &mut Vec<u8>) {
    int(text.len() as i32, out);
    out.extend(text.as_bytes());
}

fn multi_header(op: i32, out: &mut Vec<u8>) {
    int(op, out);
    out.push(0);
    int(-1, out);
}

/// A persistent node without data that everybody may do everything to.
fn create(path: &str, out: &mut Vec<u8>) {
    string(path, out);
    int(0, out);
    int(1, out);
    int(31, out);
    string("world", out);
    string("anyone", out);
    int(0, out);
}

fn delete(path: &str, out: &mut Vec<u8>) {
    multi_header(DELETE, out);
    string(path, out);
    int(-1, out);
}
