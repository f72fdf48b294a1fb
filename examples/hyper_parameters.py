"""Every hyper-parameter by name, and several values of one at once.   python examples/hyper_parameters.py [STEPS]"""

import sys
import tempfile
from dataclasses import fields
from pathlib import Path

import numpy as np
from toy import best, collect, play

import aspc_fast as af

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 1000

# All there are, with their defaults (`aspc-fast train --help` says what each one means).
print(", ".join(f"{field.name}={field.default}" for field in fields(af.AgentConfig)))


# The same small setting for everything below: any field of AgentConfig, and of how long and where to train.
small = {"hidden_dim": 64, "batch_size": 128, "discount": 0.9, "eval_every": 0, "device": "cpu"}


# One run, watched while it trains: the callback gets each record of metrics.
def show(record: dict) -> None:
    """One line for each quarter of the training."""
    print(f"step {record['step']:>5}  Q {record['q1_mean']:6.2f}  alpha {record['alpha_after']:.3f}")


af.train(af.from_arrays(**collect()), steps=STEPS, log_every=STEPS // 4, alpha_lr=0.02, callback=show, **small)

# Four values of one hyper-parameter, trained at once as one batched program. A sweep reads files.
with tempfile.TemporaryDirectory() as folder:
    data, out = Path(folder) / "mine.npz", Path(folder) / "sweep"
    np.savez(data, **collect())
    alphas = [0.1, 0.5, 2.5, 10.0]
    options = {"algo": "td3bc", "critic": "robust", "final_episodes": 0, "workers": 0}  # td3bc: alpha stays as given
    af.sweep([data], out=out, steps=STEPS, vary={"alpha": alphas}, **options, **small)
    for number, alpha in enumerate(alphas):
        print(f"alpha {alpha:5.1f}  return {play(af.load_policy(out, run=number)):7.2f}")
print(f"optimum      return {play(best):7.2f}")
