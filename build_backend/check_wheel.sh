#!/bin/bash
# `pip install .` into an empty environment gives the package and `zabkit` as a native program without libpython.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() { echo "check_wheel: $*" >&2; exit 1; }

"${PYTHON3:-python3}" -m venv "$scratch/env"
"$scratch/env/bin/python" -m pip install --quiet --disable-pip-version-check .
command="$scratch/env/bin/zabkit"

[ "$(head -c 4 "$command")" = $'\x7fELF' ] || fail "bin/zabkit is not a native program"
if ldd "$command" | grep -q python; then fail "bin/zabkit links libpython"; fi
# From elsewhere, so that nothing of the source tree is imported.
cd "$scratch"
version=$("$scratch/env/bin/python" -c 'import zabkit; print(zabkit.__version__)')
"$command" --version | grep -qF "$version" || fail "command and package differ: $("$command" --version), $version"
"$scratch/env/bin/python" -m pip check
echo "check_wheel: zabkit $version, native command of $(stat -c %s "$command") bytes"
