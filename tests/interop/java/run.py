#!/usr/bin/env python3
"""The Java client of Debian's libzookeeper-java, every public method of it; see ../harness/part.py for the words."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "harness"))

import part  # noqa: E402

#: The client's jar names what it needs in its manifest; the facade for logging stays without a back end.
CLASS_PATH = f"{part.JARS}/zookeeper.jar:{part.JARS}/zookeeper-jute.jar"


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
    text, code = part.run_program(["java", *quick, "-cp", f"{classes}:{CLASS_PATH}", "Program", str(out), *ports])
    print(f"{setting.name}: {text.splitlines()[-1] if text else 'nothing was said'}")
    return out.read_text() if out.exists() else "", [text] if code != 0 else []


part.main("java", HERE, [part.STANDALONE, part.MEMBER], make)
