"""What can go wrong, as exceptions: one root, `ZooKeeperError`."""

__all__ = ["ClosedError", "EnsembleError", "ForkError", "NoLeaderError", "StartError", "ZooKeeperError"]


class ZooKeeperError(Exception):
    """Anything that zabkit raises on behalf of ZooKeeper's service."""


class EnsembleError(ZooKeeperError):
    """A `Server` or an `Ensemble` cannot do what was asked; the message says why."""


class StartError(EnsembleError):
    """It could not start: configuration, data directory, port, or no leader in time."""


class NoLeaderError(EnsembleError):
    """No member serves as leader, now (`leader`) or within the timeout (`wait_for_leader`)."""


class ClosedError(EnsembleError):
    """It was not started, or has been stopped."""


class ForkError(EnsembleError):
    """A forked child touched a server of its parent.

    The child has a copy of the memory but none of the threads. Connect a client to `hosts`, which the child may read,
    or start a server of the child's own with the blocking form.
    """
