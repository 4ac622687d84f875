"""Curator's recipes by Debian's libcurator-recipes-java; see ../harness/part.py for the words."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "harness"))

import part  # noqa: E402

NAMES = "curator-recipes curator-x-discovery curator-framework curator-client zookeeper zookeeper-jute guava slf4j-api"
NAMES += " jackson-databind jackson-core jackson-annotations"
CLASS_PATH = ":".join(f"{part.JARS}/{name}.jar" for name in NAMES.split())


def make(setting, ensemble, folder):
    """Compile the program, run it, and read what it wrote."""
    part.need("javac", "default-jdk-headless")
    part.need(part.JARS / "curator-recipes.jar", "libcurator-recipes-java")
    part.need(part.JARS / "curator-x-discovery.jar", "libcurator-discovery-java")
    classes, out = folder / "classes", folder / "transcript.txt"
    source = str(HERE / "src" / "Recipes.java")
    text, code = part.run_program(["javac", "-proc:none", "-d", str(classes), "-cp", CLASS_PATH, source])
    if code != 0:
        return "", [f"javac: {text}"]
    words = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", f"{classes}:{CLASS_PATH}", "Recipes"]
    text, code = part.run_program([*words, str(out), str(part.talks_to(ensemble)[0])])
    return out.read_text() if out.exists() else "", [text] if code != 0 else []


part.main("curator", HERE, [part.STANDALONE, part.MEMBER], make)
