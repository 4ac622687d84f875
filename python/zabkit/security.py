"""Who may do what: access control lists, with kazoo's names."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = [
    "ACL",
    "ANYONE_ID_UNSAFE",
    "AUTH_IDS",
    "CREATOR_ALL_ACL",
    "OPEN_ACL_UNSAFE",
    "READ_ACL_UNSAFE",
    "Id",
    "Permissions",
    "make_acl",
    "make_digest_acl",
    "make_digest_acl_credential",
]


class Permissions:
    """The bits of `ACL.perms`."""

    READ: Final = 1
    """Read the data and list the children."""
    WRITE: Final = 2
    """Change the data."""
    CREATE: Final = 4
    """Create children."""
    DELETE: Final = 8
    """Delete children."""
    ADMIN: Final = 16
    """Change the ACL."""
    ALL: Final = 31


class Id(NamedTuple):
    """Whom an `ACL` speaks of."""

    scheme: str
    """``world``, ``auth``, ``digest``, ``ip``, ``x509``, ..."""
    id: str
    """In the scheme's own form: ``anyone``, ``user:hash``, ``127.0.0.1/8``, ..."""


class ACL(NamedTuple):
    """One entry of an access control list: these permissions for this identity."""

    perms: int
    """Bits of `Permissions`."""
    id: Id

    @property
    def acl_list(self) -> list[str]:
        """The names of the permissions; ``["ALL"]`` for all of them."""
        if self.perms & Permissions.ALL == Permissions.ALL:
            return ["ALL"]
        return [
            name for name in ("READ", "WRITE", "CREATE", "DELETE", "ADMIN") if self.perms & getattr(Permissions, name)
        ]

    def __repr__(self) -> str:
        return f"ACL(perms={self.perms}, acl_list={self.acl_list}, id={self.id})"


ANYONE_ID_UNSAFE: Final = Id("world", "anyone")
"""Everybody."""
AUTH_IDS: Final = Id("auth", "")
"""Whatever the creating session has proven to be, by `Client.add_auth`."""

OPEN_ACL_UNSAFE: Final[Sequence[ACL]] = (ACL(Permissions.ALL, ANYONE_ID_UNSAFE),)
"""Everybody may do everything; the default of a `Client`."""
CREATOR_ALL_ACL: Final[Sequence[ACL]] = (ACL(Permissions.ALL, AUTH_IDS),)
"""The creator, and whoever has the same credentials, may do everything; nobody else anything."""
READ_ACL_UNSAFE: Final[Sequence[ACL]] = (ACL(Permissions.READ, ANYONE_ID_UNSAFE),)
"""Everybody may read."""


def make_acl(
    scheme: str,
    credential: str,
    read: bool = False,
    write: bool = False,
    create: bool = False,
    delete: bool = False,
    admin: bool = False,
    all: bool = False,
) -> ACL:
    """Make an `ACL` from named permissions.

    Args:
        scheme: Such as ``"digest"`` or ``"ip"``.
        credential: Id in that scheme; for ``digest`` what `make_digest_acl_credential` gives.
        read: May read the data and list the children.
        write: May change the data.
        create: May create children.
        delete: May delete children.
        admin: May change the ACL.
        all: All of these.

    Returns:
        One entry for a list of ACLs.
    """
    wanted = {
        Permissions.READ: read,
        Permissions.WRITE: write,
        Permissions.CREATE: create,
        Permissions.DELETE: delete,
        Permissions.ADMIN: admin,
    }
    perms = Permissions.ALL if all else sum(bit for bit, given in wanted.items() if given)
    return ACL(perms, Id(scheme, credential))


def make_digest_acl_credential(username: str, password: str) -> str:
    """Hash a name and password as the scheme ``digest`` stores them.

    Args:
        username: Any text without a colon.
        password: In clear.

    Returns:
        ``"username:hash"``, the hash being base64 of SHA-1, as ZooKeeper defines it. SHA-1 does not protect a weak
        password from whoever reads the ACL.
    """
    digest = hashlib.sha1(f"{username}:{password}".encode()).digest()
    return f"{username}:{base64.b64encode(digest).decode()}"


def make_digest_acl(
    username: str,
    password: str,
    read: bool = False,
    write: bool = False,
    create: bool = False,
    delete: bool = False,
    admin: bool = False,
    all: bool = False,
) -> ACL:
    """Make an `ACL` for whoever calls ``add_auth("digest", "username:password")``.

    Args:
        username: Any text without a colon.
        password: In clear; the ACL holds its hash.
        read: May read the data and list the children.
        write: May change the data.
        create: May create children.
        delete: May delete children.
        admin: May change the ACL.
        all: All of these.

    Returns:
        One entry for a list of ACLs.
    """
    credential = make_digest_acl_credential(username, password)
    return make_acl("digest", credential, read, write, create, delete, admin, all)


def _wire(acl: Sequence[ACL] | None) -> list[tuple[int, str, str]] | None:
    """The list as the compiled half takes it."""
    if acl is None:
        return None
    if isinstance(acl, ACL):
        raise TypeError("acl is a list of ACL entries, not one entry: [make_acl(...)]")
    return [(perms, scheme, id) for perms, (scheme, id) in acl]


def _from_wire(entries: Sequence[tuple[int, str, str]]) -> list[ACL]:
    return [ACL(perms, Id(scheme, id)) for perms, scheme, id in entries]
