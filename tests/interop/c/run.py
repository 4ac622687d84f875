"""The C client of Debian's libzookeeper-mt-dev, every function of its header; see ../harness/part.py for the words.

The header is read twice, as a program with threads and one without sees it. The library without threads is Debian's
libzookeeper-st2; what only it has (`zookeeper_interest`, `zookeeper_process`) is called in `src/single.c`.
"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "harness"))

import part  # noqa: E402

INCLUDE = Path("/usr/include/zookeeper")
#: Its argument is a part of a handle that no program can name.
NOT_FOR_PROGRAMS = {"close_zsock"}
FLAGS = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Wno-missing-field-initializers", f"-I{INCLUDE}"]
PROGRAMS = {
    "threaded": ["-DTHREADED", "-l:libzookeeper_mt.so.2", "-lpthread"],
    "single": ["-l:libzookeeper_st.so.2", "-lpthread"],
}


def declared():
    """Names of the functions that zookeeper.h declares, with and without THREADED."""
    found = set()
    for defines in (["-DTHREADED"], []):
        text, code = part.run_program(["gcc", "-E", *defines, f"-I{INCLUDE}", str(INCLUDE / "zookeeper.h")])
        if code != 0:
            raise part.Unable(f"gcc -E zookeeper.h: {text}")
        ours = []
        here = False
        for line in text.splitlines():
            marker = re.match(r'# \d+ "([^"]*)"', line)
            if marker:
                here = marker[1].endswith("/zookeeper.h")
            elif here:
                ours.append(line)
        # A declaration's name stands before its first bracket; a pointer to a function has none there.
        for statement in re.sub(r"\{[^{}]*\}", "", "\n".join(ours)).split(";"):
            name = re.search(r"(\w+)\s*\(", statement)
            if name and "typedef" not in statement:
                found.add(name[1])
    return found - NOT_FOR_PROGRAMS


def make(setting, ensemble, folder):
    """Compile both programs, run one after the other, and look who was called."""
    part.need("gcc", "gcc libc6-dev")
    part.need(INCLUDE / "zookeeper.h", "libzookeeper-mt-dev libzookeeper-st2")
    wanted, called, transcripts, failures = declared(), set(), [], []
    ports = [str(port) for port in part.talks_to(ensemble)]
    for name, flags in PROGRAMS.items():
        binary, out = folder / name, folder / f"{name}.txt"
        sources = [str(HERE / "src" / f"{source}.c") for source in (name, "script", "gate")]
        text, code = part.run_program(["gcc", *FLAGS, "-o", str(binary), *sources, *flags])
        if code != 0 or "warning" in text:
            return "", [f"gcc: {text}"]
        text, code = part.run_program([str(binary), str(out), *ports])
        called |= set(re.findall(r"^called (\w+)$", text, re.MULTILINE))
        transcripts.append((out.read_text() if out.exists() else "").replace("[: ", f"[{name}: "))
        if code != 0:
            failures.append(f"{name} ended with {code}: {text}")
    failures += [f"never called: {name}" for name in sorted(wanted - called)]
    print(f"{setting.name}: {len(wanted & called)} of {len(wanted)} functions called")
    return "".join(transcripts), failures


part.main("c", HERE, [part.STANDALONE, part.MEMBER], make)
