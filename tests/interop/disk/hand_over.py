"""A data directory goes from Apache to zabkit and back, each time after SIGKILL of the writer under load.

Four kazoo clients write as fast as they are answered (creates, sets, ACLs, deletes, transactions, ephemerals). At a
random moment the server is killed; what it leaves is opened by the other kind. Then

- every acknowledged write is there, with the data, the ACL and the whole Stat that were acknowledged; what was under
  way when the server died may be there, in the order in which it was sent;
- the tree equals, node by node (data, ACL, whole Stat), the one that the *writer's* kind makes of a copy of the files;
- each client's session is taken back by its id and password.

Then the opener is the next writer. Two directories, one with `dataLogDir` apart; snapshots plain, gzip and snappy in
turns, and small enough limits that the kill often comes while one is being written.
"""

import logging
import random
import re
import shutil
import threading
import time
from collections import deque

from harness import wire
from harness.command import apache_command, server_command
from harness.ensemble import SUPER_AUTH, Ensemble
from harness.tree import differences, read_tree_of
from harness.until import wait_until
from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import ConnectionLoss, KazooException
from kazoo.security import ACL, OPEN_ACL_UNSAFE, Id

# Connections are lost here on purpose.
logging.getLogger("kazoo").setLevel(logging.CRITICAL)

CLIENTS = 4
#: Requests of a client under way at a time.
WINDOW = 24
PACKINGS = ("", "gz", "snappy")
#: An old round's znodes are removed, so that reading the tree stays quick.
ROUNDS_KEPT = 2
CONFIG = {
    "maxSessionTimeout": 120_000,
    "snapCount": 300,
    # Of Apache: more files, and each with its padding.
    "preAllocSize": 256,
    "autopurge.purgeInterval": 0,
}
OTHER_ACL = [ACL(31, Id("world", "anyone")), ACL(1, Id("digest", "bob:pM4UFDqeVOTQS2Jf9VtoXc3lwVg="))]


class Absent:
    """The state of a path that is not there."""

    data = acls = stat = None


class State:
    """What a path holds after one of its writes; `stat` once that was acknowledged, if the answer tells it."""

    def __init__(self, data, acls):
        self.data, self.acls, self.stat = data, acls, None

    def fits(self, node):
        if node is None or node.data != self.data or sorted(node.acls) != sorted(self.acls):
            return False
        return self.stat is None or tuple(node.stat) == tuple(self.stat)


class Writer(threading.Thread):
    """Writes below a directory of its own until its server dies."""

    def __init__(self, client, root, rng):
        super().__init__(daemon=True)
        self.client, self.root, self.rng = client, root, rng
        #: By path: its states, oldest first, and the index of the last acknowledged one (-1: none).
        self.states, self.acknowledged_at = {}, {}
        self.acknowledged = self.unanswered = 0
        self.under_way = deque()
        self.failure = None

    def run(self):
        try:
            while True:
                if self.client.state != KazooState.CONNECTED:
                    raise ConnectionLoss
                self._issue()
                while len(self.under_way) >= WINDOW:
                    self._take()
        except (KazooException, TimeoutError):
            self._drain()
        except Exception as error:  # To be told by whoever waits for the thread.
            self.failure = error

    def _drain(self):
        """After the first failure: answers that had come all the same count as acknowledged."""
        self.unanswered = 1
        while self.under_way:
            try:
                self._take()
            except (KazooException, TimeoutError):
                self.unanswered += 1

    def _take(self):
        path, index, answer, stat_of = self.under_way.popleft()
        result = answer.get(timeout=30)
        self.acknowledged += 1
        self.acknowledged_at[path] = max(self.acknowledged_at.get(path, -1), index)
        state = self.states[path][index]
        if stat_of is not None:
            state.stat = stat_of(result)

    def _issue(self):
        path, rng, client = self._path(), self.rng, self.client
        states = self.states.setdefault(path, [])
        last = states[-1] if states else Absent
        data = rng.randbytes(rng.choice((0, 8, 100, 100, 3000)))
        if last is Absent:
            kind = rng.randrange(10)
            if kind == 0:
                transaction = client.transaction()
                transaction.create(path, b"")
                transaction.set_data(path, data)
                answer, stat_of = transaction.commit_async(), lambda results: _whole(results)[1]
            else:
                ephemeral = kind == 1
                answer = client.create_async(path, data, ephemeral=ephemeral, include_data=True)
                stat_of = lambda result: result[1]  # noqa: E731
            self._sent(path, State(data, _acls(OPEN_ACL_UNSAFE)), answer, stat_of)
            return
        kind = rng.randrange(8)
        if kind == 0:
            self._sent(path, Absent, client.delete_async(path), None)
        elif kind == 1:
            state = State(last.data, _acls(OTHER_ACL))
            self._sent(path, state, client.set_acls_async(path, OTHER_ACL), lambda stat: stat)
        else:
            self._sent(path, State(data, last.acls), client.set_async(path, data), lambda stat: stat)

    def _path(self):
        if self.states and self.rng.randrange(3):
            return self.rng.choice(list(self.states))
        return f"{self.root}/n{len(self.states)}"

    def _sent(self, path, state, answer, stat_of):
        self.states[path].append(state)
        self.under_way.append((path, len(self.states[path]) - 1, answer, stat_of))

    def problems(self, tree):
        """What of the acknowledged is not there; what is there and was never written."""
        for path, states in self.states.items():
            node, first = tree.get(path), self.acknowledged_at.get(path, -1)
            possible = states[first:] if first >= 0 else [Absent, *states]
            if not any(node is None if state is Absent else state.fits(node) for state in possible):
                last = possible[0]
                yield f"{path}: {node} where at least {(last.data, last.acls, last.stat)} was acknowledged"
        for path in tree:
            if path.startswith(f"{self.root}/") and path not in self.states:
                yield f"{path}: nobody has written it"


def _whole(results):
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def _acls(acls):
    return [(acl.perms, acl.id.scheme, acl.id.id) for acl in acls]


class Directory:
    """One directory, and the server that has it at a time."""

    def __init__(self, name, config, first):
        self.name = name
        self.templates = {"Apache": apache_command(), "zabkit": server_command()}
        self.config = {**CONFIG, **config}
        self.servers, self.copies = Ensemble(1, config=self.config), Ensemble(1, config=self.config)
        self.server, self.copy = self.servers[1], self.copies[1]
        for member in (self.server, self.copy):
            if config:  # dataLogDir apart: below the member's own directory.
                text = re.sub("(?m)^dataLogDir=.*$", f"dataLogDir={member.dir}/logs", member.config.read_text())
                member.config.write_text(text)
                (member.dir / "logs").mkdir()
        self.writer = first
        self.rounds, self.packing = 0, "snappy"

    @property
    def opener(self):
        return "zabkit" if self.writer == "Apache" else "Apache"

    def start(self, member, kind, packing):
        text = re.sub("(?m)^snapshot.compression.method=.*\n", "", member.config.read_text())
        member.config.write_text(text + (f"snapshot.compression.method={packing}\n" if packing else ""))
        member.start(template=self.templates[kind])

    def _copy_files(self):
        for name in ("data", "logs"):
            shutil.rmtree(self.copy.dir / name, ignore_errors=True)
            if (self.server.dir / name).exists():
                shutil.copytree(self.server.dir / name, self.copy.dir / name)

    def hand_over(self, number, rng):
        """One round; returns its line and what is wrong."""
        if not self.server.runs:
            self.start(self.server, self.writer, self.packing)
        packing, self.packing = self.packing, PACKINGS[self.rounds % 3]
        self.server.wait_serving()
        writer_pid = self.server.pid
        root = f"/round{self.rounds}"
        clients = [KazooClient(self.server.host, timeout=100) for _ in range(CLIENTS)]
        for client in clients:
            client.start(30)
        sessions = [client.client_id for client in clients]
        clients[0].create(root)
        if self.rounds >= ROUNDS_KEPT:
            clients[0].delete(f"/round{self.rounds - ROUNDS_KEPT}", recursive=True)
        writers = []
        for index, client in enumerate(clients):
            client.create(f"{root}/w{index}")
            writers.append(Writer(client, f"{root}/w{index}", random.Random(rng.random())))
        for writer in writers:
            writer.start()
        least = rng.randrange(50, 2500)
        deadline = time.monotonic() + 20
        wait_until(
            lambda: (
                sum(writer.acknowledged for writer in writers) >= least
                or any(not writer.is_alive() for writer in writers)
                or time.monotonic() > deadline
            ),
            f"{least} writes are acknowledged",
            60,
        )
        self.server.kill()
        files = sorted(path.name for path in self.server.dir.glob("*/version-2/*"))
        for writer in writers:
            writer.join(60)
        for client in clients:
            client.stop()  # There is nobody to whom the session could be closed.
            client.close()
        self._copy_files()
        said_before = len(self.server.log_text())
        self.start(self.server, self.opener, self.packing)
        self.start(self.copy, self.writer, packing)
        wrong = [f"a client's thread: {writer.failure!r}" for writer in writers if writer.failure]
        wrong += [f"{writer.root}: still writing" for writer in writers if writer.is_alive()]
        self.server.wait_serving()
        self.copy.wait_serving()
        tree = read_tree_of(self.server, auth=SUPER_AUTH)
        own = read_tree_of(self.copy, auth=SUPER_AUTH)
        wrong += [problem for writer in writers for problem in writer.problems(tree)]
        wrong += [f"{self.opener} and {self.writer} differ: {line}" for line in differences(tree, own)]
        said = self.server.log_text()[said_before:]
        for words in ("Digests are not matching", "CRC check failed", "Unable to load"):
            if words in said:
                wrong.append(f"{self.opener} says: {words}")
        wrong += [problem for session in sessions for problem in self._take_back(*session)]
        self.copy.kill()
        snapshots = [name for name in files if name.startswith(("snapshot.", "zabkit.tmp."))]
        acknowledged = sum(writer.acknowledged for writer in writers)
        unanswered = sum(writer.unanswered for writer in writers)
        line = (
            f"hand-over {number + 1}: {self.writer} (pid {writer_pid}, {packing or 'plain'} snapshots, {self.name})"
            f" killed after {acknowledged} acknowledged writes with {unanswered} under way,"
            f" {len(snapshots)} snapshots; {self.opener} (pid {self.server.pid}) has"
            f" {'all of them' if not wrong else 'NOT ALL'}: {len(tree)} znodes"
        )
        suffix = f".{packing}" if packing else ""
        taken = [name for name in files if re.fullmatch(rf"snapshot\.[0-9a-f]+{re.escape(suffix)}", name)]
        if acknowledged > 1000 and not taken:
            wrong.append(f"{self.writer} has taken no {packing or 'plain'} snapshot: {snapshots}")
        if acknowledged < 50:
            wrong.append(f"only {acknowledged} writes were acknowledged: that shows nothing")
        self.writer = self.opener
        self.rounds += 1
        return line, wrong

    def _take_back(self, session_id, password):
        session = wire.Session(100_000)
        session.id, session.password = session_id, password
        try:
            with self.server.connect(session) as link:
                link.close_session()
        except (OSError, wire.Expired) as error:
            yield f"session {session_id:#x} is lost: {error!r}"

    def close(self):
        self.servers.close()
        self.copies.close()


def run(rounds, seed=None):
    """So many hand-overs, alternately on two directories; (passed, failed)."""
    seed = random.randrange(1 << 32) if seed is None else seed
    rng = random.Random(seed)
    print(f"hand-over: seed {seed}", flush=True)
    apart = {"dataLogDir": "set below"}
    directories = [Directory("one directory", {}, "Apache"), Directory("logs apart", apart, "zabkit")]
    passed = failed = 0
    try:
        for number in range(rounds):
            line, wrong = directories[number % 2].hand_over(number, rng)
            print(line, flush=True)
            for problem in wrong[:20]:
                print(f"    {problem}", flush=True)
            passed, failed = passed + (not wrong), failed + bool(wrong)
            if wrong:
                print(directories[number % 2].servers.logs(40), flush=True)
    finally:
        for directory in directories:
            directory.close()
    return passed, failed
