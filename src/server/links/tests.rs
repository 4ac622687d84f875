//! Streams cut anywhere, and links over real sockets.

use super::decoder::Decoder;
use super::*;
use crate::jute::{Reader, Record};
use crate::peer::io::Proposal;
use crate::records::TXN_BYTES_MAX;
use crate::records::{SessionId, SetDataTxn, SnapshotItem, SnapshotSession, Txn, TxnBody, Zxid};
use std::sync::mpsc::{Sender, TryRecvError, channel};

fn items() -> Vec<SnapshotItem> {
    vec![
        SnapshotItem::SessionCount(1),
        SnapshotItem::Session(SnapshotSession { session: SessionId(7), timeout_ms: 100 }),
        SnapshotItem::AclCount(0),
        SnapshotItem::End,
    ]
}

fn ack(counter: i64) -> QuorumPacket {
    QuorumPacket::Ack { zxid: Zxid(counter) }
}

/// What the inputs say, packets and items one by one.
fn flat(inputs: Vec<Input>) -> Vec<String> {
    let one = |input| match input {
        Input::Packets { packets, .. } => packets.iter().map(|packet| format!("{packet:?}")).collect::<Vec<_>>(),
        Input::SnapshotItems { items, end, .. } => {
            let ends = end.then(|| "signature".to_owned());
            items.iter().map(|item| format!("{item:?}")).chain(ends).collect()
        }
        other => vec![format!("{other:?}")],
    };
    inputs.into_iter().flat_map(one).collect()
}

#[test]
fn packets_and_a_snapshot_are_the_same_however_the_stream_is_cut() {
    let mut stream = Vec::new();
    ack(1).write(&mut stream);
    QuorumPacket::Snap { zxid: Zxid(2) }.write(&mut stream);
    items().iter().for_each(|item| item.write(&mut stream));
    write_string(SNAPSHOT_SIGNATURE, &mut stream);
    ack(3).write(&mut stream);

    let decode = |sizes: usize| {
        let (mut decoder, mut inputs) = (Decoder::new(true, TXN_BYTES_MAX), Vec::new());
        for part in stream.chunks(sizes) {
            decoder.bytes.extend_from_slice(part);
            decoder.decode(LinkId(1), &mut |input| inputs.push(input)).unwrap();
        }
        assert!(decoder.bytes.is_empty());
        flat(inputs)
    };
    let whole = decode(stream.len());
    assert_eq!(whole.len(), 2 + items().len() + 1 + 1);
    for sizes in 1..20 {
        assert_eq!(decode(sizes), whole, "cut into {sizes} bytes");
    }
}

#[test]
fn a_wrong_signature_ends_the_stream_and_an_unknown_packet_is_skipped() {
    let mut stream = Vec::new();
    QuorumPacket::Snap { zxid: Zxid(2) }.write(&mut stream);
    items().iter().for_each(|item| item.write(&mut stream));
    write_string("BenWasGone", &mut stream);
    let mut decoder = Decoder::new(true, TXN_BYTES_MAX);
    decoder.bytes = stream;
    assert!(decoder.decode(LinkId(1), &mut |_| {}).is_err());

    let (mut decoder, mut inputs) = (Decoder::new(true, TXN_BYTES_MAX), Vec::new());
    99i32.write(&mut decoder.bytes);
    decoder.bytes.extend_from_slice(&[0; 12]);
    decoder.bytes.extend_from_slice(&[0xff; 4]);
    ack(1).write(&mut decoder.bytes);
    decoder.decode(LinkId(1), &mut |input| inputs.push(input)).unwrap();
    assert_eq!(flat(inputs), [format!("{:?}", ack(1))]);
}

/// Chunks that are ready only one after the other, larger in all than any socket's buffers.
struct Source {
    chunks: std::vec::IntoIter<Vec<u8>>,
}

impl ChunkSource for Source {
    fn next_chunk(&mut self, _: usize, out: &mut Vec<u8>) -> Chunk {
        out.extend(self.chunks.next().unwrap());
        if self.chunks.len() == 0 { Chunk::Last } else { Chunk::More }
    }
}

/// Has nothing until its thread has.
struct Slow(std::sync::mpsc::Receiver<Vec<u8>>);

impl ChunkSource for Slow {
    fn next_chunk(&mut self, _: usize, out: &mut Vec<u8>) -> Chunk {
        match self.0.try_recv() {
            Ok(bytes) => {
                out.extend(bytes);
                Chunk::More
            }
            Err(TryRecvError::Empty) => Chunk::Later,
            Err(TryRecvError::Disconnected) => Chunk::Last,
        }
    }
}

#[tokio::test]
async fn a_stream_that_has_nothing_yet_is_waited_for_and_what_is_sent_meanwhile_follows_it() {
    let (mut links, link, mut peer, _inputs) = pair().await;
    let (sender, receiver) = channel();
    let mut wake = None;
    links.stream(link, |of| {
        wake = Some(of);
        Box::new(Slow(receiver))
    });
    links.send(link, &ack(9));
    links.flush();
    let wake = wake.unwrap();
    let read = |peer: &mut std::net::TcpStream| {
        let mut bytes = [0; 20];
        std::io::Read::read_exact(peer, &mut bytes).unwrap();
        QuorumPacket::take(&mut Reader::new(&bytes), false).unwrap().unwrap()
    };
    for counter in 1..=3 {
        tokio::task::yield_now().await;
        let mut bytes = Vec::new();
        ack(counter).write(&mut bytes);
        sender.send(bytes).unwrap();
        wake.wake();
        let mut reader = peer.try_clone().unwrap();
        let got = tokio::task::spawn_blocking(move || read(&mut reader)).await.unwrap();
        assert_eq!(got, ack(counter));
    }
    drop(sender);
    wake.wake();
    let got = tokio::task::spawn_blocking(move || read(&mut peer)).await.unwrap();
    assert_eq!(got, ack(9));
}

type Events = mpsc::UnboundedReceiver<Event>;

async fn pair() -> (Links, LinkId, std::net::TcpStream, Events) {
    pair_with_limit(LINK_BYTES_MAX).await
}

async fn pair_with_limit(bytes_max: usize) -> (Links, LinkId, std::net::TcpStream, Events) {
    let (sender, mut events) = mpsc::unbounded_channel();
    let limits = Limits { bytes_max, txn_bytes_max: TXN_BYTES_MAX };
    let mut links = Links::with_limits(sender, Arc::default(), Network::default(), Access::default(), limits);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    links.listen(listener, AcceptedBy::QuorumPort).unwrap();
    let peer = tokio::task::spawn_blocking(move || std::net::TcpStream::connect(addr).unwrap()).await.unwrap();
    let Some(Event::Input(Input::LearnerLinkUp { link })) = events.recv().await else { panic!("no link") };
    (links, link, peer, events)
}

#[tokio::test]
async fn what_is_sent_while_a_snapshot_is_streamed_follows_it() {
    let (mut links, link, mut peer, _inputs) = pair().await;
    let mut body = Vec::new();
    items()[..3].iter().for_each(|item| item.write(&mut body));
    let mut chunks = vec![body.clone()];
    let mut node = Vec::new();
    let stat = crate::records::StatPersisted::from_bytes(&[0; 100]).unwrap();
    crate::records::write_snapshot_node("/a", Some(&vec![7; 60_000]), -1, &stat, &mut node);
    chunks.extend(std::iter::repeat_n(node, 400));
    let mut end = Vec::new();
    SnapshotItem::End.write(&mut end);
    chunks.push(end);
    let length: usize = chunks.iter().map(Vec::len).sum();

    links.send(link, &QuorumPacket::Snap { zxid: Zxid(2) });
    links.stream_snapshot(link, Box::new(Source { chunks: chunks.into_iter() }));
    links.send(link, &ack(3));
    links.flush();
    links.close(link);
    links.flush();

    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut peer, &mut bytes).unwrap();
        bytes
    });
    let bytes = read.await.unwrap();
    assert!(bytes.len() > length);
    let (mut decoder, mut inputs) = (Decoder::new(true, TXN_BYTES_MAX), Vec::new());
    decoder.bytes = bytes;
    decoder.decode(LinkId(1), &mut |input| inputs.push(input)).unwrap();
    let told = flat(inputs);
    assert_eq!(told.len(), 1 + 3 + 400 + 1 + 1 + 1);
    assert_eq!(told[told.len() - 2..], ["signature".to_owned(), format!("{:?}", ack(3))]);
}

#[tokio::test]
async fn the_other_sides_end_is_told_and_nothing_is_written_behind_a_shut_gate() {
    let (mut links, link, peer, inputs) = pair().await;
    links.shared.gate.shut();
    links.send(link, &ack(1));
    links.flush();
    peer.set_nonblocking(true).unwrap();
    match std::io::Read::read(&mut &peer, &mut [0; 1]) {
        Ok(n) => assert_eq!(n, 0),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
    }
    drop(peer);

    let (links, link, peer, mut inputs_of_second) = pair().await;
    drop(peer);
    assert_eq!(link_down(&mut inputs_of_second).await, (link, "the other side has closed the connection".to_owned()));
    drop((links, inputs));
}

async fn link_down(events: &mut Events) -> (LinkId, String) {
    let down = async {
        loop {
            if let Some(Event::Input(Input::LinkDown { link, reason })) = events.recv().await {
                return (link, reason);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), down).await.unwrap()
}

#[tokio::test]
async fn a_peer_that_does_not_read_loses_its_link_when_too_much_waits_for_it() {
    let (mut links, link, _peer, mut inputs) = pair_with_limit(1 << 20).await;
    let packet = QuorumPacket::Proposal { zxid: Zxid(1), txn: vec![7; 1 << 20].into() };
    // More than the sockets' buffers take, and the limit.
    for _ in 0..64 {
        links.send(link, &packet);
        links.flush();
    }
    let (down, reason) = link_down(&mut inputs).await;
    assert_eq!(down, link);
    assert!(reason.ends_with("it is too slow"), "{reason}");
}

/// One chunk, and then a bug.
struct Broken(bool);

impl ChunkSource for Broken {
    fn next_chunk(&mut self, bytes_max: usize, out: &mut Vec<u8>) -> Chunk {
        assert!(!std::mem::replace(&mut self.0, true), "on purpose");
        out.resize(out.len() + bytes_max, 7);
        Chunk::More
    }
}

#[tokio::test]
async fn a_panic_of_a_link_is_told() {
    let (mut links, link, _peer, mut events) = pair().await;
    links.stream_snapshot(link, Box::new(Broken(false)));
    links.flush();
    let Some(Event::Fail { reason, .. }) = events.recv().await else { panic!("something else was told") };
    assert_eq!(reason, "a link between servers has panicked: on purpose");
}

/// Never ends; tells when it is dropped.
struct Endless(#[expect(dead_code, reason = "its end is the news")] Sender<()>);

impl ChunkSource for Endless {
    fn next_chunk(&mut self, bytes_max: usize, out: &mut Vec<u8>) -> Chunk {
        out.resize(out.len() + bytes_max, 7);
        Chunk::More
    }
}

#[tokio::test]
async fn a_closed_link_lets_go_of_its_snapshot_though_the_peer_does_not_read() {
    let (mut links, link, _peer, _inputs) = pair().await;
    let (source, dropped) = channel();
    links.stream_snapshot(link, Box::new(Endless(source)));
    links.flush();
    links.close(link);
    links.flush();
    drop(links);
    let gone = async {
        while dropped.try_recv() != Err(TryRecvError::Disconnected) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
}

fn proposals(count: i64, data_len: usize) -> Vec<Proposal> {
    let txn = |zxid| Txn {
        session: SessionId(1),
        cxid: 0,
        zxid: Zxid(zxid),
        time_ms: 0,
        body: TxnBody::SetData(SetDataTxn { path: "/a".into(), data: Some(vec![7; data_len]), version: 1 }),
        digest: None,
    };
    (1..=count).map(|zxid| Proposal::new(txn(zxid))).collect()
}

/// All packets that come until the end of the link.
async fn packets_until_closed(mut peer: std::net::TcpStream) -> Vec<QuorumPacket> {
    let read = move || {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut peer, &mut bytes).unwrap();
        let (mut reader, mut packets) = (Reader::new(&bytes), Vec::new());
        while let Some(packet) = QuorumPacket::take(&mut reader, true).unwrap() {
            packets.push(packet);
        }
        packets
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

#[tokio::test]
async fn a_history_far_larger_than_what_may_wait_is_sent_as_the_peer_takes_it() {
    let (mut links, link, peer, mut inputs) = pair_with_limit(1 << 20).await;
    let history = proposals(64, 1 << 20);
    links.stream(link, |_| Box::new(Recent::new(history.clone())));
    links.send(link, &ack(9));
    // The peer reads nothing for a while: what is made does not grow.
    for _ in 0..200 {
        links.flush();
        tokio::task::yield_now().await;
        let known = links.known(link).unwrap();
        let out = lock(&known.out);
        assert!(out.bytes.len() <= (1 << 20) + CHUNK_BYTES + 200, "{} bytes wait", out.bytes.len());
    }
    let reading = tokio::spawn(packets_until_closed(peer));
    while links.known(link).is_some_and(|known| !lock(&known.out).streams.is_empty()) {
        tokio::task::yield_now().await;
    }
    links.close(link);
    links.flush();
    let got = reading.await.unwrap();
    let expected: Vec<_> = history.iter().flat_map(Proposal::packets).chain([ack(9)]).collect();
    assert!(got == expected, "{} packets of {}", got.len(), expected.len());
    assert!(inputs.try_recv().is_err(), "the link was never down");
}

#[tokio::test]
async fn a_stream_may_follow_another() {
    let (mut links, link, peer, _inputs) = pair().await;
    let history = proposals(9, 30_000);
    let (logged, recent) = history.split_at(5);
    links.stream(link, |_| Box::new(Recent::new(logged.to_vec())));
    links.stream(link, |_| Box::new(Recent::new(recent.to_vec())));
    links.send(link, &ack(9));
    links.flush();
    let reading = tokio::spawn(packets_until_closed(peer));
    while links.known(link).is_some_and(|known| !lock(&known.out).streams.is_empty()) {
        tokio::task::yield_now().await;
    }
    links.close(link);
    links.flush();
    let expected: Vec<_> = history.iter().flat_map(Proposal::packets).chain([ack(9)]).collect();
    assert_eq!(reading.await.unwrap(), expected);
}
