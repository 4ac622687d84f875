"""What a `create` is asked for, as the protocol says it."""

from __future__ import annotations

__all__ = ["create_flags"]

_TTL_MS_MAX = 0xFF_FFFF_FFFF  # EphemeralType.TTL: 40 bits.


def create_flags(ephemeral: bool, sequence: bool, container: bool, ttl: float | None) -> tuple[int, int]:
    """ZooKeeper's ``CreateMode`` and the TTL in milliseconds.

    Raises:
        ValueError: These do not go together, or the TTL is out of range.
    """
    if container:
        if ephemeral or sequence or ttl is not None:
            raise ValueError("a container is neither ephemeral nor sequential and has no TTL")
        return 4, 0
    if ttl is None:
        return ephemeral | sequence << 1, 0
    ttl_ms = round(ttl * 1000)
    if ephemeral:
        raise ValueError("an ephemeral znode has no TTL: it goes with its session")
    if not 0 < ttl_ms <= _TTL_MS_MAX:
        raise ValueError(f"a TTL is more than 0 and at most {_TTL_MS_MAX / 1000} seconds, not {ttl}")
    return (6 if sequence else 5), ttl_ms
