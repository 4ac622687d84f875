//! TLS and logins between the servers of a real ensemble, over sockets: how they are introduced server by server while
//! the others go on, and who stays outside.

mod wire;

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};
use wire::Client;
use zabkit::server::{Config, Listeners, Role, Server, Status};

const PATIENCE: Duration = Duration::from_secs(60);

/// Three servers whose configuration can be changed one by one.
struct Ensemble {
    dir: tempfile::TempDir,
    ports: Vec<[u16; 2]>,
    servers: Vec<Option<Server>>,
    written: usize,
}

impl Ensemble {
    fn start(settings: &str) -> Ensemble {
        let held: Vec<[TcpListener; 2]> =
            (0..3).map(|_| [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap())).collect();
        let ports = held.iter().map(|pair| pair.each_ref().map(|each| each.local_addr().unwrap().port())).collect();
        let dir = tempfile::tempdir().unwrap();
        let mut ensemble = Ensemble { dir, ports, servers: Vec::new(), written: 0 };
        for (index, [quorum, election]) in held.into_iter().enumerate() {
            let listeners = Listeners { client: None, quorum: Some(quorum), election: Some(election) };
            let server = Server::start(ensemble.config(index, settings), listeners).unwrap();
            ensemble.servers.push(Some(server));
        }
        ensemble
    }

    fn config(&self, index: usize, settings: &str) -> Config {
        let data = self.dir.path().join(index.to_string());
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(data.join("myid"), format!("{}\n", index + 1)).unwrap();
        let mut text = format!(
            "dataDir={}\ntickTime=500\ninitLimit=20\nsyncLimit=10\nclientPort=0\nclientPortAddress=127.0.0.1\n\
             preAllocSize=64\n{settings}",
            data.display()
        );
        for (index, [quorum, election]) in self.ports.iter().enumerate() {
            let _ = writeln!(text, "server.{}=127.0.0.1:{quorum}:{election}", index + 1);
        }
        let file = self.dir.path().join(format!("zoo{index}.cfg"));
        std::fs::write(&file, text).unwrap();
        Config::from_file(&file).unwrap()
    }

    fn restart(&mut self, index: usize, settings: &str) {
        drop(self.servers[index].take().map(|server| server.stop()));
        let config = self.config(index, settings);
        self.servers[index] = Some(Server::start(config, Listeners::default()).unwrap());
    }

    fn server(&self, index: usize) -> &Server {
        self.servers[index].as_ref().unwrap()
    }

    /// Waits until all three serve, and all see what is written through each.
    fn check(&mut self) {
        for index in 0..3 {
            wait_until(self.server(index), |status| status.serving);
        }
        for through in 0..3 {
            self.written += 1;
            let path = format!("/n{}", self.written);
            let mut client = Client::connect(self.server(through).client_addr()).unwrap();
            client.create(&path, b"x").unwrap();
            let zxid = self.server(through).status().last_processed;
            for index in 0..3 {
                wait_until(self.server(index), |status| status.last_processed >= zxid);
            }
        }
        let digests: Vec<u64> = (0..3).map(|index| self.server(index).status().tree_digest).collect();
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    }

    /// Everybody gets the new settings, one after the other, while the other two go on.
    fn roll(&mut self, settings: &str) {
        for index in 0..3 {
            self.restart(index, settings);
            self.check();
        }
    }
}

fn wait_until(server: &Server, is_there: impl Fn(&Status) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut status = server.status();
    while !is_there(&status) {
        assert!(Instant::now() < deadline && status.role != Role::Ended, "{status:?}");
        // Not every change is a transition.
        status = server.wait_status(status.version, deadline.min(Instant::now() + Duration::from_millis(20)));
    }
}

fn tls_keys() -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/tls");
    let dir = dir.display();
    format!("ssl.quorum.keyStore.location={dir}/server.pem\nssl.quorum.trustStore.location={dir}/ca.pem\n")
}

/// ZooKeeper's guide, "Upgrading existing non-TLS cluster with no downtime", and all the way back.
#[test]
fn tls_between_servers_comes_and_goes_in_three_steps_while_the_ensemble_serves() {
    let keys = tls_keys();
    let both = format!("{keys}portUnification=true\n");
    let dial = format!("{keys}sslQuorum=true\nportUnification=true\n");
    let only = format!("{keys}sslQuorum=true\n");
    let mut ensemble = Ensemble::start("");
    ensemble.check();
    for settings in [&both, &dial, &only] {
        ensemble.roll(settings);
    }
    // Who speaks no TLS stays outside, and who speaks it again comes in.
    ensemble.restart(0, "");
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        let status = ensemble.server(0).status();
        assert!(!status.serving, "{status:?}");
        ensemble.server(0).wait_status(status.version, deadline);
    }
    ensemble.restart(0, &only);
    ensemble.check();
    for settings in [&dial, &both, &String::new()] {
        ensemble.roll(settings);
    }
}

/// ZooKeeper's guide, "ZooKeeper and SASL between servers": who may, who does, who must.
#[test]
fn logins_between_servers_come_in_three_steps_while_the_ensemble_serves() {
    let dir = tempfile::tempdir().unwrap();
    let jaas = |name: &str, password: &str| {
        let module = "org.apache.zookeeper.server.auth.DigestLoginModule required";
        let file = dir.path().join(name);
        let text = format!(
            "QuorumServer {{ {module} user_test=\"mypassword\"; }};\n\
             QuorumLearner {{ {module} username=\"test\" password=\"{password}\"; }};\n"
        );
        std::fs::write(&file, text).unwrap();
        format!("java.security.auth.login.config={}\nquorum.auth.enableSasl=true\n", file.display())
    };
    let may = jaas("good.conf", "mypassword");
    let does = format!("{may}quorum.auth.learnerRequireSasl=true\n");
    let must = format!("{does}quorum.auth.serverRequireSasl=true\n");
    let mut ensemble = Ensemble::start("");
    ensemble.check();
    for settings in [&may, &does, &must] {
        ensemble.roll(settings);
    }
    let wrong = jaas("bad.conf", "other");
    ensemble.restart(2, &format!("{wrong}quorum.auth.learnerRequireSasl=true\nquorum.auth.serverRequireSasl=true\n"));
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        let status = ensemble.server(2).status();
        assert!(!status.serving, "{status:?}");
        ensemble.server(2).wait_status(status.version, deadline);
    }
    ensemble.restart(2, &must);
    ensemble.check();
}
