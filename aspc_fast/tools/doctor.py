"""What works on this machine and what to do about the rest: rows for `aspc-fast doctor`, each check on its own.

Heavy packages are imported inside the checks, so that a broken torch is a row and not a traceback.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sysconfig
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from aspc_fast.tools import doctor_places as places
from aspc_fast.tools.doctor_row import Row, run_command, told

REQUIRED = ("torch", "numpy", "h5py", "safetensors", "tyro", "rich")
OPTIONAL = {
    # distribution -> the extra that brings it, and what for
    "triton": ("kernels", "engine fused, and compiled on a GPU"),
    "tensorboard": ("log", "TensorBoard events in results folders"),
    "envpool": ("eval", "evaluation on MuJoCo, Adroit and Maze2d"),
    "gymnasium": ("eval", "evaluation on AntMaze"),
    "gymnasium-robotics": ("eval", "evaluation on AntMaze"),
    "mujoco": ("eval", "evaluation on AntMaze and OGBench"),
    "ogbench": ("ogbench", "evaluation on OGBench"),
    "minari": ("data", "downloading Minari datasets"),
    "requests": ("data", "downloading D4RL datasets"),
    "matplotlib": ("plot", "curve.png"),
    "ray": ("ray", "sweeps over several GPUs or machines"),
    "wandb": ("wandb", "--wandb"),
}
# installed is not enough: triton breaks with its driver, tensorboard's generated files with protobuf's version
PROBED = {"triton": "triton", "tensorboard": "tensorboard.compat.proto.event_pb2"}
SHORT, LONG = 10_000, 1_000_000  # run-updates of a first try and of the paper's run
PROBE_SECONDS = 30.0


def diagnose(
    results: Path,
    data_dir: Path | None = None,
    *,
    simulators: bool = True,
    progress: Callable[[str], None] = lambda what: None,
) -> list[Row]:
    """All rows; a check that itself trips becomes a row. ``progress`` hears what is looked at next.

    results: folder in which results would be written. data_dir: folder of datasets, default as ``load``. simulators:
    also build one small simulator per domain, in processes of their own (a few seconds).
    """
    checks: list[tuple[str, Callable[[], list[Row]]]] = [
        ("versions", versions),
        ("devices", devices),
        ("engine", engines),
        ("trials", trials),
        ("training", training),
        ("datasets", lambda: places.datasets(data_dir)),
        ("files", lambda: places.folders(results, data_dir)),
    ]
    if simulators:
        checks.append(("simulators", lambda: places.simulators(progress)))
    rows: list[Row] = []
    for section, check in checks:
        progress(section)
        try:
            rows += check()
        except Exception as error:
            rows.append(Row(section, "check", "missing", f"could not look: {told(error)}"))
    return rows


def can_train(rows: list[Row]) -> bool:
    """Whether nothing that training needs has failed."""
    return all(row.state != "failed" for row in rows)


def versions() -> list[Row]:
    """Python, what must be importable, and what is good to have (most by their version alone)."""
    rows = [Row("versions", "python", "ok", f"{platform.python_version()} ({platform.system()}, {platform.machine()})")]
    for name in REQUIRED:
        try:
            importlib.import_module(name)
            rows.append(Row("versions", name, "ok", version(name) or "?"))
        except Exception as error:
            remedy = f"pip install --force-reinstall {name}"
            rows.append(Row("versions", name, "failed", f"cannot be imported: {told(error)}", remedy))
    return rows + [_optional(name) for name in OPTIONAL]


def _optional(name: str) -> Row:
    extra, use = OPTIONAL[name]
    install = f"pip install 'aspc_fast[{extra}]'"
    installed = version(name)
    if installed is None:
        return Row("versions", name, "missing", "not installed", f"for {use}: {install}")
    if name in PROBED:
        try:
            importlib.import_module(PROBED[name])
        except Exception as error:
            remedy = f"for {use}: pip install --force-reinstall {name}=={installed}"
            return Row("versions", name, "missing", f"{installed} cannot be imported: {told(error)}", remedy)
    return _calibrated(name, installed, install)


def _calibrated(name: str, installed: str, install: str) -> Row:
    from aspc_fast.evaluation.calibration import CALIBRATED

    wanted = CALIBRATED.get(name, installed)
    if installed == wanted:
        return Row("versions", name, "ok", installed)
    remedy = f"other simulators score otherwise: {install}"
    return Row("versions", name, "ok", f"{installed}, but scores were calibrated with {wanted}", remedy)


def devices() -> list[Row]:
    """GPUs with memory and compute capability, CPU cores and threads, memory, C++ compiler."""
    import torch

    rows = []
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(i)
        free, total = torch.cuda.mem_get_info(i)
        memory = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        rows.append(Row("devices", f"cuda:{i}", "ok", f"{about.name}, sm_{about.major}{about.minor}, {memory}"))
    if not rows:
        rows.append(_no_gpu(torch.__version__, torch.version.cuda))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    rows.append(Row("devices", "CPU", "ok", f"{cores} cores, {torch.get_num_threads()} threads in torch"))
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB"
        rows.append(Row("devices", "memory", "ok", memory))
    return [*rows, compiler()]


def _no_gpu(torch_version: str, built_for: str | None) -> Row:
    value = "none that torch sees: training runs on the CPU"
    if shutil.which("nvidia-smi") is None and not Path("/proc/driver/nvidia").exists():
        return Row("devices", "GPU", "missing", value)
    if built_for is None:
        remedy = f"torch {torch_version} was built without CUDA: install a CUDA build (pytorch.org, Get Started)"
    else:
        remedy = f"torch {torch_version} was built for CUDA {built_for}: see with nvidia-smi if the driver is older"
    return Row("devices", "GPU", "missing", f"{value}, though an NVIDIA driver is here", remedy)


def compiler() -> Row:
    """Whether torch.compile finds a C++ compiler that compiles with Python's headers (Triton needs them as well)."""
    found = next(filter(None, map(shutil.which, ("g++", "clang++"))), None)
    remedy = "for engine compiled: install g++ and Python's headers (Debian: apt-get install g++ python3-dev)"
    if found is None:
        return Row("devices", "C++ compiler", "missing", "neither g++ nor clang++ is here", remedy)
    include = sysconfig.get_paths()["include"]
    command = [found, "-x", "c++", "-fsyntax-only", f"-I{include}", "-"]
    done = run_command(command, "#include <vector>\n#include <Python.h>\n", PROBE_SECONDS)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        return Row("devices", "C++ compiler", "missing", f"{found} fails: {next(iter(lines), '?')}", remedy)
    said = run_command([found, "--version"], "", PROBE_SECONDS).stdout.splitlines()
    return Row("devices", "C++ compiler", "ok", next(iter(said), found))


def engines() -> list[Row]:
    """What ``--engine auto`` picks here, for a short and a long run, and why."""
    import torch

    from aspc_fast.engine.select import MEASURED, WORTH_COMPILING, WORTH_MEASURING, resolve_engine

    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    for updates in (SHORT, LONG):
        picked = resolve_engine("auto", device, updates)
        if picked == MEASURED:
            why = "every engine is checked and timed on this GPU once, the fastest right one is taken and remembered"
        elif device == "cuda":
            why = f"below {WORTH_MEASURING:,} updates trying all engines takes longer than it saves"
        elif picked == "native":
            why = "C++ built for this processor, which agrees with eager"
        elif picked == "compiled":
            why = f"at least {WORTH_COMPILING:,} updates pay for compiling, and a C++ compiler is here"
        elif updates < WORTH_COMPILING:
            why = f"below {WORTH_COMPILING:,} updates compiling takes longer than it saves"
        else:
            why = "no C++ compiler, so nothing can be compiled"
        rows.append(Row("engine", f"auto, {updates:,} updates", "ok", f"{picked} on {device}: {why}"))
    return rows


def trials() -> list[Row]:
    """What the trials on this machine's GPUs found: each candidate right or how wrong, and its time."""
    from aspc_fast.engine import trial_memory
    from aspc_fast.tools.trials import size_of, told_of

    rows = []
    for found in trial_memory.recall_all(trial_memory.folder()):
        rows.append(Row("engine", size_of(found), "ok", f"{found.chosen}, on {found.key.get('gpu', '?')}"))
        rows += [Row("engine", f"  {outcome.name}", "ok", told_of(outcome)) for outcome in found.outcomes]
    return rows


def training() -> list[Row]:
    """A few real updates of a small agent on random data, engine eager, on the device that ``auto`` means."""
    begin = time.monotonic()
    try:
        import numpy as np

        from aspc_fast.config import AgentConfig
        from aspc_fast.data.arrays import from_arrays
        from aspc_fast.run.train import TrainSettings, train

        rng = np.random.default_rng(0)
        observations, actions = rng.normal(size=(200, 3)), rng.uniform(-1, 1, size=(200, 2))
        data = from_arrays(observations, actions, rng.normal(size=200), np.arange(200) % 50 == 49)
        settings = TrainSettings(steps=20, engine="eager", eval_every=0)
        run = train(data, AgentConfig(hidden_dim=16, batch_size=16), settings)
    except Exception as error:
        remedy = "install aspc_fast and torch in a fresh environment; on a broken GPU, hide it: CUDA_VISIBLE_DEVICES="
        return [Row("engine", "training", "failed", f"20 updates failed: {told(error)}", remedy)]
    seconds = time.monotonic() - begin
    where = settings.resolved_device
    return [Row("engine", "training", "ok", f"{run.summary['steps']} updates on {where} in {seconds:.1f} s")]


def version(package: str) -> str | None:
    """The installed version, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
