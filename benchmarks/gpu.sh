#!/usr/bin/env bash
# One command for a machine with a GPU and no network: GPU tests, then the ladder. JSON goes to $OUT if set, else to
# benchmarks/results/. Needs torch, numpy, h5py, safetensors, rich and pytest; nothing is installed.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-benchmarks/results}
mkdir -p "$out"
export PYTHONPATH=. PYTHONUNBUFFERED=1
python=${PYTHON:-python3}
status=0
"$python" -m pytest tests/gpu -m gpu -q -p no:cacheprovider || status=1
"$python" -m benchmarks.ladder --device cuda --out "$out/ladder-cuda.json" || status=1
exit $status
