#!/bin/bash
# The sdist, installed by pip into an empty environment, gives the package, the pytest plugin, and `zabkit` as a native
# program without libpython. What the sdist forgot is not there: cargo and pip see nothing of this tree but its caches.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() { echo "check_wheel: $*" >&2; exit 1; }
pip() { "$scratch/$1/bin/python" -m pip --disable-pip-version-check --quiet "${@:2}"; }
for environment in tools env; do "${PYTHON3:-python3}" -m venv "$scratch/$environment"; done

pip tools install "maturin>=1.16,<2"
PATH="$scratch/tools/bin:$PATH" PYTHONPATH=build_backend \
  python -c 'import sys, zabkit_build; zabkit_build.build_sdist(sys.argv[1])' "$scratch"
# The crates that are compiled already serve again; only zabkit itself is built anew.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
# From elsewhere, so that nothing of the source tree is imported.
cd "$scratch"
pip env install ./zabkit-*.tar.gz pytest

command="$scratch/env/bin/zabkit"
[ "$(head -c 4 "$command")" = $'\x7fELF' ] || fail "bin/zabkit is not a native program"
if ldd "$command" | grep -q python; then fail "bin/zabkit links libpython"; fi
version=$("$scratch/env/bin/python" -c 'import zabkit; print(zabkit.__version__)')
"$command" --version | grep -qF "$version" || fail "command and package differ: $("$command" --version), $version"
"$scratch/env/bin/python" -m pip check
cat >test_installed.py <<'END'
def test_an_ensemble_outlives_its_leader(zk_ensemble):
    old = zk_ensemble.leader
    old.kill()
    assert zk_ensemble.wait_for_leader().id != old.id
END
"$scratch/env/bin/python" -m pytest -q test_installed.py
echo "check_wheel: zabkit $version from a sdist of $(stat -c %s zabkit-*.tar.gz) bytes, native command of $(stat -c %s "$command") bytes"
