"""ASPC against TD3+BC with the same critic and seeds, as one program.   python examples/compare_td3bc.py [STEPS]"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from toy import EPISODE, best, collect, play

import aspc_fast as af

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 1200
SEEDS = 3

with tempfile.TemporaryDirectory() as folder:
    log = collect()
    data, out = Path(folder) / "toy.npz", Path(folder) / "sweep"
    np.savez(data, **log)
    af.sweep(
        [data],
        seeds=SEEDS,
        out=out,
        steps=STEPS,
        vary={"algo": ["td3bc", "aspc"]},
        critic="robust",  # else td3bc would have its own plain critic, and the comparison two causes
        alpha=0.5,  # both start from a cautious weight; td3bc keeps it
        alpha_lr=0.05,
        discount=0.9,
        hidden_dim=64,
        batch_size=128,
        eval_every=0,
        final_episodes=0,
        workers=0,
        device="cpu",
    )
    print(f"data     {log['rewards'].reshape(-1, EPISODE).sum(1).mean():7.2f}")
    for position, algo in enumerate(("td3bc", "aspc")):
        numbers = range(position * SEEDS, (position + 1) * SEEDS)
        returns = [play(af.load_policy(out, run=number)) for number in numbers]
        print(f"{algo:8} {np.mean(returns):7.2f} +- {np.std(returns):.2f} over {SEEDS} seeds")
    print(f"optimum  {play(best):7.2f}")
