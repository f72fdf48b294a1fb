"""Every algorithm of the registry on a CPU or GPU: eager, compiled, and a plain PyTorch trainer of the same updates.

python -m benchmarks.rivals [--algo NAME ...] [--out FILE.json] [--seconds 2] [--rounds 7] [--check]

All in one process, in windows that take turns. Of each: updates per second; operations of the matrix products of one
update (counted, of the engines and of the reference apart, for they need not make the same products); achieved
operations per second in the eager engine over ASPC's; and the compiled engine over the reference. ``--check`` ends with
exit code 1 where a rival misses EAGER or COMPILED. The references are aspc_fast/reference.py for ASPC and TD3+BC,
tests/references/NAME.py for the others, each as its user would run it: a buffer on the device, random rows, own noise.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from aspc_fast import registry
from aspc_fast.agent.footprint import footprint
from aspc_fast.agent.state import RunShape, make_spec
from aspc_fast.data.transitions import Transitions
from aspc_fast.tools.bench import (
    REFERENCES,
    Advance,
    Rung,
    bench_config,
    matrix_product,
    prepare,
    synthetic_data,
    take_turns,
)
from benchmarks.parts import write_result
from tests.references.traces import ALGORITHMS, module

EAGER = 0.9  # achieved operations per second of a rival in the eager engine, over ASPC's
COMPILED = 1.2  # updates per second of the compiled engine, over the reference's
BASE = "aspc"
KNOWN = (*REFERENCES, *ALGORITHMS)
WAYS = ("eager", "compiled", "reference")
BATCH = 256


class Products(TorchDispatchMode):
    """Operations of the matrix products inside, by torch's own formulas; its FlopCounterMode, which also keeps track of
    modules, refuses ``torch.autograd.grad`` for leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        self.flops += count(*args, **(kwargs or {}), out_val=made) if count else 0
        return made


def reference_loop(algo: str, data: Transitions, device: str) -> Advance:
    """A rival's reference trainer on a buffer on the device, with torch's own random rows and noise."""
    trainer = module(algo).Trainer(data.obs_dim, data.act_dim, 1.0, device=device)
    arrays = {
        "state": data.observations,
        "action": data.actions,
        "reward": data.rewards[:, None],
        "next_state": data.next_observations,
        "done": data.terminals[:, None],
    }
    if "next_actions" in registry.algorithm(algo).data:
        arrays["next_action"] = np.roll(data.actions, -1, axis=0)
    buffer = {
        name: torch.as_tensor(np.ascontiguousarray(a), dtype=torch.float32, device=device) for name, a in arrays.items()
    }
    outer = ("state", "action", "next_state", "done") if "outer" in registry.algorithm(algo).data else ()

    def advance(steps: int) -> None:
        for _ in range(steps):
            rows = torch.randint(len(data), (BATCH,), device=device)
            batch = {name: array[rows] for name, array in buffer.items()}
            if outer:
                others = torch.randint(len(data), (BATCH,), device=device)
                batch |= {f"outer_{name}": buffer[name][others] for name in outer}
            trainer.train_step(batch | {name: drawn.to(device) for name, drawn in trainer.draw(BATCH).items()})

    return advance


def reference_of(algo: str, data: Transitions, device: str) -> Advance:
    """The plain PyTorch trainer of an algorithm."""
    if algo in REFERENCES:
        return prepare(Rung("reference", algo), data, device)[0]
    return reference_loop(algo, data, device)


def measure(algos: Sequence[str], device: str, seconds: float, rounds: int, rows: int = 100_000) -> dict[str, Any]:
    """Everything of every algorithm, ASPC among them."""
    data = synthetic_data(rows, 17, 6)
    algos = list(dict.fromkeys((BASE, *algos)))
    made: list[Advance] = []
    found: dict[str, dict[str, Any]] = {}
    for algo in algos:
        spec = make_spec([bench_config(algo)], [RunShape(data.obs_dim, data.act_dim)])
        plain = reference_of(algo, data, device)
        with Products() as products:
            plain(spec.period)
        found[algo] = {"flops": footprint(spec).flops, "reference_flops": products.flops / spec.period}
        made += [*(prepare(Rung(engine, algo), data, device)[0] for engine in WAYS[:2]), plain]
        print(f"{algo}: ready", flush=True)
    product, operations = matrix_product(device)
    *speeds, large = take_turns([*made, product], seconds, device, lambda: None, rounds)
    for algo, own in zip(algos, zip(*[iter(speeds)] * len(WAYS), strict=True), strict=True):
        found[algo]["windows"] = dict(zip(WAYS, own, strict=True))
    return {"matmul_rate": operations * statistics.median(large), "rivals": rows_of(found)}


def rows_of(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each algorithm: medians, and ratios of windows of the same round, of which the median counts."""
    base = found[BASE]
    rows = []
    for algo, own in found.items():
        speeds = {way: statistics.median(windows) for way, windows in own["windows"].items()}
        achieved = [
            own["flops"] * mine / (base["flops"] * theirs)
            for mine, theirs in zip(own["windows"]["eager"], base["windows"]["eager"], strict=True)
        ]
        pairs = zip(own["windows"]["compiled"], own["windows"]["reference"], strict=True)
        rows.append(
            {
                "algo": algo,
                **own,
                "median": speeds,
                "eager_flops_per_second": own["flops"] * speeds["eager"],
                "eager_over_aspc": statistics.median(achieved),
                "compiled_over_reference": statistics.median(mine / theirs for mine, theirs in pairs),
            }
        )
    return rows


def misses(rows: list[dict[str, Any]]) -> list[str]:
    """A sentence for each number that a rival does not reach."""
    found = []
    for row in rows:
        if row["algo"] in REFERENCES:
            continue
        if row["eager_over_aspc"] < EAGER:
            found.append(
                f"{row['algo']}: eager achieves {row['eager_over_aspc']:.2f} of ASPC's operations/s, not {EAGER}"
            )
        if row["compiled_over_reference"] < COMPILED:
            found.append(f"{row['algo']}: compiled is {row['compiled_over_reference']:.2f} x reference, not {COMPILED}")
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algo", nargs="*", default=KNOWN, choices=KNOWN)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a window")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    made = measure(options.algo, options.device, options.seconds, options.rounds)
    print("algorithm    eager  compiled reference  MFLOP  (ref.)  GFLOP/s  x ASPC  compiled/ref.")
    for row in made["rivals"]:
        speeds = "".join(f"{row['median'][way]:10.1f}" for way in WAYS)
        counts = (
            f"{row['flops'] / 1e6:7.0f} {row['reference_flops'] / 1e6:7.0f} {row['eager_flops_per_second'] / 1e9:8.1f}"
        )
        print(f"{row['algo']:8}{speeds} {counts} {row['eager_over_aspc']:7.2f} {row['compiled_over_reference']:8.2f}")
    print(f"one large matrix product: {made['matmul_rate'] / 1e9:.1f} GFLOP/s")
    missed = misses(made["rivals"])
    print("\n".join(missed) if missed else "every number is reached")
    if options.out is not None:
        write_result(options.out, {"device": options.device, **made})
    return int(options.check and bool(missed))


if __name__ == "__main__":
    raise SystemExit(main())
