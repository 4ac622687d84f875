"""Check: a mixture elects and serves under each kind of leader, and all members hold the same."""

from contextlib import suppress

from harness import wire
from mixed import MixedEnsemble
from secured import TERMS, plain

ALICE = ("digest", b"alice:secret")
BOB = (31, "digest", "bob:pM4UFDqeVOTQS2Jf9VtoXc3lwVg=")


def furnish(link, root, create2=True):
    """Under ``root``, one of everything that a transaction can make, and some that fail.

    ``create2``: also in a multi. 3.8.0 and 3.8.1 cannot apply it there and go on with another tree; their own leaders,
    and zabkit's, propose it as a plain create, 3.9's do not.
    """
    link.create(root, b"")
    for name, data in {"empty": b"", "null": None, "binary": bytes(range(256)), "large": bytes(20_000)}.items():
        link.create(f"{root}/{name}", data)
    link.create(f"{root}/åß∂ ƒ", "grün".encode())
    link.create(f"{root}/seq")
    for number in range(4):
        link.create(f"{root}/seq/n-", b"%d" % number, flags=2)
    link.delete(f"{root}/seq/n-0000000001")
    link.set(f"{root}/seq/n-0000000002", b"changed")
    link.set(f"{root}/seq/n-0000000002", b"changed again", version=1)
    link.create(f"{root}/acl", b"", acls=[(31, "auth", "")])
    link.create(f"{root}/acl/two", b"hidden", acls=[(31, "auth", ""), (1, "ip", "127.0.0.1")])
    link.create(f"{root}/acl/other", b"", acls=[(1, "world", "anyone"), BOB])
    link.create(f"{root}/later")
    link.set_acl(f"{root}/later", [(13, "world", "anyone")])
    link.create(f"{root}/mine", b"e", flags=1)
    link.create(f"{root}/mine-", b"e", flags=3)
    link.create_container(f"{root}/container", b"c")
    link.create(f"{root}/container/child")
    link.create_ttl(f"{root}/ttl-3600000", b"t", 3_600_000)
    body = wire.create_body
    operations = [
        (wire.CREATE, body(f"{root}/multi", b"1")),
        (wire.CREATE, body(f"{root}/multi/child")),
        (wire.SET_DATA, wire.set_body(f"{root}/multi", b"2", 0)),
        (wire.CHECK, wire.string(f"{root}/multi") + (1).to_bytes(4, "big")),
        (wire.CREATE2 if create2 else wire.CREATE, body(f"{root}/multi/second", b"", [BOB])),
        (wire.DELETE, wire.string(f"{root}/multi/child") + b"\xff\xff\xff\xff"),
    ]
    assert link.multi(operations) == [0] * 6
    assert any(link.multi([(wire.CREATE, body(f"{root}/no")), (wire.CREATE, body(f"{root}/multi"))]))
    with suppress(wire.ZkError):
        link.create(f"{root}/absent/child")
        raise AssertionError(f"{root}/absent/child was made without its parent")
    link.set("/", root.encode())


def write_through_all(servers, name):
    """Through each member, then seen by each after `sync`; ends one session and leaves the others' ephemerals.

    Returns the connections that hold them.
    """
    links = []
    for member in servers.running:
        link = servers.link(member, ALICE, 120_000)
        links.append(link)
        furnish(link, f"/{name}-{member.id}", create2=not {"A", "N"} <= set(servers.mixture.upper()))
        link.sync()
        for other in servers.running:
            with servers.link(other) as reader:
                reader.sync()
                data, _ = reader.get(f"/{name}-{member.id}/seq/n-0000000002")
                assert data == b"changed again", f"written through {member.id}, read through {other.id}: {data!r}"
                reader.close_session()
    links.pop(0).close_session()
    return links


def leaders_of(servers):
    """One member of each kind that can lead: the one with the highest id, for it is made to lead most easily."""
    last = {servers.mixture[member.id - 1]: member for member in servers.voters}
    return list(last.values())


def run(mixture, checks, terms=None):
    """All checks of one mixture; each line is one leader's. ``terms``: a name in `secured.TERMS`."""
    name = f"mixture {mixture}" + (f" with {terms}" if terms else "")
    links = []
    try:
        with MixedEnsemble(mixture, terms=TERMS[terms] if terms else plain) as servers, checks.context(servers):
            with checks.check(f"{name}: starts") as line:
                servers.start()
                first = servers.leader()
                line.add(servers.describe())
                line.add(servers.seen_text())
                if terms and "SASL" in terms:
                    assert servers.proxy.seen("SASL"), "nobody proved who he is"
            if line.failed:
                return
            # The one that leads already comes first.
            for leader in sorted(leaders_of(servers), key=lambda member: servers.kind(member) != servers.kind(first)):
                mark = servers.proxy.mark()
                kind = servers.kind(leader)
                with checks.check(f"{name}: {kind} leads") as line:
                    if kind != servers.kind(servers.leader()):
                        servers.make_lead(leader)
                    line.add(servers.describe())
                    links += write_through_all(servers, f"by-{kind}")
                    line.add(servers.assert_agree())
                    if said := servers.assert_informed(mark):
                        line.add(said)
                    servers.assert_wire()
                    line.add(servers.seen_text(mark))
                if line.failed:
                    return
    finally:
        for link in links:
            link.close()
