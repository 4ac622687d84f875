#!/bin/bash
# zabkit beside Apache ZooKeeper 3.8.0 in one interleaved run: `make bench`.
#
# Needs ../shared/tools (the load generator and the scripts around it) and Debian's packages
# `zookeeper libzookeeper-java`. Without Apache it measures zabkit alone and says so.
#   CELLS="30,100,100"   sessions,outstanding,bytes of each cell    OPS="get set create"    REPS=3    SECS=2
#   ACTION=matrix        or start, failover (see ../shared/tools/peers/README.md)
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
tools=$root/../shared/tools
[ -d "$tools/peers" ] || { echo "benches/peers.sh: no ../shared/tools beside this clone: nothing to measure with" >&2; exit 2; }

work=$root/build/bench
mkdir -p "$work"
# The tools are not ours to write into: built from a copy, with a lock file and target directory of its own.
cp -rT "$tools/zkload" "$work/zkload"
chmod -R u+w "$work/zkload"
cargo build --release --quiet --manifest-path "$work/zkload/Cargo.toml" --target-dir "$work/target"
export ZKLOAD=$work/target/release/zkload

peers=(--peer "zabkit=$root/.venv/bin/zabkit server {cfg}")
if command -v java >/dev/null && [ -e /usr/share/java/zookeeper.jar ]; then
  peers=(--peer "zk38=$("$tools/peers/zk-cmd" 3.8)" "${peers[@]}")
else
  echo "benches/peers.sh: Apache ZooKeeper is not installed (apt-get install zookeeper libzookeeper-java): zabkit alone" >&2
fi

action=${ACTION:-matrix}
out=$work/$action-$(date +%Y%m%d-%H%M%S).jsonl
export CELLS=${CELLS:-30,100,100} OPS=${OPS:-get set create} SECS=${SECS:-2} WARM=${WARM:-1}
servers=$(mktemp -d)
trap 'rm -rf "$servers"' EXIT
"$tools/peers/bench" "$action" --base "$servers" --out "$out" --n "${SERVERS:-3}" --reps "${REPS:-3}" "${peers[@]}"
echo
"$tools/peers/tables" "$out"
echo "raw figures: ${out#"$root"/}"
