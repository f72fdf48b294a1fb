"""The paper's ablation of the outer loss, variants 1 to 4 in one sweep.

python examples/outer_loss_ablation.py [STEPS]

On a task as easy as this one the variants hardly differ; name your own file or a suite id instead of ``data`` below.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from toy import best, collect, play

import aspc_fast as af

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
SEEDS = 2
TERMS = {1: "eq1", 2: "eq1 + eq2", 3: "eq1 + eq3", 4: "eq1 + eq2 + eq3 (ASPC)"}

with tempfile.TemporaryDirectory() as folder:
    data, out = Path(folder) / "toy.npz", Path(folder) / "sweep"
    np.savez(data, **collect())
    summary = af.sweep(
        [data],
        seeds=SEEDS,
        out=out,
        steps=STEPS,
        vary={"loss_function": list(TERMS)},
        alpha_lr=0.05,  # 25 times the paper's: alpha has 50 updates to move here, not 50,000
        discount=0.9,
        hidden_dim=64,
        batch_size=128,
        eval_every=0,
        final_episodes=0,
        workers=0,
        device="cpu",
    )
    # Runs are numbered dataset by dataset, setting by setting, seed by seed.
    for position, (variant, terms) in enumerate(TERMS.items()):
        numbers = range(position * SEEDS, (position + 1) * SEEDS)
        alpha = np.mean([summary["runs"][number]["alpha"] for number in numbers])
        returns = np.mean([play(af.load_policy(out, run=number)) for number in numbers])
        print(f"variant {variant}  {terms:22}  alpha {alpha:6.3f}  return {returns:7.2f}")
print(f"optimum{'return':>44} {play(best):7.2f}")
