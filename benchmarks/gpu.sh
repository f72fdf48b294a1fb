#!/usr/bin/env bash
# One command for a machine with a GPU and no network: GPU tests, the ladder, then the headline measurements. JSON goes to
# $OUT if set, else to benchmarks/results/. Needs torch, triton, numpy, h5py, safetensors, rich and pytest; installs nothing.
#   benchmarks/gpu.sh [tests|kernels|shapes|ladder|headline|real]...     default: all; each part stays under 9 minutes
# real: 1e6 updates on up to four of the HDF5 files in $DATA (default shared/data or ../shared/data), policies saved.
# kernels: every Triton kernel against its twin, on the device. shapes: the fused engine's two shapes and its tuned choice.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-benchmarks/results}
mkdir -p "$out"
export PYTHONPATH=. PYTHONUNBUFFERED=1
python=${PYTHON:-python3}
status=0
real() {
    local folder=${DATA:-shared/data} files=()
    [ -d "$folder" ] || folder=../shared/data
    for name in hopper-medium-expert walker2d-medium pen-expert maze2d-umaze; do
        [ -f "$folder/$name.hdf5" ] && files+=("$folder/$name.hdf5")
    done
    [ ${#files[@]} -gt 0 ] || { echo "real: no datasets in $folder, left out"; return 0; }
    timeout 540 "$python" -m benchmarks.real "${files[@]}" --out "$out/real"
}
for part in "${@:-tests kernels shapes ladder headline real}"; do
    for name in $part; do
        case $name in
            tests) ASPC_FAST_TILES=rule timeout 540 "$python" -m pytest tests/gpu -m gpu -q -p no:cacheprovider || status=1 ;;
            kernels) ASPC_FAST_TILES=rule timeout 540 "$python" -m pytest tests/kernels tests/engine/test_fused.py \
                tests/engine/test_fused_tiles.py -q -p no:cacheprovider || status=1 ;;
            shapes) timeout 540 "$python" -m benchmarks.headline --out "$out/shapes-cuda.json" --rows 100000 --seconds 3 \
                --runs 1 8 39 195 --engines fused:latency fused:throughput fused || status=1 ;;
            ladder) timeout 540 "$python" -m benchmarks.ladder --device cuda --out "$out/ladder-cuda.json" || status=1 ;;
            headline) timeout 540 "$python" -m benchmarks.headline --out "$out/headline-cuda.json" || status=1 ;;
            real) real || status=1 ;;
            *) echo "unknown part $name: tests, kernels, shapes, ladder, headline, real"; exit 2 ;;
        esac
    done
done
exit $status
