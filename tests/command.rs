//! The command as a process: exit codes, and a log that nobody reads.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

mod wire;

fn zabkit(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zabkit"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A port that was free a moment ago.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn write_config(dir: &Path, addr: SocketAddr) -> String {
    let file = dir.join("zoo.cfg");
    let (data, port) = (dir.join("data"), addr.port());
    let text = format!("tickTime=200\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\n", data.display());
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

fn wait_serving(child: &mut Child, addr: SocketAddr) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(addr).is_err() || !wire::word(addr, b"srvr").contains("Mode: standalone") {
        assert!(Instant::now() < deadline, "nobody serves at {addr}");
        assert!(child.try_wait().unwrap().is_none(), "the server has ended");
        std::thread::yield_now();
    }
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn a_server_whose_log_nobody_reads_serves_and_ends_cleanly() {
    let dir = tempfile::tempdir().unwrap();
    let addr = free_port();
    let config = write_config(dir.path(), addr);
    let mut child = zabkit(&["server", &config]).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    wait_serving(&mut child, addr);
    signal(&child, rustix::process::Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn exit_codes_tell_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let code = |arguments: &[&str]| zabkit(arguments).stderr(Stdio::null()).status().unwrap().code();
    assert_eq!(code(&["--version"]), Some(0));
    assert_eq!(code(&["server"]), Some(2));
    assert_eq!(code(&["server", "/nonexistent/zoo.cfg"]), Some(2));
    assert_eq!(code(&["server", "port", dir.path().to_str().unwrap()]), Some(2));

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = write_config(dir.path(), taken.local_addr().unwrap());
    assert_eq!(code(&["server", &config]), Some(1));

    std::fs::remove_dir_all(dir.path().join("data")).unwrap();
    std::fs::write(dir.path().join("data"), "a file where the directory should be").unwrap();
    assert_eq!(code(&["server", &config]), Some(3));
}

#[test]
fn sigint_ends_with_130_and_what_was_written_is_there_after_it() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..2 {
        let addr = free_port();
        let config = write_config(dir.path(), addr);
        let mut child = zabkit(&["server", &config]).stderr(Stdio::null()).spawn().unwrap();
        wait_serving(&mut child, addr);
        let mut client = wire::Client::connect(addr).unwrap();
        if round == 0 {
            client.create("/kept", b"over SIGINT").unwrap();
        }
        assert_eq!(client.get("/kept").unwrap(), b"over SIGINT");
        signal(&child, rustix::process::Signal::INT);
        assert_eq!(child.wait().unwrap().code(), Some(130));
    }
}
