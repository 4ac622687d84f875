"""Which program a server is.

A command is a template such as ``zabkit server {cfg}``; ``{cfg} {id} {dir} {port}`` are filled in for each server.
The server runs in the foreground and logs to standard output or error. In order: `ZABKIT_SERVER_CMD` (a whole
template, for any implementation), `ZABKIT_BIN` (the zabkit binary), the newer of `target/release/zabkit` and
`target/debug/zabkit`, the zabkit on PATH.
"""

import os
import shlex
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

#: What Apache's server needs at run time, as Debian names the jars.
_JARS = (
    "zookeeper zookeeper-jute slf4j-api slf4j-simple netty-buffer netty-common netty-handler "
    "netty-transport netty-codec netty-resolver netty-transport-native-epoll "
    "netty-transport-native-unix-common snappy-java metrics-core commons-cli commons-io "
    "jackson-annotations jackson-core jackson-databind jetty9-server jetty9-servlet jetty9-http jetty9-io "
    "jetty9-util jetty9-security"
)


def zabkit_binary():
    """Path of the zabkit binary under test."""
    if os.environ.get("ZABKIT_BIN"):
        return os.environ["ZABKIT_BIN"]
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [path for path in (target / "release/zabkit", target / "debug/zabkit") if path.is_file()]
    if built:
        return str(max(built, key=lambda path: path.stat().st_mtime))
    found = shutil.which("zabkit")
    if found:
        return found
    raise RuntimeError("no zabkit: run `cargo build`, or set ZABKIT_BIN (a binary) or ZABKIT_SERVER_CMD (a template)")


def zabkit_command():
    """Template that starts one zabkit server."""
    return shlex.join([zabkit_binary(), "server"]) + " {cfg}"


def server_command():
    """Template of the server under test."""
    return os.environ.get("ZABKIT_SERVER_CMD") or zabkit_command()


def is_zabkit():
    """Whether the server under test is zabkit: a few promises are its alone (a lock on the data directory)."""
    return "QuorumPeerMain" not in server_command() and "java" not in server_command()


class ApacheMissing(Exception):
    """Apache ZooKeeper 3.8.0 is not installed; the text says how to install it."""


def apache_class_path():
    """What Apache ZooKeeper 3.8.0 runs with: Debian's jars, or the class path in `ZK38_CP`.

    Raises:
        ApacheMissing: No Java, or no jars.
    """
    advice = "run `apt-get install zookeeper libzookeeper-java default-jre-headless`, or set ZABKIT_SKIP_APACHE=1"
    if not shutil.which("java"):
        raise ApacheMissing(f"there is no java on PATH: {advice}")
    class_path = os.environ.get("ZK38_CP")
    if not class_path:
        folder = Path(os.environ.get("ZK_JARS", "/usr/share/java"))
        if not (folder / "zookeeper.jar").exists():
            raise ApacheMissing(f"{folder}/zookeeper.jar does not exist: {advice}")
        class_path = ":".join(str(folder / f"{jar}.jar") for jar in _JARS.split())
    return class_path


def apache_command():
    """Template that starts one Apache ZooKeeper 3.8.0.

    Raises:
        ApacheMissing: No Java, or no jars.
    """
    class_path = apache_class_path()
    # Quick to start rather than quick to run.
    flags = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto -Xmx512m -Dzookeeper.admin.enableServer=false"
    main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
    return f"java {flags} -cp {shlex.quote(class_path)} {main} {{cfg}}"
