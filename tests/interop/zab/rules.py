"""What zabkit may say on the quorum port, checked packet by packet over everything that passed.

As a leader nothing that breaks an Apache member: one synchronisation a connection, proposals without gaps, commits in
their order and only for what was proposed there, none between NEWLEADER and UPTODATE for a proposal from before
NEWLEADER (3.8.0 dies of it, ZOOKEEPER-4394), UPTODATE only behind the ACK of NEWLEADER, no `check` by itself and no
create2 in a multi (3.8.0 cannot apply them). As a learner: NEWLEADER is acknowledged before any proposal, then
proposals one by one in their order, and no PING is answered before UPTODATE. Spec: B.2, B.5, B.6, C.1 to C.3, D.3.
"""

from packets import SYNC_KINDS

CREATE2, CHECK = 15, 13


class Talk:
    """One connection between a learner and its leader, as far as it has come."""

    def __init__(self):
        self.sync = self.newleader = self.uptodate = None
        self.proposed, self.before_newleader, self.committed = {}, set(), 0
        self.last_proposed = self.last_acked = 0
        self.newleader_acks = 0


def from_leader(talk, packet):
    """What is wrong with a packet of a leader, or None."""
    kind, zxid = packet.kind, packet.zxid
    if kind in SYNC_KINDS:
        if talk.sync:
            return f"a second synchronisation after {talk.sync}"
        talk.sync = packet
    elif kind in ("PROPOSAL", "INFORM"):
        last, talk.last_proposed = talk.last_proposed, zxid
        talk.proposed[zxid] = packet
        if last and zxid != last + 1 and not (zxid >> 32 > last >> 32 and zxid & 0xFFFFFFFF == 1):
            return f"after {last:#x}"
        types = [int(number) for number in packet.more.partition("txn ")[2].partition(" session")[0].split()]
        if types[0] == CHECK:
            return "a check by itself"
        if CREATE2 in types[1:]:
            return "create2 in a multi"
    elif kind == "COMMIT":
        last, talk.committed = talk.committed, zxid
        if zxid not in talk.proposed:
            return "was not proposed here"
        if zxid <= last:
            return f"after the commit of {last:#x}"
        if talk.newleader and not talk.uptodate and zxid in talk.before_newleader:
            return "between NEWLEADER and UPTODATE, proposed before NEWLEADER"
    elif kind == "NEWLEADER":
        if not talk.sync or talk.newleader:
            return "out of turn"
        talk.newleader, talk.before_newleader = packet, set(talk.proposed)
    elif kind == "UPTODATE":
        if not talk.newleader_acks:
            return "before NEWLEADER was acknowledged"
        talk.uptodate = packet
    return None


def from_learner(talk, packet):
    """What is wrong with a packet of a learner, or None."""
    kind, zxid = packet.kind, packet.zxid
    if kind == "ACK" and zxid & 0xFFFFFFFF == 0:
        talk.newleader_acks += 1
        if not talk.newleader or zxid != talk.newleader.zxid:
            return "acknowledges no NEWLEADER"
    elif kind == "ACK":
        last, talk.last_acked = talk.last_acked, zxid
        if not talk.newleader_acks:
            return "before NEWLEADER is acknowledged"
        if zxid not in talk.proposed:
            return "was not proposed here"
        if last and zxid != last + 1:
            return f"after the ACK of {last:#x}"
    elif kind == "PING" and not talk.uptodate:
        return "answered before UPTODATE"
    return None


def violations(packets, is_zabkit):
    """Lines on what zabkit should not have said; ``is_zabkit(server id)``.

    Apache's packets only move a conversation on: its learners do acknowledge proposals before NEWLEADER.
    """
    talks, found = {}, []
    leads = {}
    for packet in packets:
        if packet.kind in ("FOLLOWERINFO", "OBSERVERINFO"):
            talks[packet.connection], leads[packet.connection] = Talk(), packet.target
        talk = talks.get(packet.connection)
        if talk is None:
            continue
        rule = from_leader if packet.source == leads[packet.connection] else from_learner
        wrong = rule(talk, packet)
        if wrong and is_zabkit(packet.source):
            found.append(f"{packet}: {wrong}")
    return found
