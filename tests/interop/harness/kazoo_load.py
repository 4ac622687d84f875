"""Clients that would notice: kazoo clients that write, hold ephemerals and watch while servers come and go.

Each `Client` is one kazoo client with one session. It creates znodes of its own, ``/load/<client>/<number>``, and notes
what was acknowledged; a write without an answer counts for nothing and is not repeated. It holds one ephemeral,
``/held/<client>``, and watches data and children of ``/watched``.

The watched node is changed in turns: a change, then all watchers must have seen this very change, then the next one.
So a change that a watch does not tell of is not made good by the one after it. kazoo sets its watches anew when it
comes back, and reads. Beside it, a `BareWatcher` hands its one-shot watch over with setWatches, as ZooKeeper's own
clients do, and wants an event for each change; a `PersistentWatcher` does so with a persistent one: kazoo has none.

`Load` puts them together, and counts what was lost.
"""

import collections
import itertools
import logging
import struct
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionClosedError, KazooException, NodeExistsError, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import EventType, KazooState
from kazoo.retry import KazooRetry

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "process"))

from harness import wire  # noqa: E402
from harness.tree import differences, read_tree_of  # noqa: E402
from harness.until import NotInTime, wait_until  # noqa: E402

logging.getLogger("kazoo").setLevel(logging.CRITICAL)  # It says each lost connection, and we ask for many.

#: Longer than any change of servers takes on a busy machine: a session that is lost then was lost by a server.
SESSION_S = 30.0
#: A change that a watcher has not seen after this time is lost.
EVENT_S = 30.0
#: Between two writes of one client: a load that leaves the machine to the servers that start.
PACE_S = 0.01
WATCHED, HELD, WRITTEN = "/watched", "/held", "/load"
SET_WATCHES2, ADD_WATCH = 105, 106


class ChildrenWatch:
    """Calls ``told(names)`` with the children of a znode, at first and whenever a watch says that they have changed.

    kazoo's recipe of this name takes a watch for set when the reply with it comes just before the connection is lost,
    and is told of nothing on the next connection. Here each connection begins with a read.
    """

    def __init__(self, zk, path, told):
        self._zk, self._path, self._told, self._one_at_a_time = zk, path, told, threading.Lock()
        zk.add_listener(self._on_state)
        self._read()

    def _on_state(self, state):
        if state == KazooState.CONNECTED:
            self._zk.handler.spawn(self._read)

    def _read(self, event=None):
        if event is not None and event.type == EventType.NONE:
            return  # The connection is lost, and the watch with it.
        with self._one_at_a_time, suppress(ConnectionClosedError):  # Closed: the load is over.
            self._told(self._zk.retry(self._zk.get_children, self._path, watch=self._read))


class Client(threading.Thread):
    """One kazoo client; `acked` holds the number and the time (`time.monotonic`) of each acknowledged write."""

    def __init__(self, name, hosts):
        super().__init__(daemon=True, name=name)
        self.acked, self.sent, self.times_lost, self.failure = [], 0, 0, None
        self.seen_data, self.seen_children, self.held_missing = b"", set(), []
        self.history = collections.deque(maxlen=40)  # What it was told, for who looks for a lost event.
        self._stop_asked, self._news = threading.Event(), threading.Condition()
        patient = {"max_tries": -1, "delay": 0.02, "backoff": 1.5, "max_delay": 0.25}
        self.zk = KazooClient(hosts, timeout=SESSION_S, connection_retry=KazooRetry(**patient))
        self.zk.add_listener(self._on_state)
        self.zk.start(timeout=30)
        self.session = self.zk.client_id[0]

    def note(self, what):
        self.history.append(f"{time.monotonic():.3f} {self.name} at {self.peer()}: {what}")

    def peer(self):
        """The port of the server that it is connected to: kazoo does not say."""
        try:
            return self.zk._connection._socket.getpeername()[1]
        except (OSError, AttributeError):
            return None

    def _on_state(self, state):
        self.note(state)
        if state == KazooState.LOST and not self._stop_asked.is_set():
            self.times_lost += 1

    def prepare(self):
        """The znodes that it needs, its ephemeral, its watches."""
        for path in (WATCHED, HELD, f"{WRITTEN}/{self.name}"):
            self.zk.ensure_path(path)
        self.zk.create(f"{HELD}/{self.name}", b"", ephemeral=True)
        self.zk.DataWatch(WATCHED, self._on_data)
        ChildrenWatch(self.zk, WATCHED, self._on_children)

    def watch_held(self, names):
        """From here on each of these ephemerals must be there, whenever somebody looks."""

        def on_held(children):
            self.held_missing += sorted(names - set(children))

        self.zk.sync(HELD)  # Its server may be behind those that have the others' ephemerals already.
        ChildrenWatch(self.zk, HELD, on_held)

    def _on_data(self, data, stat):
        self.note(f"data {data!r} of {stat.mzxid:#x}")
        with self._news:
            self.seen_data = data
            self._news.notify_all()

    def _on_children(self, children):
        self.note(f"{len(children)} children, {max(children, default=None, key=lambda name: int(name[1:]))} the newest")
        with self._news:
            self.seen_children = set(children)
            self._news.notify_all()

    def wait_seen(self, data, children, deadline):
        """Whether its watches have told of this state in time."""
        with self._news:
            return self._news.wait_for(
                lambda: self.seen_data == data and self.seen_children == children, deadline - time.monotonic()
            )

    def run(self):
        try:
            while not self._stop_asked.is_set():
                number = self.sent
                self.sent += 1
                with suppress(KazooException, KazooTimeoutError):  # It may have happened or not: nobody was told.
                    self.zk.create(f"{WRITTEN}/{self.name}/{number}", b"%d" % number)
                    self.acked.append((number, time.monotonic()))
                self._stop_asked.wait(PACE_S)
        except BaseException as error:
            self.failure = error

    def finish(self):
        """Stop writing; the session stays."""
        self._stop_asked.set()
        self.join(SESSION_S)
        if self.failure:
            raise self.failure

    def close(self):
        self._stop_asked.set()
        self.zk.stop()
        self.zk.close()


class BareWatcher(threading.Thread):
    """A session over the bare protocol; its one-shot watch moves from server to server by setWatches.

    `seen` is the newest data of the watched node that an event has announced; `silent` is what it read without one.
    """

    name_of_kind = "bare"

    def __init__(self, addresses):
        super().__init__(daemon=True)
        self.addresses, self.session = addresses, wire.Session(int(SESSION_S * 1000))
        self.seen, self.silent, self.sessions_lost, self.handed_over, self.failure = b"", [], 0, 0, None
        self._armed, self._since, self._server, self.at = None, 0, 0, None
        self._stop_asked = threading.Event()

    def run(self):
        try:
            while not self._stop_asked.is_set():
                self._server += 1
                self.at = self.addresses[self._server % len(self.addresses)]
                try:
                    with wire.Connection(self.at, self.session, 5.0) as link:
                        self._come_back(link)
                        while not self._stop_asked.is_set():
                            self._watch(link)
                except wire.Expired:
                    self.sessions_lost += 1
                    self.session, self._armed = wire.Session(int(SESSION_S * 1000)), None
                except OSError:
                    self._stop_asked.wait(0.05)  # The servers need the processor to come back.
        except BaseException as error:
            self.failure = error

    def _come_back(self, link):
        if self._armed is not None:
            link.set_watches(data=[WATCHED], since=self._since)
            self.handed_over += 1

    def _watch(self, link):
        """Set the watch, or wait for its event."""
        if self._armed is None:
            data, stat = link.get(WATCHED, watch=True)
            self._armed, self._since, self.seen = data, stat.mzxid, data
        elif self._listen(link):
            self._armed = None  # One-shot: it is set again with the read of what it has announced.

    def _listen(self, link):
        """Whether an event has come within a second; else a read, which must not show what no event has told."""
        if not link.events:
            with suppress(TimeoutError):
                link.events.append(link.wait_event(1.0))
        if not link.events:
            link.socket.settimeout(5.0)
            data, _ = link.get(WATCHED)
            # The event of what it shows is sent before the reply.
            if data != self._armed and not link.events:
                self.silent.append(data)
        came = bool(link.events)
        link.events.clear()
        return came

    def stop(self):
        self._stop_asked.set()

    def finish(self):
        self.stop()
        self.join(30)
        if self.failure:
            raise self.failure


class PersistentWatcher(BareWatcher):
    """The same with one persistent watch, which moves by setWatches2.

    What changes between two connections, no server tells to such a watch: it is read after the watch is set again.
    """

    name_of_kind = "persistent"

    def _come_back(self, link):
        if self._armed is None:
            link.call(ADD_WATCH, wire.string(WATCHED) + struct.pack(">i", 0), WATCHED)
        else:
            lists = struct.pack(">iii", 0, 0, 0) + struct.pack(">i", 1) + wire.string(WATCHED) + struct.pack(">i", 0)
            link.call(SET_WATCHES2, struct.pack(">q", link.session.last_zxid) + lists, xid=wire.XID_SET_WATCHES)
            self.handed_over += 1
        link.events.clear()
        self._read(link)

    def _read(self, link):
        self._armed, _ = link.get(WATCHED)
        self.seen = self._armed

    def _watch(self, link):
        if self._listen(link):
            self._read(link)


class Load:
    """The clients on an ensemble, and what they have lost."""

    def __init__(self, hosts, addresses, clients=5):
        self.clients = [Client(f"c{number}", hosts) for number in range(clients)]
        self.bare = [BareWatcher(list(addresses)), PersistentWatcher(list(addresses))]
        self.changes, self.lost_events, self._children, self._data = 0, [], set(), b""
        self._changer = threading.Thread(target=self._change, daemon=True)
        self._stop_asked, self.failure = threading.Event(), None
        self._began = 0.0

    def start(self):
        for client in self.clients:
            client.prepare()
        names = {client.name for client in self.clients}
        for client in self.clients:
            client.watch_held(names)
        self._began = time.monotonic()
        for thread in (*self.clients, *self.bare, self._changer):
            thread.start()
        return self

    def set_servers(self, hosts, addresses):
        """Where the clients look from their next connection on."""
        for watcher in self.bare:
            watcher.addresses = list(addresses)
        for client in self.clients:
            client.zk.set_hosts(hosts)

    def _change(self):
        try:
            while not self._stop_asked.is_set():
                self._change_once()
                self._stop_asked.wait(PACE_S)
        except BaseException as error:
            self.failure = error

    def _change_once(self):
        """One change of data, one new child, and, every other time, one child less; each is waited for."""
        number = self.changes
        by = self.clients[number % len(self.clients)].zk
        retry = KazooRetry(max_tries=-1, delay=0.02, backoff=1.2, max_delay=0.2)
        data, child = b"%d" % number, f"n{number}"
        retry(by.set, WATCHED, data)
        self._data = data
        if not self._all_saw("data"):
            return
        with suppress(NodeExistsError):  # When the answer to the first try was lost.
            retry(by.create, f"{WATCHED}/{child}")
        self._children = self._children | {child}
        if not self._all_saw("a child"):
            return
        if number % 2:
            gone = sorted(self._children)[0]
            with suppress(NoNodeError):
                retry(by.delete, f"{WATCHED}/{gone}")
            self._children = self._children - {gone}
            self._all_saw("a child less")

    def _all_saw(self, what):
        deadline = time.monotonic() + EVENT_S
        began = time.monotonic()
        blind = []
        for client in self.clients:
            if not client.wait_seen(self._data, self._children, deadline):
                told = [*client.history, f"{began:.3f} was the change; a read shows {self._read_by(client)}"]
                blind.append(client.name + ", which was told:\n" + "\n".join(told) + "\nand")
        for watcher in self.bare:
            try:
                wait_until(lambda watcher=watcher: watcher.seen == self._data, "", max(deadline - time.monotonic(), 0))
            except NotInTime:
                blind.append(watcher.name_of_kind)
        self.changes += 1
        self.lost_events += [f"{name} did not see {what} ({self._data!r})" for name in blind]
        return not blind

    def _read_by(self, client):
        with suppress(KazooException, KazooTimeoutError):
            names, stat = client.zk.get_children(WATCHED, include_data=True)
            return f"{len(names)} children, {'all' if set(names) == self._children else 'not all'}, {stat}"
        return "an error"

    def wait_progress(self, changes=2, timeout_s=60.0):
        """Wait until each client has had a write acknowledged that it began after now, and has seen new changes."""
        before = {client: client.sent for client in self.clients}
        last_change = self.changes + changes

        def all_go_on():
            self.check()
            return self.changes >= last_change and all(
                client.acked and client.acked[-1][0] > number for client, number in before.items()
            )

        wait_until(all_go_on, "each client writes and sees events", timeout_s, self.state)

    def state(self):
        """What each client and watcher is at, for who looks for the one that does not go on."""
        now = time.monotonic()
        lines = [f"change {self.changes}: {self._data!r}, {len(self._children)} children", *self.lost_events]
        for client in self.clients:
            ago = now - client.acked[-1][1] if client.acked else -1
            lines.append(
                f"{client.name}: session {client.session:#x}, {client.zk.client_state} at {client.peer()}, last "
                f"write acknowledged {ago:.1f} s ago, saw {client.seen_data!r}, {len(client.seen_children)} children"
            )
        for one in self.bare:
            lines.append(f"{one.name_of_kind}: session {one.session.id:#x}, saw {one.seen!r} (at {one.at})")
        return "\n".join(lines)

    def check(self):
        """Raise what a client's thread could not go on after."""
        for thread in (*self.clients, *self.bare, self):
            if thread.failure:
                raise thread.failure

    def longest_gap(self, since=0.0):
        """Seconds of the longest time, ending after `since`, in which no client had a write acknowledged."""
        times = sorted([self._began, *(at for client in self.clients for _, at in tuple(client.acked))])
        return max((b - a for a, b in itertools.pairwise(times) if b >= since), default=0.0)

    def longest_gap_of_one(self):
        """Seconds of the longest time in which some client had no write acknowledged."""
        longest = 0.0
        for client in self.clients:
            times = [self._began, *(at for _, at in tuple(client.acked))]
            longest = max([longest, *(b - a for a, b in itertools.pairwise(times))])
        return longest

    def finish(self):
        """Let the last change and the last writes come to their end."""
        self._stop_asked.set()
        self._changer.join(3 * EVENT_S)
        for client in self.clients:
            client.finish()
        for watcher in self.bare:
            watcher.finish()
        self.check()

    @property
    def handed_over(self):
        """How often watches went from one server to another."""
        return sum(watcher.handed_over for watcher in self.bare)

    @property
    def acknowledged(self):
        return sum(len(client.acked) for client in self.clients)

    def lost_sessions(self):
        """A line for each session that is not what it was."""
        lines = [f"{client.name}: {client.times_lost} times LOST" for client in self.clients if client.times_lost]
        lines += [
            f"{client.name}: session {client.zk.client_id} is not {client.session:#x}"
            for client in self.clients
            if not client.zk.client_id or client.zk.client_id[0] != client.session
        ]
        return lines + [
            f"{watcher.name_of_kind}: {watcher.sessions_lost} sessions expired"
            for watcher in self.bare
            if watcher.sessions_lost
        ]

    def lost_ephemerals(self, tree):
        """A line for each ephemeral that is not there, was not there once, or is another session's."""
        lines = []
        for client in self.clients:
            node = tree.get(f"{HELD}/{client.name}")
            if node is None:
                lines.append(f"{client.name}: its ephemeral is gone")
            elif node.stat.ephemeral_owner != client.session:
                lines.append(f"{client.name}: its ephemeral belongs to {node.stat.ephemeral_owner:#x}")
            lines += [f"{client.name} saw {HELD} without {name}" for name in client.held_missing]
        return lines

    def lost_writes(self, tree):
        """Paths of acknowledged writes that a tree does not have."""
        paths = ((f"{WRITTEN}/{client.name}/{number}", number) for client in self.clients for number, _ in client.acked)
        return [path for path, number in paths if path not in tree or tree[path].data != b"%d" % number]

    def verdicts(self, members):
        """(what was checked, what is wrong with it: empty when nothing) for all servers, after `finish`."""
        trees = {member.id: read_tree_of(member) for member in members}
        first = trees[members[0].id]
        lost = [f"server {number}: {path}" for number, tree in trees.items() for path in self.lost_writes(tree)]
        unlike = [
            f"servers {members[0].id} and {number}: {line}"
            for number, tree in trees.items()
            for line in differences(first, tree)
        ]
        silent = [f"{one.name_of_kind} read {data!r} without an event" for one in self.bare for data in one.silent]
        events = self.lost_events + silent
        count = len(self.clients) + len(self.bare)
        sessions, ephemerals = self.lost_sessions(), self.lost_ephemerals(first)
        unknown = sum(client.sent for client in self.clients) - self.acknowledged
        return [
            (f"{self.acknowledged} acknowledged writes, {len(lost)} lost ({unknown} of unknown outcome)", lost),
            (f"{count} sessions, {len(sessions)} lost", sessions),
            (f"{self.changes} changes seen by each of {count} watchers, {len(events)} lost", events),
            (f"{len(self.clients)} ephemerals with their owner, {len(ephemerals)} lost", ephemerals),
            (f"{len(first)} znodes equal on {len(trees)} servers", unlike),
        ]

    def close(self):
        for client in self.clients:
            client.close()
        for watcher in self.bare:
            watcher.stop()
