#!/usr/bin/env bash
# One command for a machine with a GPU and no network. JSON goes to $OUT if set, else to benchmarks/results/. Needs
# torch, triton, numpy, h5py, safetensors, rich and pytest (with xdist, if it is there, in parallel); installs nothing.
#   benchmarks/gpu.sh [first|tests|kernels|shapes|tiles|ladder|headline-1|headline-39|headline-195|real]...  default: all
# Each part ends before 8 minutes and keeps what it has; where it can, the same command goes on (shapes, tiles, headline,
# real).
# first: are the engines right, and how fast, in the order of importance: begin with that, alone.
# kernels: every Triton kernel against its twin, on the device. shapes: the fused engine's two shapes and its tuned one.
# tiles: every candidate of the fused engine beside the compiled one.
# real: 1e6 updates on up to four of the HDF5 files in $DATA (default shared/data or ../shared/data), policies saved as
# they come. At most 8 files are left in $OUT by one part. DEVICE=cpu: first, ladder and headline without a GPU.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-benchmarks/results}
mkdir -p "$out"
export PYTHONPATH=. PYTHONUNBUFFERED=1
python=${PYTHON:-python3}
limit=470
status=0
workers=()
"$python" -c 'import xdist' 2>/dev/null && workers=(-n "${WORKERS:-8}" --dist worksteal)
device=${DEVICE:-cuda}
needs_device() {
    [ "$device" != cuda ] || "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
        { echo "gpu.sh: torch sees no CUDA device here; DEVICE=cpu runs first, ladder and headline without" >&2; exit 2; }
}
run() { timeout --signal=INT --kill-after=10 "$limit" "$@" || status=1; }
headline() {
    run "$python" -m benchmarks.headline --out "$out/$1-$device.json" --device "$device" --minutes 6 "${@:2}"
}
real() {
    local folder=${DATA:-shared/data} files=()
    [ -d "$folder" ] || folder=../shared/data
    for name in hopper-medium-expert walker2d-medium pen-expert maze2d-umaze; do
        [ -f "$folder/$name.hdf5" ] && files+=("$folder/$name.hdf5")
    done
    [ ${#files[@]} -gt 0 ] || { echo "real: no datasets in $folder, left out"; return 0; }
    run "$python" -m benchmarks.real "${files[@]}" --out "$out/real" --work "${WORK:-build/real-work}"
}
for part in "${@:-first tests kernels shapes tiles ladder headline-1 headline-39 headline-195 real}"; do
    for name in $part; do
        case $name in
            first | tests | kernels | shapes | tiles | ladder | headline-* | real) needs_device ;;&
            first) run "$python" -m benchmarks.first --out "$out/first-$device.json" --device "$device" ;;
            tests) ASPC_FAST_TILES=rule run "$python" -m pytest tests/gpu -m gpu -q -p no:cacheprovider ;;
            kernels) ASPC_FAST_TILES=rule run "$python" -m pytest tests/kernels tests/engine/test_fused.py \
                tests/engine/test_fused_tiles.py -q -p no:cacheprovider ${workers[@]+"${workers[@]}"} ;;
            shapes) headline shapes --rows 100000 --seconds 3 --runs 1 8 39 195 \
                --engines fused:latency fused:throughput fused ;;
            tiles) headline tiles --rows 20000 --seconds 3 --runs 39 8 --engines compiled fused:all ;;
            ladder) run "$python" -m benchmarks.ladder --device "$device" --out "$out/ladder-$device.json" ;;
            headline-1) headline headline-1 --runs 1 ;;
            headline-39) headline headline-39 --runs 39 ;;
            headline-195) headline headline-195 --runs 195 ;;
            real) real ;;
            *)
                echo "unknown part $name, parts are: first tests kernels shapes tiles ladder headline-1 headline-39" \
                    "headline-195 real"
                exit 2 ;;
        esac
    done
done
exit $status
