"""Where the servers are: ``"host1:2181,host2:2181/chroot"`` as text, and numeric addresses that Rust connects to."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Sequence
from typing import TypeAlias

__all__ = ["Address", "are_numeric", "join", "parse", "resolve"]

Address: TypeAlias = "tuple[str, int]"

_DEFAULT_PORT = 2181
_SERVER_BEHIND_CHROOT = re.compile(r"/.*,[^/]*:\d+")


def parse(hosts: str | Sequence[str]) -> tuple[list[Address], str]:
    """The servers and the chroot ("" if there is none) of a hosts string, or of a list with one server each.

    Raises:
        ValueError: There is no server in it, a port or the chroot is malformed, or not at the end.
        TypeError: It is not text.
    """
    parts = [hosts] if isinstance(hosts, (str, bytes)) or not isinstance(hosts, Sequence) else list(hosts)
    if not all(isinstance(part, str) for part in parts):
        raise TypeError(f"hosts are text like '127.0.0.1:2181,[::1]:2182/chroot', or a list of such, not {hosts!r}")
    if any("/" in part for part in parts[:-1]) or _SERVER_BEHIND_CHROOT.search(",".join(parts)):
        raise ValueError(f"the chroot is written once, behind the last server, not as in {hosts!r}")
    text, slash, chroot = ",".join(parts).partition("/")
    servers = [_server(part.strip()) for part in text.strip().removesuffix(",").split(",") if part.strip()]
    if not servers:
        raise ValueError(f"no server in {hosts!r}: it is like '127.0.0.1:2181,[::1]:2182/chroot'")
    chroot = (slash + chroot).rstrip("/")
    if any(part in ("", ".", "..") for part in chroot.split("/")[1:]):
        raise ValueError(f"{chroot!r} is no path for a chroot")
    return servers, chroot


def join(address: Address) -> str:
    """The address as text, IPv6 in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def are_numeric(servers: Sequence[Address]) -> bool:
    """Whether none of them is a name to be looked up."""
    return all(_is_numeric(host) for host, _ in servers)


async def resolve(servers: Sequence[Address]) -> list[Address]:
    """Numeric addresses of all of them, in their order; all addresses of a name, each once.

    Raises:
        OSError: There is not a single one.
    """
    loop = asyncio.get_running_loop()
    found: dict[Address, None] = {}
    failure: OSError | None = None
    for host, port in servers:
        if _is_numeric(host):  # No thread for what needs no look-up.
            found[host, port] = None
            continue
        try:
            for *_, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                found[str(address[0]), port] = None
        except OSError as error:
            failure = error
    if not found and failure is not None:
        raise failure
    return list(found)


def _server(text: str) -> Address:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or rest[:1] not in ("", ":") or not _is_numeric(host):
            raise ValueError(f"{text!r} is no IPv6 address in brackets")
        return host, _port(text, rest[1:] if rest else None)
    host, colon, port = text.partition(":")
    if not host or ":" in port:
        raise ValueError(f"{text!r} is no host and port; an IPv6 address stands in brackets")
    return host, _port(text, port if colon else None)


def _port(text: str, port: str | None) -> int:
    if port is None:
        return _DEFAULT_PORT
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{text!r} has no valid port")
    return int(port)


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
