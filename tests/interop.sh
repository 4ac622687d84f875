#!/bin/bash
# The long form of "existing clients and servers cannot tell": `make interop`.
#
#   1. kazoo's own test suite against three zabkit processes, compared with Apache 3.8.0's result
#   2. Apache's tools and servers on zabkit's files, and the other way round (tests/process/test_disk_interop.py)
#
# The first needs ../shared/tools/kazoo-suite; the second Debian's packages `zookeeper libzookeeper-java` and Java.
set -euo pipefail
cd "$(dirname "$0")/.."
suite=$PWD/../shared/tools/kazoo-suite
[ -x "$suite/run" ] || { echo "tests/interop.sh: no ../shared/tools/kazoo-suite beside this clone" >&2; exit 2; }
mkdir -p build

.venv/bin/python -m pytest tests/process -k interop

export KAZOO_VENV=$PWD/build/kazoo-suite
[ -e "$KAZOO_VENV/bin/python" ] || "$suite/run" --setup --venv "$KAZOO_VENV"
"$suite/run" --server-cmd "$PWD/.venv/bin/zabkit server {cfg}" --baseline "$suite/baseline-apache-3.8.0.json" \
  --reruns 1 --out build/kazoo-suite.json "$@"
