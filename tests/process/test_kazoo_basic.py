"""kazoo, unmodified, against each member of three processes: what an ordinary program does with ZooKeeper."""

import threading

import pytest
from harness import wire
from harness.until import wait_until
from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError, RolledBackError
from kazoo.protocol.states import KazooState
from kazoo.retry import KazooRetry

MEMBERS = (1, 2, 3)


def connect(hosts, timeout=10.0, **options):
    """A started client that tries hosts in the order given and again soon after a loss."""
    retry = KazooRetry(max_tries=-1, delay=0.01, backoff=1, max_delay=0.05)
    client = KazooClient(hosts=hosts, timeout=timeout, randomize_hosts=False, connection_retry=retry, **options)
    client.start(timeout=30)
    return client


@pytest.fixture(params=MEMBERS, ids=lambda number: f"server{number}")
def zk(request, shared_trio):
    """A client of one server, with a znode of its own to work under."""
    client = connect(shared_trio[request.param].host)
    client.base = client.create("/basic-", sequence=True)
    yield client
    client.delete(client.base, recursive=True)
    client.stop()
    client.close()


@pytest.fixture
def other(shared_trio, zk):
    """A second session, on the next server."""
    number = int(zk.hosts[0][1] == shared_trio[1].client_port) + 1
    client = connect(shared_trio[number].host)
    yield client
    client.stop()
    client.close()


class Heard:
    """A watch function that remembers its events."""

    def __init__(self):
        self.events, self._come = [], threading.Semaphore(0)

    def __call__(self, event):
        self.events.append(event)
        self._come.release()

    def wait(self):
        assert self._come.acquire(timeout=15), "no event came"
        return self.events[-1]


def test_what_is_created_can_be_read_set_and_deleted(zk):
    path = f"{zk.base}/plain"
    assert zk.create(path, b"one") == path
    data, stat = zk.get(path)
    assert (data, stat.version, stat.data_length, stat.ephemeralOwner) == (b"one", 0, 3, 0)
    assert stat.czxid == stat.mzxid == stat.pzxid

    changed = zk.set(path, b"two")
    assert (changed.version, changed.czxid) == (1, stat.czxid)
    assert changed.mzxid > stat.mzxid
    assert zk.get(path)[0] == b"two"

    with pytest.raises(BadVersionError):
        zk.set(path, b"three", version=0)
    with pytest.raises(NodeExistsError):
        zk.create(path, b"again")
    zk.delete(path, version=1)
    assert zk.exists(path) is None
    with pytest.raises(NoNodeError):
        zk.get(path)


def test_children_are_listed_and_counted(zk):
    for name in ("a", "b", "c"):
        zk.create(f"{zk.base}/{name}", b"")
    assert sorted(zk.get_children(zk.base)) == ["a", "b", "c"]
    names, stat = zk.get_children(zk.base, include_data=True)
    assert (len(names), stat.numChildren, stat.cversion) == (3, 3, 3)


def test_sequential_names_ascend_by_ten_digits(zk):
    paths = [zk.create(f"{zk.base}/n-", b"", sequence=True) for _ in range(3)]
    assert paths == [f"{zk.base}/n-{number:010d}" for number in range(3)]


def test_a_write_through_one_server_is_read_after_sync_through_another(zk, other):
    for number in range(20):
        zk.create(f"{zk.base}/w{number}", b"x")
        other.sync(zk.base)
        assert other.exists(f"{zk.base}/w{number}")


def test_ephemerals_belong_to_their_session_and_vanish_when_it_closes(zk, shared_trio):
    owner = connect(shared_trio.hosts)
    path = owner.create(f"{zk.base}/mine", b"", ephemeral=True)
    zk.sync(path)
    assert zk.exists(path).ephemeralOwner == owner.client_id[0]
    owner.stop()
    owner.close()
    zk.sync(zk.base)
    assert zk.exists(path) is None


def test_a_data_watch_fires_once(zk, other):
    path = zk.create(f"{zk.base}/watched", b"0")
    heard = Heard()
    zk.get(path, watch=heard)
    other.set(path, b"1")
    event = heard.wait()
    assert (event.type, event.path) == ("CHANGED", path)
    other.set(path, b"2")
    zk.sync(path)
    assert zk.get(path)[0] == b"2"
    assert len(heard.events) == 1


def test_an_exists_watch_fires_on_creation_and_on_deletion(zk, other):
    path = f"{zk.base}/coming"
    heard = Heard()
    assert zk.exists(path, watch=heard) is None
    other.create(path, b"")
    assert heard.wait().type == "CREATED"
    heard = Heard()
    assert zk.exists(path, watch=heard)
    other.delete(path)
    assert heard.wait().type == "DELETED"


def test_a_child_watch_fires_on_a_new_child_and_not_on_data(zk, other):
    heard = Heard()
    zk.get_children(zk.base, watch=heard)
    other.set(zk.base, b"data does not matter")
    other.create(f"{zk.base}/child", b"")
    event = heard.wait()
    assert (event.type, event.path) == ("CHILD", zk.base)
    assert len(heard.events) == 1


def test_multi_happens_wholly(zk):
    transaction = zk.transaction()
    transaction.create(f"{zk.base}/a", b"1")
    transaction.create(f"{zk.base}/a/b", b"2")
    transaction.set_data(f"{zk.base}/a", b"3")
    transaction.check(f"{zk.base}/a", 1)
    transaction.create(f"{zk.base}/gone", b"")
    transaction.delete(f"{zk.base}/gone")
    results = transaction.commit()
    assert results[:2] == [f"{zk.base}/a", f"{zk.base}/a/b"]
    assert not [result for result in results if isinstance(result, Exception)]
    assert zk.get(f"{zk.base}/a")[0] == b"3"
    assert zk.get_children(zk.base) == ["a"]
    assert zk.get(f"{zk.base}/a/b")[1].czxid == zk.get(f"{zk.base}/a")[1].mzxid


def test_multi_that_fails_leaves_nothing(zk):
    transaction = zk.transaction()
    transaction.create(f"{zk.base}/a", b"1")
    transaction.check(f"{zk.base}/a", 7)
    transaction.create(f"{zk.base}/b", b"2")
    first, second, third = transaction.commit()
    assert isinstance(first, RolledBackError)
    assert isinstance(second, BadVersionError)
    assert isinstance(third, Exception)
    assert zk.get_children(zk.base) == []


def test_the_lock_recipe_lets_one_in_at_a_time(zk, shared_trio):
    inside, most, entries, failures = [], [], [], []

    def work(host):
        client = connect(host)
        try:
            for _ in range(5):
                with client.Lock(f"{zk.base}/lock", host):
                    inside.append(host)
                    most.append(len(inside))
                    client.get(zk.base)
                    inside.remove(host)
                    entries.append(host)
        except Exception as error:  # Shown by the test's own thread.
            failures.append(error)
        finally:
            client.stop()
            client.close()

    workers = [threading.Thread(target=work, args=(member.host,)) for member in shared_trio]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not failures
    assert (len(entries), max(most)) == (15, 1)


@pytest.mark.parametrize("number", MEMBERS)
def test_a_session_outlives_its_server(shared_trio, number):
    """SIGKILL of the server: same session elsewhere, its ephemeral there, its watch fires."""
    victim = shared_trio[number]
    hosts = ",".join([victim.host, *(member.host for member in shared_trio if member is not victim)])
    states, seen = [], []
    client = connect(hosts, timeout=10.0)
    client.add_listener(states.append)
    writer = connect(",".join(hosts.split(",")[1:]))
    session = client.client_id
    base = client.create("/outlives-", sequence=True)
    ephemeral = client.create(f"{base}/mine", b"", ephemeral=True)

    @client.DataWatch(base)
    def _watch(data, stat):
        seen.append(data)

    victim.kill()
    try:
        wait_until(lambda: KazooState.SUSPENDED in states and client.connected, "kazoo is connected again")
        assert client.client_id == session
        assert KazooState.LOST not in states
        assert client.retry(client.exists, ephemeral).ephemeralOwner == session[0]
        writer.retry(writer.set, base, b"after")
        wait_until(lambda: seen[-1] == b"after", "the watch fires after the reconnect")
    finally:
        victim.start()
        shared_trio.wait_serving()
    assert client.exists(ephemeral)
    for one in (client, writer):
        one.stop()
    with shared_trio[number].connect() as check:
        check.sync()
        assert check.exists(ephemeral) is None


def test_watches_set_again_tell_what_changed_meanwhile(shared_trio):
    """What kazoo leaves out: `setWatches` on another server, with the newest zxid seen."""
    first, second, third = shared_trio
    session = wire.Session()
    link = first.connect(session)
    for path in ("/again", "/again/data", "/again/same", "/again/children"):
        link.create(path)
    link.close()
    seen = session.last_zxid
    with third.connect() as writer:
        writer.set("/again/data", b"new")
        writer.create("/again/children/x")
        writer.create("/again/made")
    link = second.connect(session)
    link.sync()
    link.set_watches(data=["/again/data", "/again/same"], exist=["/again/made"], child=["/again/children"], since=seen)
    got = sorted(link.wait_event().path for _ in range(3))
    assert got == ["/again/children", "/again/data", "/again/made"]
    link.set("/again/same", b"now")
    assert link.wait_event().path == "/again/same"
    for path in ("/again/data", "/again/same", "/again/made", "/again/children/x", "/again/children", "/again"):
        link.delete(path)
    link.close_session()


@pytest.mark.parametrize("number", MEMBERS)
def test_a_silent_session_expires_and_its_ephemerals_vanish(shared_trio, number):
    session = wire.Session(timeout_ms=1000)
    silent = shared_trio[number].connect(session)
    path = silent.create("/silent-", flags=3)
    with shared_trio[number % 3 + 1].connect() as observer:
        observer.sync(path)
        assert observer.exists(path, watch=True)
        event = observer.wait_event(20)
        assert (event.type, event.path) == (2, path)
    silent.close()
    with pytest.raises(wire.Expired):
        shared_trio[number].connect(session)
