"""What needs no server: the values that a client takes and gives."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import zabkit
from zabkit import ACL, EventType, Id, Permissions, State, WatchedEvent, errors

CODES = range(-127, 1)


def coded() -> list[type[zabkit.ZooKeeperError]]:
    return [error for error in zabkit.ZooKeeperError.__subclasses__() if error.code is not None]


def test_each_code_has_a_class_of_its_own() -> None:
    made = [errors._error(code, "/a", False, "") for code in CODES]
    classes = [type(error) for error in made if not isinstance(error, zabkit.UnknownCodeError)]
    assert sorted(map(repr, classes)) == sorted(map(repr, coded()))
    assert [error.code for error in made] == list(CODES)


def test_every_code_of_kazoo_is_known_by_kazoos_name() -> None:
    from kazoo import exceptions

    renamed = {
        "ConnectionLoss": "ConnectionLossError",
        "RuntimeInconsistency": "RuntimeInconsistencyError",
        "DataInconsistency": "DataInconsistencyError",
        "SystemZookeeperError": "SystemZooKeeperError",
    }
    for code, error in exceptions.EXCEPTIONS.items():
        name = renamed.get(error.__name__, error.__name__)
        assert getattr(zabkit, name).code == code


@pytest.mark.parametrize("error", coded(), ids=lambda error: error.__name__)
def test_a_message_names_what_happened_path_and_code(error: type[zabkit.ZooKeeperError]) -> None:
    assert error.code is not None
    text = str(errors._error(error.code, "/app/x", False, ""))
    name = error.__name__.removesuffix("Error")
    assert text.endswith(f"'/app/x' ({name}, {error.code})")
    assert text[0].islower()
    assert str(errors._error(error.code, None, False, "")).endswith(f" ({name}, {error.code})")


def test_the_message_of_a_missing_znode() -> None:
    error = errors._error(-101, "/app/x", False, "")
    assert str(error) == "no znode at '/app/x' (NoNode, -101)"
    assert isinstance(error, zabkit.NoNodeError)


@pytest.mark.parametrize("kind", [*CODES, "closed", "too_large", "queue_full", "bad_path"])
@pytest.mark.parametrize("unknown", [True, False])
def test_errors_pickle_and_copy(kind: int | str, unknown: bool) -> None:
    error = errors._error(kind, "/a", unknown, "as it was")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error)
        assert (str(other), other.code, other.path) == (str(error), error.code, "/a")
        assert other.outcome_unknown is unknown


def test_errors_are_also_the_builtin_ones() -> None:
    assert isinstance(errors._error(-4, "/a", True, ""), ConnectionError)
    assert isinstance(errors._error(-7, "/a", False, ""), TimeoutError)
    assert isinstance(errors._error("bad_path", "a", False, "no slash"), ValueError)
    assert isinstance(errors._error("bad_path", "a", False, "no slash"), zabkit.BadArgumentsError)
    assert isinstance(errors._error("too_large", "/a", False, ""), ValueError)
    assert not isinstance(errors._error("closed", None, False, ""), zabkit.SessionExpiredError)


def test_an_unknown_outcome_is_said() -> None:
    sent = errors._error(-4, "/a", True, "the server closed the link")
    assert sent.outcome_unknown
    assert "whether it took effect is unknown" in str(sent)
    unsent = errors._error(-4, "/a", False, "")
    assert not unsent.outcome_unknown
    assert "unknown" not in str(unsent)


def test_a_code_of_a_later_server_is_kept() -> None:
    error = errors._error(-999, "/a", False, "")
    assert type(error) is zabkit.UnknownCodeError
    assert error.code == -999
    assert "-999" in str(error)


def test_acls_are_kazoos() -> None:
    from kazoo import security

    for ours, theirs in (
        (zabkit.make_digest_acl("user", "pass", read=True, admin=True), security.make_digest_acl),
        (zabkit.make_digest_acl("üser", "pä:ss", read=True, admin=True), security.make_digest_acl),
    ):
        name, password = ("user", "pass") if ours.id.id.startswith("user") else ("üser", "pä:ss")
        assert ours == theirs(name, password, read=True, admin=True)
    assert zabkit.make_acl("ip", "127.0.0.1", all=True) == security.make_acl("ip", "127.0.0.1", all=True)
    assert list(zabkit.CREATOR_ALL_ACL) == security.CREATOR_ALL_ACL
    assert list(zabkit.OPEN_ACL_UNSAFE) == security.OPEN_ACL_UNSAFE
    assert list(zabkit.READ_ACL_UNSAFE) == security.READ_ACL_UNSAFE


def test_permissions_have_names() -> None:
    everything = ACL(Permissions.ALL, Id("world", "anyone"))
    assert everything.acl_list == ["ALL"]
    assert zabkit.make_acl("world", "anyone", write=True, create=True, delete=True).acl_list == [
        "WRITE",
        "CREATE",
        "DELETE",
    ]
    assert repr(everything) == "ACL(perms=31, acl_list=['ALL'], id=Id(scheme='world', id='anyone'))"


@pytest.mark.parametrize(
    "value",
    [
        ACL(1, Id("world", "anyone")),
        WatchedEvent(EventType.CHANGED, State.CONNECTED, "/a", 0x100000001),
        State.SUSPENDED,
        EventType.RESYNC,
    ],
)
def test_values_pickle_compare_and_hash(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    assert copy.deepcopy(value) == value
    assert hash(copy.deepcopy(value)) == hash(value)


def test_states_and_event_types_are_also_their_names() -> None:
    assert State.CONNECTED == "CONNECTED"
    assert f"{EventType.DELETED} {State.LOST}" == "DELETED LOST"


@pytest.mark.parametrize(
    ("hosts", "error", "message"),
    [
        (["h1:1/x", "h2:2/y"], ValueError, "chroot is written once"),
        ("h1:1/x,h2:2/x", ValueError, "chroot is written once"),
        ("h1:1/a/../b", ValueError, "no path for a chroot"),
        ("", ValueError, "no server in ''"),
        (5, TypeError, "hosts are text"),
        (None, TypeError, "hosts are text"),
        (b"h1:1", TypeError, "hosts are text"),
        (["h1:1", 2], TypeError, "hosts are text"),
    ],
)
def test_hosts_that_cannot_be_are_refused_by_name(hosts: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        zabkit.Client(hosts)


def test_a_chroot_stands_behind_the_last_server() -> None:
    assert repr(zabkit.Client("h1:1,[::1]:2/app,with-a-comma")) == (
        "<zabkit.Client h1:1,[::1]:2/app,with-a-comma CLOSED>"
    )
    assert zabkit.Client(["h1:1", "h2/app"]).chroot == "/app"


@pytest.mark.parametrize("timeout", ["5", None, True, float("nan"), 0, -1.0, 0.0001, 1e12])
def test_a_session_timeout_is_seconds(timeout: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="session timeout is"):
        zabkit.Client("h1:1", timeout=timeout)
