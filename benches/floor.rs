//! The floor under the figures: what this machine allows a server that does nothing but the unavoidable.
//!
//! - `floor echo`: a server that reads frames and writes an answer of a `getData`'s size for each, with the request's
//!   xid and nothing looked up. It understands just enough of a connect request for the load generator to talk to it,
//!   so the very same load runs on it. One thread a connection, blocking: a lone request costs one read and one write.
//! - `floor log DIR WRITERS BATCH SECONDS`: appends BATCH records with one write into room made ahead, `fdatasync`,
//!   again; WRITERS files at once, as the servers of an ensemble do. Prints one JSON line.
//!
//! Only std, so that `rustc` alone builds it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// A transaction of a 100-byte value in the log.
const RECORD_BYTES: usize = 166;
/// The room made ahead, written round and round.
const FILE_BYTES: usize = 64 << 20;
/// A `getData` answer behind its header: a buffer of 100 bytes and a stat.
const BODY_BYTES: usize = 4 + 100 + 68;
/// The opcode that ends a session.
const CLOSE_SESSION: i32 = -11;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["echo"] => echo(),
        ["log", dir, writers, batch, seconds] => {
            let (writers, batch) = (number(writers)?, number(batch)?);
            log(Path::new(dir), writers, batch, Duration::from_secs_f64(number(seconds)?))
        }
        // `cargo test --benches` runs it without a word.
        _ => {
            println!("usage: floor echo | floor log DIR WRITERS BATCH SECONDS");
            Ok(())
        }
    }
}

fn number<T: std::str::FromStr>(word: &str) -> io::Result<T> {
    word.parse().map_err(|_| io::Error::other(format!("{word} is not a number")))
}

/// Serves on a port of the system's choice, which it prints, until it is killed.
fn echo() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    io::stdout().flush()?;
    loop {
        let (stream, _) = listener.accept()?;
        std::thread::Builder::new().stack_size(128 << 10).spawn(move || serve(stream))?;
    }
}

/// One connection; its end, and anything that is no frame, ends it.
fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = vec![0; 64 << 10];
    let (mut filled, mut is_connected) = (0, false);
    let mut output = Vec::new();
    loop {
        let n = stream.read(&mut input[filled..])?;
        if n == 0 {
            return Ok(());
        }
        filled += n;
        let (mut begin, mut is_end) = (0, false);
        while let Some((length, rest)) = input[begin..filled].split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            if rest.len() < length {
                break;
            }
            is_end |= answer(&rest[..length], !is_connected, &mut output)?;
            is_connected = true;
            begin += 4 + length;
        }
        stream.write_all(&output)?;
        output.clear();
        input.copy_within(begin..filled, 0);
        filled -= begin;
        if is_end || filled == input.len() {
            return Ok(());
        }
    }
}

/// Answers one frame; true: the session ends with it.
fn answer(frame: &[u8], is_connect: bool, output: &mut Vec<u8>) -> io::Result<bool> {
    let int = |at: usize| {
        let bytes = frame.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(i32::from_be_bytes).ok_or_else(|| io::Error::other("a short frame"))
    };
    if is_connect {
        // protocol version, timeout, session id, password, read only
        output.extend_from_slice(&37u32.to_be_bytes());
        output.extend_from_slice(&0i32.to_be_bytes());
        output.extend_from_slice(&int(12)?.to_be_bytes());
        output.extend_from_slice(&1i64.to_be_bytes());
        output.extend_from_slice(&16i32.to_be_bytes());
        output.extend_from_slice(&[7; 17]);
        return Ok(false);
    }
    output.extend_from_slice(&((16 + BODY_BYTES) as u32).to_be_bytes());
    output.extend_from_slice(&int(0)?.to_be_bytes());
    output.extend_from_slice(&1i64.to_be_bytes());
    output.extend_from_slice(&0i32.to_be_bytes());
    output.extend_from_slice(&100i32.to_be_bytes());
    output.resize(output.len() + BODY_BYTES - 4, b'x');
    Ok(int(4)? == CLOSE_SESSION)
}

/// Appends and syncs in `writers` threads at once, each with a file of its own.
fn log(dir: &Path, writers: usize, batch: usize, limit: Duration) -> io::Result<()> {
    let files: io::Result<Vec<File>> = (0..writers).map(|n| prepare(&dir.join(format!("floor-{n}")))).collect();
    let files = files?;
    let (cpu, began) = (cpu_seconds()?, Instant::now());
    let threads: Vec<_> =
        files.into_iter().map(|file| std::thread::spawn(move || append(&file, batch, limit))).collect();
    let mut micros = Vec::new();
    for thread in threads {
        micros.extend(thread.join().expect("a writer has panicked")?);
    }
    let seconds = began.elapsed().as_secs_f64();
    let syncs = micros.len() as f64 / writers as f64;
    let cpu = (cpu_seconds()? - cpu) / (syncs * batch as f64) * 100_000.0;
    micros.sort_unstable();
    let at = |quantile: f64| micros[((micros.len() - 1) as f64 * quantile) as usize];
    println!(
        "{{\"mode\":\"floor-log\",\"writers\":{writers},\"batch\":{batch},\"cpu_s_per_100k\":{cpu:.4},\
         \"ops_per_s\":{:.0},\"p50\":{},\"p99\":{}}}",
        syncs * batch as f64 / seconds,
        at(0.5),
        at(0.99),
    );
    (0..writers).try_for_each(|n| std::fs::remove_file(dir.join(format!("floor-{n}"))))
}

/// A file of zeros, so that no sync has to make it longer.
fn prepare(path: &Path) -> io::Result<File> {
    let file = File::create(path)?;
    for n in 0..(FILE_BYTES >> 20) as u64 {
        file.write_all_at(&[0; 1 << 20], n << 20)?;
    }
    file.sync_all()?;
    Ok(file)
}

/// Writes and syncs until `limit` is over; what each round took, in microseconds.
fn append(file: &File, batch: usize, limit: Duration) -> io::Result<Vec<u64>> {
    let records = vec![b'r'; batch * RECORD_BYTES];
    let (began, mut at, mut micros) = (Instant::now(), 0, Vec::new());
    while began.elapsed() < limit {
        if at + records.len() > FILE_BYTES {
            at = 0;
        }
        let round = Instant::now();
        file.write_all_at(&records, at as u64)?;
        file.sync_data()?;
        micros.push(round.elapsed().as_micros() as u64);
        at += records.len();
    }
    Ok(micros)
}

/// User and system time of this process so far; the kernel counts in hundredths of a second.
fn cpu_seconds() -> io::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / 100.0)
}
