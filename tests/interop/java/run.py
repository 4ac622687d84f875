#!/usr/bin/env python3
"""The Java client of Debian's libzookeeper-java, every public method of it; see ../harness/part.py for the words."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "harness"))

import part  # noqa: E402
import secure  # noqa: E402

#: The client's jar names what it needs in its manifest; the facade for logging stays without a back end.
CLASS_PATH = f"{part.JARS}/zookeeper.jar:{part.JARS}/zookeeper-jute.jar"
#: What Debian's manifest forgets of the client over TLS.
NETTY = ":".join(f"{part.JARS}/netty-{name}.jar" for name in ("codec", "resolver", "transport-native-unix-common"))


def make(setting, ensemble, folder):
    """Compile the program, run it, and read what it wrote."""
    part.need("javac", "default-jdk-headless")
    part.need(part.JARS / "zookeeper.jar", "libzookeeper-java")
    classes, out = folder / "classes", folder / "transcript.txt"
    sources = sorted(str(path) for path in (HERE / "src").glob("*.java"))
    text, code = part.run_program(["javac", "-proc:none", "-d", str(classes), "-cp", CLASS_PATH, *sources])
    if code != 0:
        return "", [f"javac: {text}"]
    ports = [str(port) for port in part.talks_to(ensemble)]
    quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    words = ["java", *quick, *ensemble.terms.client_flags, "-cp", f"{classes}:{CLASS_PATH}:{NETTY}", "Program"]
    text, code = part.run_program([*words, str(out), "secured" if ensemble.terms.client_flags else "whole", *ports])
    counted = [line for line in text.splitlines() if line.endswith("public methods called")]
    print(f"{setting.name}: {counted[0] if counted else 'the program broke off'}")
    return out.read_text() if out.exists() else "", [text] if code != 0 else []


SETTINGS = [
    part.STANDALONE,
    part.MEMBER,
    part.Setting("sasl", terms=secure.sasl),
    part.Setting("tls", terms=secure.tls, quick=False),
]
part.main("java", HERE, SETTINGS, make)
