//! The recorded requests with bytes changed, cut and added: whatever comes, the server serves on, and the digest that
//! prepare predicts stays that of the tree.

use super::host::{Host, frames};
use super::vectors;
use zabkit::jute::Record;
use zabkit::records::{ConnectRequest, ReplyHeader, Request, RequestHeader, SessionId, Zxid};

const FRAMES: usize = 20_000;

/// A small generator with a fixed seed: every run is the same.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

fn mutate(frame: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..random.below(4) {
        let at = random.below(frame.len().max(1));
        match random.below(4) {
            // Most changes hit the body: another operation is mostly none.
            0 if at < frame.len() => frame[at] = random.below(256) as u8,
            1 if at >= 8 && at < frame.len() => frame[at] ^= 1 << random.below(8),
            2 if at >= 8 => frame.truncate(at),
            _ => frame.extend((0..random.below(9)).map(|n| n as u8)),
        }
    }
}

fn connect(host: &mut Host, name: &str) {
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid(0),
        timeout_ms: 30_000,
        session: SessionId(0),
        password: None,
        read_only: None,
    };
    host.open(name);
    send(host, name, &request.to_bytes());
}

fn send(host: &mut Host, name: &str, frame: &[u8]) {
    host.send(name, &[&(frame.len() as i32).to_be_bytes(), frame].concat());
}

#[test]
fn mutated_requests_do_no_harm() {
    let scenarios = vectors::load();
    let steps = scenarios.iter().flat_map(|scenario| &scenario.steps);
    let recorded: Vec<Vec<u8>> =
        steps.flat_map(|step| frames(&step.send).unwrap_or_default()).map(<[u8]>::to_vec).collect();
    let (mut host, mut random) = (Host::new(), Random(1));
    let (mut connections, mut replies, mut errors) = (0, 0, 0);
    let mut name = String::new();
    for _ in 0..FRAMES {
        if name.is_empty() || host.closed().contains(&name) {
            connections += 1;
            name = connections.to_string();
            host.forget_closed();
            connect(&mut host, &name);
            host.take_frames();
        }
        let mut frame = recorded[random.below(recorded.len())].clone();
        mutate(&mut frame, &mut random);
        send(&mut host, &name, &frame);
        for reply in host.take_frames().into_values().flatten() {
            let header = ReplyHeader::from_bytes(&reply[4..]).expect("a reply has a header");
            replies += 1;
            errors += usize::from(header.err != 0);
        }
    }
    println!("{FRAMES} frames, {connections} connections, {replies} replies, {errors} of them errors");
    assert!(replies > FRAMES / 2 && errors > 1000 && replies - errors > 1000);

    connect(&mut host, "last");
    host.take_frames();
    let mut ping = RequestHeader { xid: 1, op: Request::Ping.op() }.to_bytes();
    Request::Ping.write(&mut ping);
    send(&mut host, "last", &ping);
    assert_eq!(host.take_frames()["last"].len(), 1, "the server serves on");
}
