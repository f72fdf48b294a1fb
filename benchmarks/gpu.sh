#!/usr/bin/env bash
# One command for a machine with a GPU and no network: GPU tests, the ladder, then the headline measurements. JSON goes to
# $OUT if set, else to benchmarks/results/. Needs torch, triton, numpy, h5py, safetensors, rich and pytest; installs nothing.
#   benchmarks/gpu.sh [tests|ladder|headline]...     default: all three; each part stays under 9 minutes
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-benchmarks/results}
mkdir -p "$out"
export PYTHONPATH=. PYTHONUNBUFFERED=1
python=${PYTHON:-python3}
status=0
for part in "${@:-tests ladder headline}"; do
    for name in $part; do
        case $name in
            tests) timeout 540 "$python" -m pytest tests/gpu -m gpu -q -p no:cacheprovider || status=1 ;;
            ladder) timeout 540 "$python" -m benchmarks.ladder --device cuda --out "$out/ladder-cuda.json" || status=1 ;;
            headline) timeout 540 "$python" -m benchmarks.headline --out "$out/headline-cuda.json" || status=1 ;;
            *) echo "unknown part $name: tests, ladder, headline"; exit 2 ;;
        esac
    done
done
exit $status
