"""ZooKeeper's coordination service without the JVM: embeddable, testable, compatible."""

from zabkit._zabkit import __version__

__all__ = ["__version__"]
