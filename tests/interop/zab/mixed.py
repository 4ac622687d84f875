"""An ensemble of both kinds of server with the proxy between all of them, and how to make a given member lead.

A mixture is a word with one letter a server, in the order of their ids: A is Apache's 3.8.0, N Apache's of the jars in
`ZK39_LIB`, Z zabkit; small letters are observers.
"""

import itertools
import os
import shlex
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "process"))

import secured  # noqa: E402
from harness import command, wire  # noqa: E402
from harness.ensemble import SUPER_AUTH, Ensemble  # noqa: E402
from harness.ports import PortBlock  # noqa: E402
from harness.tree import differences, read_tree  # noqa: E402
from harness.until import wait_until  # noqa: E402
from proxy import Proxy  # noqa: E402
from rules import violations  # noqa: E402
from tree_digest import tree_digest  # noqa: E402

NAMES = {"A": "apache-3.8", "N": "apache-3.9", "Z": "zabkit"}

#: Sessions outlive a restart of all servers; 3.8.0 knows the reaper's interval as a system property only.
CONFIG = {"maxSessionTimeout": 120_000, "snapCount": 100_000}

#: What a member says when its tree differs from the leader's, of either kind.
MISMATCH = "Digests are not matching"


def apache_39():
    """Template of Apache's newer server, None when `ZK39_LIB` does not name its jars."""
    folder = os.environ.get("ZK39_LIB")
    if not folder:
        return None
    # Debian's logging in the place of the one that comes with them, and the same command as for 3.8.0.
    leave_out = ("slf4j-", "log4j-", "curator-", "guava-", "netty-all")
    jars = [str(jar) for jar in sorted(Path(folder).glob("*.jar")) if not jar.name.startswith(leave_out)]
    logging = [f"/usr/share/java/{jar}.jar" for jar in ("slf4j-api", "slf4j-simple")]
    words = shlex.split(command.apache_command())
    words[words.index("-cp") + 1] = ":".join(logging + jars)
    return shlex.join(words)


def templates():
    """The command of each kind that can be had; raises `ApacheMissing` without 3.8.0."""
    found = {"A": command.apache_command(), "Z": command.zabkit_command()}
    if newer := apache_39():
        found["N"] = newer
    return found


class MixedEnsemble(Ensemble):
    """Members of the kinds that ``mixture`` names, and `proxy` between them.

    Args:
        mixture: One letter a server.
        config: More keys of zoo.cfg.
        terms: On which they speak with each other (`secured`); plainly by default.
        proxied: False for members that speak directly; then there are no packets to see.
    """

    def __init__(self, mixture, config=None, terms=secured.plain, proxied=True):
        self.mixture, self.templates = mixture, templates()
        self._blocks, self._routes, self._reachable, self._true = [], {}, {}, {}
        self.proxy, self._proxied = None, proxied
        self._secrets = tempfile.TemporaryDirectory(prefix="zabkit-interop-zab-")
        self.terms = terms(Path(self._secrets.name))
        super().__init__(len(mixture), config={**CONFIG, **self.terms.config, **(config or {})})
        self.proxy = Proxy(self._routes, self._reachable, self.terms.tls)

    # --- files

    def _port(self):
        """A port of another block when the ensemble's own is used up."""
        if not self._blocks or self._blocks[-1].left == 0:
            self._blocks.append(PortBlock())
        return self._blocks[-1].take()

    def _write_config(self, member):
        super()._write_config(member)
        lines = [line for line in member.config.read_text().splitlines() if not line.startswith("server.")]
        if self.mixture[member.id - 1].islower():
            lines.append("peerType=observer")
        for other in self.members:
            ports = (other.quorum_port, other.election_port)
            if other is not member and self._proxied:
                ports = (self._port(), self._port())
                self._routes[ports[0], "quorum"] = (member.id, other.id, other.quorum_port)
                self._routes[ports[1], "election"] = (member.id, other.id, other.election_port)
                self._reachable[member.id, other.id] = ports[1]
            text = "server.{}=127.0.0.1:{}:{}:{}"
            role = "observer" if self.mixture[other.id - 1].islower() else "participant"
            lines.append(text.format(other.id, *ports, role))
            # Each member has its own text of the configuration; this is how to see that they mean the same.
            self._true[lines[-1]] = text.format(other.id, other.quorum_port, other.election_port, role)
        member.config.write_text("\n".join(lines) + "\n")

    # --- members

    def kind(self, member):
        return NAMES[self.mixture[member.id - 1].upper()]

    def launch(self, *members):
        """Start these members, each with its own kind's command, and return at once."""
        flags = self.terms.flags
        for member in members:
            template = self.templates[self.mixture[member.id - 1].upper()]
            if self.kind(member) != "zabkit":
                template = template.replace("java ", f"java {flags} ", 1)
            member.start(template=template, wrapper=("env", f"SERVER_JVMFLAGS={flags}"))

    def start(self):
        """Start every server that does not run, and wait until all of them serve."""
        self.launch(*(member for member in self.members if not member.runs))
        self.wait_serving(90.0)
        return self

    @property
    def voters(self):
        return [member for member in self.members if self.mixture[member.id - 1].isupper()]

    def describe(self):
        """``1=zabkit/4711 2=apache-3.8/4712* 3=...``: process ids and kinds; ``*`` leads, ``-`` does not run."""
        leader = self.leader()
        parts = []
        for member in self.members:
            state = "*" if member is leader else ""
            parts.append(f"{member.id}={self.kind(member)}/{member.pid if member.runs else '-'}{state}")
        return " ".join(parts)

    def zxid(self, member):
        return int(member.srvr().get("Zxid", "0x0"), 16)

    def wait_equal(self, members=None, timeout_s=30.0):
        """Wait until these running members have applied the same last transaction; returns its zxid.

        Not before an epoch's first: until then Apache's followers show the zxid of the epoch before, their leader the
        new one.
        """
        members = members or self.running

        def equal():
            zxids = {self.zxid(member) for member in members}
            return zxids if len(zxids) == 1 else None

        return wait_until(equal, "all members are at one zxid", timeout_s, self.logs).pop()

    def link(self, member, auth=SUPER_AUTH, timeout_ms=30_000):
        """A connection of a new session to a member, authenticated.

        On a busy machine a 3.8.0 server now and then makes a session and then never reads from its connection (its log
        has not even the first request). That one is given up, and another made.
        """
        for tries_left in (1, 0):
            link = member.connect(wire.Session(timeout_ms), timeout_s=15.0)
            try:
                link.auth(*auth)
            except OSError:
                link.close()
                if not tries_left or self.kind(member) == "zabkit":
                    raise
            else:
                link.socket.settimeout(30.0)
                return link
        raise AssertionError("unreachable")

    def write(self, member, path="/tick"):
        """One write through a member, acknowledged."""
        with self.link(member) as link:
            if not link.exists(path):
                link.create(path)
            stat = link.set(path, b"")
            link.close_session()
        return stat.mzxid

    def make_lead(self, target):
        """Bring it about that ``target`` leads: the leader goes, and where another would follow it, so do others.

        With equal histories the highest id wins. Where that is not the target, the smallest quorum with it goes on
        alone, writes, and all of it but the target is stopped: among the others the target then has the longest log.
        """
        leader = self.wait_leader()
        if leader is target:
            return
        others = [member for member in self.voters if member is not target]
        self.write(leader)
        self.wait_equal(self.voters)
        if target.id > max(member.id for member in others if member is not leader):
            stopped = [leader]
            leader.terminate()
        else:
            faults = (len(self.voters) - 1) // 2
            behind = [member for member in others if member is not leader][:faults]
            ahead = [member for member in others if member not in behind]
            for member in behind:
                member.terminate()
            self.write(target)
            self.wait_equal([target, *ahead])
            for member in ahead:
                member.terminate()
            self.launch(*behind)
            stopped = ahead
        wait_until(lambda: target.mode == "leader", f"server {target.id} leads", 60.0, self.logs)
        self.launch(*stopped)
        self.wait_serving(90.0)
        assert self.leader() is target, f"{self.describe()}, and {target.id} should lead"

    # --- what they hold

    def tree(self, member):
        """The tree as this member shows it after `sync`, the configuration's text in terms of the true ports."""
        with self.link(member) as link:
            tree = read_tree(link)
            link.close_session()
        node = tree["/zookeeper/config"]
        if node.data:
            lines = [self._true.get(line, line) for line in node.data.decode().split("\n")]
            # Java writes the members in an order of its own.
            data = "\n".join(sorted(lines)).encode()
            node = node._replace(data=data, stat=node.stat._replace(data_length=len(data)))
        tree["/zookeeper/config"] = node
        return tree

    def assert_agree(self, diverged=()):
        """Trees equal node by node, each one's digest equal to the leader's on the wire, nobody ever saw another.

        But for members of Apache's that were shown to have ``diverged`` by themselves: they did see others.

        Returns a text that says what was compared.
        """
        trees = {f"{member.id}/{self.kind(member)}": self.tree(member) for member in self.running}
        (first, expected), *others = trees.items()
        for name, tree in others:
            found = differences(expected, tree)
            assert not found, f"{first} and {name} differ:\n" + "\n".join(found)
        self.wait_equal()
        said = [packet for packet in self.proxy.packets if packet.digest is not None]
        if said:
            last = max(said, key=lambda packet: packet.zxid)
            for name, tree in trees.items():
                digest = tree_digest(tree)
                assert digest == last.digest, f"{name} has digest {digest:#x}, {last} has {last.digest:#x}"
        stale = self.assert_no_mismatch(diverged)
        return f"{len(expected)} nodes, digest {tree_digest(expected):#018x} on all {len(trees)}{stale}"

    def assert_informed(self, since):
        """Each observer hears of what is committed by INFORM alone, once it is up to date; returns a text, if any."""
        observers = [member for member in self.running if member not in self.voters]
        for member in observers:
            said = self.proxy.seen(("UPTODATE", "PROPOSAL", "COMMIT", "INFORM"), target=member.id, since=since)
            behind = max((at for at, packet in enumerate(said) if packet.kind == "UPTODATE"), default=-1)
            kinds = Counter(packet.kind for packet in said[behind + 1 :])
            assert set(kinds) == {"INFORM"}, f"observer {member.id} was told by {dict(kinds)}"
        return f"told by INFORM: {' '.join(str(member.id) for member in observers)}" if observers else ""

    def assert_no_mismatch(self, diverged=()):
        """Nobody ever found a digest that differs from the leader's; returns a text on Apache's own exceptions.

        Let pass, counted and said, since 3.8.0 does the same among its own kind and its tree comes out right: digests
        that differ while a role ends, when the log is replayed beside a pipeline that still runs; and of records of a
        former role that were written behind later ones and are read again (both ZOOKEEPER-4712).
        """
        own, excused_members = 0, set()
        for member in self.members:
            if member in diverged:
                excused_members.add(member.id)
                continue
            before, ending = "", False
            for line in member.log_text().splitlines():
                if MISMATCH in line:
                    excused = self.kind(member) != "zabkit" and (ending or "(highestZxid) >" in before)
                    assert excused, f"server {member.id} ({self.kind(member)}): {before}\n{line}"
                    own += 1
                    excused_members.add(member.id)
                if "ZooKeeperServer - shutting down" in line:
                    ending = True
                elif "Peer state changed: following - sync" in line or "Peer state changed: leading - sync" in line:
                    ending = False
                before = line
        self.assert_hashes([member for member in self.running if member.id not in excused_members])
        return f"; {own} digests differed in Apache over the end of a role (ZOOKEEPER-4712)" if own else ""

    def assert_hashes(self, members):
        """Apache's `hash` (its own tree's digest, each 128 transactions) against what the leader said on the wire."""
        said = {}
        for packet in self.proxy.packets:
            if packet.digest is not None:
                said[packet.zxid] = packet.digest
        for member in members:
            if self.kind(member) == "zabkit":
                continue
            for line in (wire.four_letter(member.address, "hash") or "").splitlines():
                zxid, _, digest = line.partition(": ")
                if digest and int(zxid, 16) in said:
                    value = int(digest) & (1 << 64) - 1
                    wanted = said[int(zxid, 16)]
                    assert value == wanted, f"server {member.id} at {zxid}: {value:#x}, the leader said {wanted:#x}"

    def assert_wire(self):
        """The proxy could read everything, and zabkit said nothing that it must not say."""
        assert not self.proxy.lost, "the proxy could not read:\n" + "\n".join(self.proxy.lost[:10])
        wrong = violations(self.proxy.packets, lambda number: self.mixture[number - 1].upper() == "Z")
        assert not wrong, f"{len(wrong)} packets of zabkit's break the rules:\n" + "\n".join(wrong[:20])

    def seen_text(self, since=0):
        """``Z>A DIFF*1 PROPOSAL*30 …``: packet kinds by kind of sender and receiver, without what is periodic."""
        counts = Counter()
        for packet in self.proxy.packets[since:]:
            if packet.kind not in ("PING", "NOTIFICATION", "INITIAL"):
                letters = f"{self.mixture[packet.source - 1]}>{self.mixture[packet.target - 1]}".upper()
                counts[letters, packet.kind] += 1
        ways = []
        for letters, group in itertools.groupby(sorted(counts), key=lambda key: key[0]):
            ways.append(letters + " " + " ".join(f"{kind}*{counts[letters, kind]}" for _, kind in group))
        return "; ".join(ways)

    def close(self):
        super().close()
        if self.proxy is not None:
            self.proxy.close()
            self.proxy = None
        for block in self._blocks:
            block.close()
        self._blocks.clear()
        self._secrets.cleanup()
