"""A kazoo session that is moved from server to server keeps its id and its ephemerals."""

import socket

from harness.until import wait_until
from test_kazoo_basic import connect

MOVES = 30


def port_of(client):
    """The port of the server that the client is connected to; None while it is not."""
    try:
        return client._connection._socket.getpeername()[1] if client.connected else None
    except (AttributeError, OSError):
        return None


def move(client, member):
    """Cuts the client's link and leaves it no server but this one."""
    client.set_hosts(member.host)
    client._connection._socket.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: port_of(client) == member.client_port, "the client is there")


def test_a_session_that_moves_keeps_its_id_and_its_ephemerals(shared_trio):
    members = list(shared_trio)
    client, other = connect(members[0].host), connect(members[1].host)
    base = other.create("/moves-", sequence=True)
    session, gone = client.client_id, []
    for n in range(MOVES):
        path = client.create(f"{base}/{n}", ephemeral=True)
        other.sync(path)
        # Its end is told to the other session, and must not be before the session's.
        assert other.exists(path, watch=lambda event: gone.append(event.path)).ephemeralOwner == session[0]
        move(client, members[(n + 1) % len(members)])
        assert client.client_id == session
        client.retry(client.set, base, str(n).encode())
        other.sync(base)
        assert other.get(base)[0] == str(n).encode()
    assert len(other.get_children(base)) == MOVES
    assert gone == []
    client.stop()
    client.close()
    wait_until(lambda: len(gone) == MOVES, "every end is told")
    other.sync(base)
    assert other.get_children(base) == []
    assert sorted(gone) == sorted(f"{base}/{n}" for n in range(MOVES))
    other.delete(base)
    other.stop()
    other.close()
