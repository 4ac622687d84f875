"""`zabkit.Server`: one server, from keywords and from a zoo.cfg."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aids import contents, is_refused, threads
from kazoo.client import KazooClient

import zabkit
from zabkit import Role, blocking

Connect = Callable[[str], KazooClient]


def test_a_server_of_its_own_serves_at_once(connect: Connect) -> None:
    with zabkit.Server() as server:
        assert isinstance(server, blocking.Server)
        assert server.status.role is Role.STANDALONE
        assert server.status.serving
        client = connect(server.hosts)
        client.create("/a", b"1")
        assert client.get("/a")[0] == b"1"
        hosts = server.hosts
    assert is_refused(hosts)


async def test_it_works_in_async_with() -> None:
    async with zabkit.Server() as server:
        assert server.status.serving
        hosts = server.hosts
        await server.kill()
        assert server.status.role is Role.ENDED
        await server.restart()
        await server.wait_until_serving()
        assert server.hosts == hosts


def test_a_write_survives_kill_and_restart(zk_server: blocking.Server, connect: Connect) -> None:
    connect(zk_server.hosts).create("/kept", b"1")
    zk_server.kill()
    assert is_refused(zk_server.hosts)
    zk_server.restart()
    assert connect(zk_server.hosts).get("/kept")[0] == b"1"


async def test_ttl_nodes_are_there_unless_they_are_turned_off_and_go_after_their_time() -> None:
    reaping = {"znode.container.checkIntervalMs": 50}
    async with zabkit.Server(settings=reaping) as server, zabkit.Client(server.hosts) as zk:
        async with zk.watch("/short") as events:
            await zk.create("/short", ttl=0.1)
            await zk.create("/long", ttl=1000.0)
            kinds = [(await anext(events)).type.name for _ in range(2)]
        assert kinds == ["CREATED", "DELETED"]
        assert await zk.exists("/long")
    off = {"extendedTypesEnabled": "false"}
    async with zabkit.Server(settings=off) as server, zabkit.Client(server.hosts) as zk:
        with pytest.raises(zabkit.UnimplementedError):
            await zk.create("/short", ttl=0.1)


def test_a_zoo_cfg_is_read_as_apache_reads_it(tmp_path: Path, connect: Connect) -> None:
    data = tmp_path / "data"
    port = free_port()
    (tmp_path / "zoo.cfg").write_text(
        f"tickTime=2000\ndataDir={data}\nclientPort={port}\nclientPortAddress=127.0.0.1\n4lw.commands.whitelist=*\n"
    )
    with zabkit.Server(tmp_path / "zoo.cfg") as server:
        assert server.hosts == f"127.0.0.1:{port}"
        connect(server.hosts).create("/a")
        assert (data / "version-2").is_dir()
        assert four_letter_word(server.hosts, b"ruok") == b"imok"


def test_settings_are_keys_of_zoo_cfg() -> None:
    with zabkit.Server(settings={"4lw.commands.whitelist": "ruok"}) as server:
        assert four_letter_word(server.hosts, b"ruok") == b"imok"
        assert b"whitelist" in four_letter_word(server.hosts, b"mntr")


def test_three_servers_given_each_others_addresses_form_an_ensemble(tmp_path: Path, connect: Connect) -> None:
    ports = iter([free_port() for _ in range(6)])
    addresses = {id: f"127.0.0.1:{next(ports)}:{next(ports)}" for id in (1, 2, 3)}
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(
                zabkit.Server(data_dir=tmp_path / str(id), my_id=id, servers=addresses, tick_time_ms=200)
            )
            for id in addresses
        ]
        for server in servers:
            server.wait_until_serving()
        assert sorted(s.status.role for s in servers) == [Role.FOLLOWING, Role.FOLLOWING, Role.LEADING]
        connect(servers[0].hosts).create("/a", b"1")


def test_a_port_in_use_is_a_start_error_that_names_it(tmp_path: Path) -> None:
    with listening() as port, pytest.raises(zabkit.StartError, match=str(port)):
        blocking.Server(data_dir=tmp_path, client_port=port).start()


def test_a_directory_that_is_a_file_is_a_start_error_that_names_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a directory")
    with pytest.raises(zabkit.StartError, match=str(file)):
        blocking.Server(data_dir=file).start()


def test_two_servers_cannot_share_a_directory(tmp_path: Path) -> None:
    with zabkit.Server(data_dir=tmp_path):
        before = contents(tmp_path)
        with pytest.raises(zabkit.StartError, match=str(tmp_path)):
            blocking.Server(data_dir=tmp_path).start()
        assert contents(tmp_path).keys() == before.keys()


def test_a_missing_zoo_cfg_is_a_start_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(zabkit.StartError, match=r"no-such\.cfg"):
        blocking.Server(tmp_path / "no-such.cfg").start()


def test_a_bad_setting_is_a_start_error_that_names_it() -> None:
    with pytest.raises(zabkit.StartError, match=r"(?i)ticktime"):
        blocking.Server(settings={"tickTime": "often"}).start()


def test_a_file_and_keywords_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not both"):
        zabkit.Server("zoo.cfg", data_dir=tmp_path)
    with pytest.raises(TypeError, match="my_id"):
        zabkit.Server(servers={1: "127.0.0.1:2888:3888"})


def test_the_directory_of_another_server_is_refused(tmp_path: Path) -> None:
    (tmp_path / "myid").write_text("2\n")
    server = blocking.Server(data_dir=tmp_path, my_id=1, servers={1: "127.0.0.1:2888:3888"})
    with pytest.raises(zabkit.StartError, match="server 2, not of 1"):
        server.start()


def test_a_value_of_two_lines_is_refused() -> None:
    with pytest.raises(ValueError, match="one line"):
        blocking.Server(settings={"a": "1\nclientPort=1"}).start()


def test_a_running_server_is_not_started_twice(zk_server: blocking.Server) -> None:
    with pytest.raises(zabkit.ClosedError, match="runs already"):
        zk_server.start()


def test_before_the_start_it_says_so() -> None:
    server = zabkit.Server()
    with pytest.raises(zabkit.ClosedError, match="not started"):
        _ = server.hosts
    with pytest.raises(zabkit.ClosedError, match="not started"):
        _ = server.status


def test_threads_and_temporary_directory_are_gone_after_the_end() -> None:
    before = threads()
    with zabkit.Server() as server:
        directory = Path(server._settings.directory())
        assert (directory / "version-2").is_dir()
    assert threads() == before
    assert not directory.exists()


def four_letter_word(hosts: str, word: bytes) -> bytes:
    host, _, port = hosts.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(word)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def free_port() -> int:
    """A port that was free a moment ago; for what cannot be told to take any."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@contextlib.contextmanager
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
