"""The limits of zoo.cfg, each at a running server: what is within is served, what is beyond is closed and said.

The decisions are unit tests beside the code; here is that they are asked, and that the rest goes on.
"""

import contextlib
import select
import socket
import struct

import pytest
from harness import wire
from harness.until import wait_until

#: `addWatch`, and its mode for one path.
ADD_WATCH, PERSISTENT = 106, struct.pack(">i", 0)


def test_more_connections_from_one_address_than_allowed_are_reset(ensemble):
    servers = ensemble(1, config={"maxClientCnxns": 3, "4lw.commands.whitelist": None})
    servers.start()
    member = servers[1]
    # Those of four-letter words count too, until the server has seen their end.
    links = wait_until(lambda: three(member), "three sessions")
    for _ in range(20):
        # It may come before `connect` has returned.
        with pytest.raises(ConnectionResetError), socket.create_connection(member.address, 10) as link:
            link.recv(1)
    with socket.create_connection(member.address, 10, source_address=("127.0.0.9", 0)):
        pass  # Another address has connections of its own.
    links.pop().close()
    wait_until(lambda: three(member, 1), "there is room again")
    for link in links:
        assert link.exists("/")
        link.close()
    said = "Too many connections from /127.0.0.1 - max is 3"
    lines = [line for line in member.log_text().splitlines() if said in line]
    assert 1 <= len(lines) < 20, lines


def three(member, count=3):
    links = []
    try:
        for _ in range(count):
            links.append(member.connect())
    except OSError:
        for link in links:
            link.close()
        return None
    return links


def test_the_longest_frame_is_that_of_jute_maxbuffer_on_every_server_link_and_disk(ensemble):
    servers = ensemble(3, config={"jute.maxbuffer": 4 << 20})
    servers.start()
    data = bytes(range(256)) * (3 << 12)
    with servers.followers()[0].connect(timeout_s=30.0) as link:
        link.create("/three-mebibytes", data)
        link.send_raw(struct.pack(">i", (4 << 20) + 1))
        with pytest.raises(ConnectionError):
            link.recv()
    for member in servers:
        with member.connect(timeout_s=30.0) as link:
            link.sync()
            assert link.get("/three-mebibytes")[0] == data
            link.close_session()
    for member in servers:
        member.kill()
    servers.start()
    with servers.wait_leader().connect(timeout_s=30.0) as link:
        assert link.get("/three-mebibytes")[0] == data


def test_a_connect_request_that_comes_byte_by_byte_comes_too_late(ensemble):
    servers = ensemble(1, config={"nio.sessionlessCnxnTimeout": 1000})
    servers.start()
    request = wire.buffer(struct.pack(">iqiq", 0, 0, 10_000, 0) + wire.buffer(bytes(16)) + b"\0")
    with socket.create_connection(servers[1].address, 10) as link:
        for at in range(len(request) - 1):
            # Each byte is news from the client; but all of them are no handshake.
            link.send(request[at : at + 1])
            if select.select([link], [], [], 0.25)[0]:
                assert link.recv(1) == b""
                return
    raise AssertionError("12 s for a connect request")


def test_connect_requests_beyond_the_tokens_are_closed_without_an_answer(ensemble):
    servers = ensemble(1, config={"connectionMaxTokens": 3, "connectionTokenFillTime": 3_600_000})
    servers.start()
    links = [servers[1].connect() for _ in range(3)]
    with pytest.raises(wire.Refused):
        servers[1].connect()
    for link in links:
        assert link.exists("/")
        link.close()
    assert "Connection throttled" in servers[1].log_text()


def test_large_requests_beyond_their_bytes_are_closed_and_small_ones_are_not(ensemble):
    servers = ensemble(1, config={"largeRequestThreshold": 1000, "largeRequestMaxBytes": 5000})
    servers.start()
    with servers[1].connect() as link:
        link.create("/large", bytes(4000))
        link.send(wire.SET_DATA, wire.set_body("/large", bytes(6000)))
        with pytest.raises(ConnectionError):
            link.recv()
    with servers[1].connect() as link:
        # Half of one is enough to know.
        link.send_raw(struct.pack(">i", 6000))
        with pytest.raises(ConnectionError):
            link.recv()
    with servers[1].connect() as link:
        assert len(link.get("/large")[0]) == 4000
    assert "Rejecting large request" in servers[1].log_text()


@pytest.mark.parametrize(
    "limit", [{"globalOutstandingLimit": 1}, {"requestThrottleLimit": 2, "requestThrottleStallTime": 1}], ids=str
)
def test_many_pipelines_behind_a_narrow_limit_all_get_their_answers(ensemble, limit):
    servers = ensemble(1, config=limit)
    servers.start()
    links = [servers[1].connect(timeout_s=60.0) for _ in range(5)]
    for number, link in enumerate(links):
        path = f"/n{number}"
        link.send_many([(wire.CREATE, wire.create_body(path)), (wire.GET_DATA, wire.watch_body(path))] * 200)
    for link in links:
        answers = [link.recv() for _ in range(400)]
        assert [answer.err for answer in answers[:4]] == [0, 0, wire.NODE_EXISTS, 0]
        assert [answer.xid for answer in answers] == list(range(1, 401))
        link.close_session()


def test_a_client_that_does_not_read_its_events_sees_the_end_and_before_it_no_gap(ensemble):
    servers = ensemble(1, config={"maxSessionTimeout": 60_000})
    servers.start()
    member = servers[1]
    # Long paths make long events: less has to happen until there are too many.
    path = "/" + "x" * 5_000
    with member.connect(wire.Session(60_000)) as writer, member.connect(wire.Session(60_000)) as deaf:
        writer.create(path)
        deaf.call(ADD_WATCH, wire.string(path) + PERSISTENT)
        changes = 0

        def is_ended():
            return "it does not read" in member.log_text()

        # 150 MB are more than a server keeps for one client; the line may come a moment behind the end.
        while changes < 30_000 and not is_ended():
            changes += 500
            writer.send_many([(wire.SET_DATA, wire.set_body(path, b""))] * 500)
            last = [writer.recv() for _ in range(500)][-1]
        wait_until(is_ended, "the end of the client that does not read")
        zxids = []
        with contextlib.suppress(ConnectionError):
            while len(zxids) < changes:
                zxids.append(deaf.wait_event().zxid)
        assert zxids, "what was sent before is still there"
        assert zxids == list(range(zxids[0], zxids[0] + len(zxids)))
        assert zxids[-1] < last.zxid, "it had to miss some, and saw the end instead"
