"""Trust, then verify: on a GPU ``auto`` takes the fastest engine that is right there, and remembers it.

Every candidate trains a copy of the state for a period and is compared with the same period in float64. It is right if
its deviation is at most ALLOWED times that of the eager engine in the same precision. Right ones are timed; the fastest
is taken. One that fails, is wrong, or took the process down the last time is left out with a sentence; eager remains.

PyTorch's own deviation of a single number may be small by luck. So it is the largest of SHAKEN more eager runs, whose
first weights are changed by a rounding of the precision in use: how much such roundings matter to that number.
"""

from __future__ import annotations

import copy
import gc
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from aspc_fast import __version__
from aspc_fast.agent.state import AgentState, Spec
from aspc_fast.config import Precision
from aspc_fast.engine import trial_memory
from aspc_fast.engine.base import Engine, Learners, graph_steps
from aspc_fast.engine.compiled import CompiledEngine
from aspc_fast.engine.eager import EagerEngine
from aspc_fast.engine.kinds import ALGORITHMS
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.engine.split import SplitEngine
from aspc_fast.engine.trial_memory import Found, Outcome

BUDGET = 15.0  # seconds of checking and timing; building and compiling, which the training needs as well, come on top
ALLOWED = 8.0  # times PyTorch's own deviation; a wrong formula is hundreds of times off
CHECKED_RUNS = 4  # runs never touch each other: a few tell, and cost the float64 truth little memory
SHAKEN = 4
GROUP = 8  # runs whose activations, 5 MB each, fit a cache of 50 MB
MAX_STEPS = 40  # of a longer period its last steps are compared
ROUNDS, WINDOW_SECONDS, WINDOW_PERIODS = 5, 0.1, 20  # what is timed: windows of whole periods
FUSED = "fused, "  # begins the names of candidates of the fused engine
UNITS: dict[str, float] = {"tf32": 2.0**-11, "fp32": 2.0**-23, "bf16": 2.0**-8}  # a rounded operand's relative error

Factory = Callable[[Learners], Engine]
Clock = Callable[[], float]
Say = Callable[[str], None]


def say(text: str) -> None:
    """One line for the user."""
    print(f"engine auto: {text}", file=sys.stderr, flush=True)


def candidates(
    runs: int, capability: int, precision: Precision, algo: str = "aspc", tiles_only: bool = False
) -> dict[str, Factory]:
    """Engines worth a trial on a GPU of this compute capability (90 for 9.0), the likely winners first; or only the
    fused engine as a whole with each of its tiles."""
    found: dict[str, Factory] = {}
    try:
        from aspc_fast.engine import fused_tiles
    except ImportError:  # no Triton
        pass
    else:
        options = fused_tiles.candidates(runs, capability) if algo in ALGORITHMS else {}
        first = fused_tiles.rule(runs)
        for name in sorted(options, key=lambda name: name != first):
            found[FUSED + name] = _fused(options[name], precision)
        if options and first == "throughput" and not tiles_only:
            make = _fused(options[first], precision)
            small = {f"groups of {GROUP}": 2 * math.ceil(runs / (2 * GROUP))} if runs > 2 * GROUP else {}
            for name, groups in ({"halves": 2} | small).items():
                found[f"fused, {first}, {name} in 2 branches"] = partial(SplitEngine, make, groups=groups, branches=2)
    if precision != "bf16" and not tiles_only:
        found["compiled"] = CompiledEngine
    # whole designs first, then variants of them: each compiles kernels of its own, and only the best one's are tried
    return dict(sorted(found.items(), key=lambda item: item[0].count(",") > 1))


def base_of(name: str) -> str | None:
    """What ``name`` is a variant of: "fused, latency" of "fused, latency, 32 rows"."""
    parts = name.split(", ")
    return ", ".join(parts[:2]) if len(parts) > 2 else None


def _fused(tiles: Any, precision: Precision) -> Factory:
    def make(learners: Learners) -> Engine:
        from aspc_fast.engine.fused import FusedEngine
        from aspc_fast.kernels.problem import fit

        return FusedEngine(learners, precision=precision, tiles=fit(tiles, learners.spec))

    return make


def make_measured(learners: Learners, precision: Precision) -> Engine:
    """The fastest engine that is right on the CUDA device of the state, whose numbers stay as they are."""
    found, options = find_on_gpu(learners, precision)
    return build(found, options, learners)


def make_fused(learners: Learners, precision: Precision) -> Engine:
    """The fused engine; on a CUDA device with the fastest right tiles, where $ASPC_FAST_TILES leaves that open."""
    from aspc_fast.engine.fused import FusedEngine, check

    state = learners.state
    check(learners.spec, state.device, state.actor.dtype)
    from aspc_fast.engine.fused_tiles import asked

    measure = state.device.type == "cuda" and learners.replay is not None and asked() == "tuned"
    return FusedEngine(learners, precision=precision, tiles=fastest_tiles(learners, precision) if measure else None)


def fastest_tiles(learners: Learners, precision: Precision) -> str | None:
    """Name in ``fused_tiles.candidates`` of the fastest right ones on the CUDA device of the state; None: none is."""
    found, _ = find_on_gpu(learners, precision, tiles_only=True)
    name = fastest([o for o in found.outcomes if o.name != "eager"], variants=True)
    return name.removeprefix(FUSED) or None


def find_on_gpu(learners: Learners, precision: Precision, tiles_only: bool = False) -> tuple[Found, dict[str, Factory]]:
    """The trial for the CUDA device of the state, remembered or made now, and the candidates."""
    spec, runs, device = learners.spec, learners.state.runs, learners.state.device
    major, minor = torch.cuda.get_device_capability(device)
    options = candidates(runs, 10 * major + minor, precision, spec.config.algo, tiles_only)
    key = make_key(torch.cuda.get_device_name(device), driver(), spec, runs, precision)
    key |= {"tiles_only": True} if tiles_only else {}
    return find(learners, precision, key=key, options=options), options


def build(found: Found, options: Mapping[str, Factory], learners: Learners) -> Engine:
    """The chosen engine on the real state; eager if it cannot be built after all."""
    if found.chosen in options:
        try:
            return options[found.chosen](learners)
        except Exception as error:  # memory that the trial had and training has not
            say(f"{found.chosen} cannot be built: {_line(error)}; going on with eager")
    return EagerEngine(learners)


def find(
    learners: Learners,
    precision: Precision,
    *,
    key: Mapping[str, Any],
    options: Mapping[str, Factory],
    where: Path | None = None,
    clock: Clock = time.perf_counter,
    tell: Say = say,
) -> Found:
    """The remembered trial of ``key``, or a new one, which is then remembered."""
    where = where or trial_memory.folder()
    found = trial_memory.recall(where, key)
    if found is not None and (found.chosen in options or found.chosen == "eager"):
        tell(f"{found.chosen}, the fastest that was right here before")
        return found
    tell(f"trying {len(options)} ways of running on {key['gpu']}, once for this size")
    fallen = trial_memory.fallen(where, key)

    def watched(name: str, make: Factory) -> Factory:
        def run(learners: Learners) -> Engine:
            trial_memory.mark(where, key, name)
            return make(learners)

        return run

    trial = Trial(learners, precision, clock)
    outcomes = [trial.run("eager", EagerEngine)]
    for name, make in options.items():
        base = base_of(name)
        if name in fallen:
            outcomes.append(Outcome(name, "failed", reason="its last trial took the process down"))
        elif base in options and base != fastest(outcomes):
            outcomes.append(Outcome(name, "not tried", reason=f"{base} is not the fastest"))
        else:
            outcomes.append(trial.run(name, watched(name, make)))
            trial_memory.unmark(where, key, fallen)
        if outcomes[-1].verdict in ("wrong", "failed"):
            tell(f"{name} left out: {outcomes[-1].reason}")
    chosen = fastest(outcomes, "eager", variants=True)
    times = {o.name: o.microseconds for o in outcomes}
    speed = f", {times[chosen]:.1f} us per update of all runs" if times[chosen] is not None else ""
    right, tried = (
        sum(o.verdict in verdicts for o in outcomes) for verdicts in (("right",), ("right", "wrong", "failed"))
    )
    tell(f"{chosen}{speed}; {right} of the {tried} tried were right")
    found = Found(dict(key), tuple(outcomes), chosen)
    trial_memory.remember(where, found)
    return found


def fastest(outcomes: Sequence[Outcome], otherwise: str = "", variants: bool = False) -> str:
    """Name of the fastest right one, among whole designs only unless ``variants``."""
    times = {o.name: o.microseconds for o in outcomes if o.verdict == "right" and o.microseconds is not None}
    return min((n for n in times if variants or base_of(n) is None), key=times.__getitem__, default=otherwise)


class Trial:
    """Runs candidates from the same state; what they are compared with is made once, when the first is run."""

    def __init__(self, learners: Learners, precision: Precision, clock: Clock = time.perf_counter) -> None:
        self.learners, self.clock = learners, clock
        self.state = state = learners.state
        self.period = graph_steps(learners.spec)
        self.steps = min(self.period, MAX_STEPS)
        self.unit = UNITS[precision] if state.dtype == torch.float32 else 2.0**-52
        self.spent = 0.0
        runs = state.runs
        self.checked = sorted({round(i * (runs - 1) / max(1, CHECKED_RUNS - 1)) for i in range(CHECKED_RUNS)})
        self._truth: list[dict[str, Tensor]] = []
        self._own: list[dict[str, float]] = []

    def run(self, name: str, make: Factory) -> Outcome:
        """Try one candidate; never raises but for what ends a program (KeyboardInterrupt)."""
        if self.spent > BUDGET:
            return Outcome(name, "not tried", reason=f"the {BUDGET:.0f} s of a trial were over")
        try:
            return self._run(name, make)
        except Exception as error:  # compilers, drivers and full memories raise all kinds
            return Outcome(name, "failed", reason=_line(error))
        finally:
            _free(self.state.device)

    def _run(self, name: str, make: Factory) -> Outcome:
        begin = self.clock()
        if not self._truth:
            self._reference()
        state = self._start(self.state.clone())
        self.spent += self.clock() - begin
        means = MetricMeans()
        engine = make(self.learners._replace(state=state))
        engine.advance(self.steps, means)  # compiles and captures
        _wait(state)
        begin = self.clock()
        error, quantity = self._deviation(state, means.take())
        if not error <= ALLOWED:
            self.spent += self.clock() - begin
            return Outcome(name, "wrong", error, reason=f"{error:.3g} times PyTorch's own error ({quantity})")
        microseconds = self._time(engine, state)
        self.spent += self.clock() - begin
        return Outcome(name, "right", error, microseconds)

    def _start(self, state: AgentState) -> AgentState:
        """At the beginning of the stretch that is compared, which ends where a period does."""
        period = self.period
        state.step.copy_((state.step // period + 1) * period - self.steps)
        return state

    def _reference(self) -> None:
        """Truth in float64 and PyTorch's own deviation from it, for the runs that are checked."""
        for r in self.checked:
            truth, dtype = self._alone(r, torch.float64), self.state.dtype
            plain = self._alone(r, dtype)
            own = {name: _distance(plain[name], value) for name, value in truth.items()}
            for seed in range(SHAKEN):
                shaken = self._alone(r, dtype, seed)
                single = [name for name, value in truth.items() if not value.ndim]
                own |= {name: max(own[name], _distance(shaken[name], truth[name])) for name in single}
            self._truth.append(truth)
            self._own.append(own)

    def _alone(self, r: int, dtype: torch.dtype, shake: int | None = None) -> dict[str, Tensor]:
        """One run by the eager engine; ``shake``: seed of a rounding's change to the first weights."""
        alone = self.learners.part(slice(r, r + 1))
        replay = copy.copy(alone.replay)
        assert replay is not None, "a trial needs a replay store"
        replay.dtype = dtype
        tensors = alone.state.tensors()
        start = type(self.state)(
            **{k: t.to(dtype) if t.is_floating_point() else t.clone() for k, t in tensors.items()}
        ).clone()
        if shake is not None:
            generator = torch.Generator(start.device).manual_seed(shake)
            for weights in (t for t in start.tensors().values() if t.is_floating_point() and t[0].ndim):
                noise = torch.empty_like(weights).uniform_(-self.unit, self.unit, generator=generator)
                weights.mul_(1 + noise)
        state, means = self._start(start), MetricMeans()
        hyper = alone.hyper.to(self.state.device, dtype)
        EagerEngine(Learners(alone.spec, state, hyper, replay)).advance(self.steps, means)
        return _quantities(state, {name: values[0] for name, values in means.take().items()}, 0)

    def _deviation(self, state: AgentState, metrics: Mapping[str, Sequence[float]]) -> tuple[float, str]:
        """The largest deviation from the truth as a multiple of PyTorch's own, and of what."""
        worst, which = 0.0, ""
        for r, truth, own in zip(self.checked, self._truth, self._own, strict=True):
            found = _quantities(state, {name: values[r] for name, values in metrics.items()}, r)
            for name, value in truth.items():
                if name not in found:
                    return float("inf"), f"{name} is missing"
                floor = 2 * self.unit * float(value.double().norm())
                error = _distance(found[name], value)
                ratio = error / max(own[name], floor, 1e-30)
                if math.isnan(ratio):
                    return float("inf"), f"{name} is not a number"
                if ratio > worst:
                    worst, which = ratio, name
        return worst, which

    def _time(self, engine: Engine, state: AgentState) -> float:
        """Median microseconds of a step."""
        means, period = MetricMeans(), self.period

        def window(steps: int) -> float:
            begin = self.clock()
            engine.advance(steps, means)
            _wait(state)
            return self.clock() - begin

        window(period)
        periods = int(WINDOW_SECONDS / max(window(period), 1e-9))
        steps = period * max(1, min(periods, WINDOW_PERIODS))
        seconds = [window(steps) for _ in range(ROUNDS)]
        return median(seconds) / steps * 1e6


def _quantities(state: AgentState, metrics: Mapping[str, float], run: int) -> dict[str, Tensor]:
    """One run's learning state and metrics by name, on the device."""
    found = {name: t[run] for name, t in state.tensors().items() if t.is_floating_point() and t.ndim}
    device = state.device
    means = {name: torch.tensor(value, dtype=torch.float64, device=device) for name, value in metrics.items()}
    return found | {f"mean of {name}": value for name, value in means.items()}


def _distance(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth.double()).norm())


def _wait(state: AgentState) -> None:
    if state.device.type == "cuda":
        torch.cuda.synchronize(state.device)


def _free(device: torch.device) -> None:
    """Engines refer to their own methods: a candidate's memory and graphs stay until they are collected."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__


def make_key(gpu: str, driver_version: str, spec: Spec, runs: int, precision: str) -> dict[str, Any]:
    """What a choice depends on; runs up to the same power of two share one."""
    try:
        from triton import __version__ as triton_version
    except ImportError:
        triton_version = ""
    s = spec.shapes
    return {
        **{"gpu": gpu, "driver": driver_version, "torch": torch.__version__, "triton": triton_version},
        **{"aspc_fast": __version__, "precision": precision, "runs": 1 << (runs - 1).bit_length()},
        **{"batch": spec.config.batch_size, "config": repr(spec.config), "period": spec.period},
        **{"obs_dim": s.obs_dim, "act_dim": s.act_dim, "hidden_dim": s.hidden_dim, "robust": s.robust},
    }


def driver() -> str:
    """The NVIDIA driver's version as it tells it, or what CUDA torch was built for."""
    try:
        with Path("/proc/driver/nvidia/version").open(encoding="utf-8", errors="replace") as file:
            return file.readline(200).strip()
    except OSError:
        return f"unknown, CUDA {torch.version.cuda}"
