"""Check: groups and weights mean the same to both kinds; a minority of servers can be a quorum, and a majority none.

`group.1=1:2:3, group.2=4, group.3=5`: two of three groups are a quorum, so 4 and 5 go on alone, and 1, 2 and 3 do not.
`weight.4=3, weight.5=2` in one group of all, of weight 8 together: 4 and 5 go on alone, and 1, 2 and 3 do not.
"""

from harness.until import wait_until
from mixed import MixedEnsemble

GROUPS = {"group.1": "1:2:3", "group.2": "4", "group.3": "5"}
WEIGHTS = {"group.1": "1:2:3:4:5", "weight.4": 3, "weight.5": 2}
CONFIGS = {"groups": GROUPS, "weights": WEIGHTS}


def answers(member):
    """Whether it takes a client's session, which only a member of a quorum does."""
    try:
        with member.connect(timeout_s=2.0) as link:
            link.close_session()
    except OSError:
        return False
    return True


def run(mixture, what, checks):
    """One mixture of five under one of `CONFIGS`; 5 leads the two that go on alone."""
    name = f"{what} {mixture}"
    with MixedEnsemble(mixture, config=CONFIGS[what]) as servers, checks.context(servers):
        few, many = (servers[4], servers[5]), (servers[1], servers[2], servers[3])
        with checks.check(f"{name}: starts") as line:
            servers.start()
            servers.write(servers[1])
            line.add(servers.describe())
            line.add(servers.assert_agree())
        if line.failed:
            return
        with checks.check(f"{name}: 4 and 5 are a quorum") as line:
            for member in many:
                member.kill()
            # The leader may have been among the many.
            wait_until(lambda: all(answers(member) for member in few), "4 and 5 take sessions", 30.0, servers.logs)
            for member in few:
                servers.write(member, f"/through-{member.id}")
            line.add(servers.describe())
            servers.launch(*many)
            servers.wait_serving(60.0)
            line.add(servers.assert_agree())
        if line.failed:
            return
        with checks.check(f"{name}: 1, 2 and 3 are none") as line:
            for member in few:
                member.kill()
            wait_until(
                lambda: not any(answers(member) for member in many), "1, 2 and 3 take no sessions", 30.0, servers.logs
            )
            mark = servers.proxy.mark()
            # They have all the time in which they would elect one of themselves.
            wait_until(lambda: rounds(servers, mark) >= 9, "they have asked each other thrice", 30.0, servers.describe)
            assert not any(answers(member) for member in many), servers.describe()
            assert not servers.proxy.seen("NEWLEADER", since=mark), "a leader without a quorum"
            line.add(servers.describe())
            servers.launch(few[1])
            servers.wait_serving(60.0)
            servers.launch(few[0])
            servers.wait_serving(60.0)
            servers.write(servers[1], "/after")
            line.add(servers.describe())
            line.add(servers.assert_agree())
            servers.assert_wire()


def rounds(servers, since):
    """How many notifications of servers that look for a leader have passed."""
    return sum("LOOKING" in packet.more for packet in servers.proxy.seen("NOTIFICATION", since=since))
