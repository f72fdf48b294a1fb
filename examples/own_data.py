"""Your own numpy arrays -> train -> act.   python examples/own_data.py [STEPS]"""

import sys

import numpy as np
from toy import EPISODE, best, collect, play

import aspc_fast as af

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 2000

# 1. Your arrays: observations [N, D], actions [N, A], rewards [N], terminals [N], and timeouts [N] where the clock ends
#    episodes.
log = collect(rows=4000)
data = af.from_arrays(**log, name="my log")

# 2. Train. Every hyper-parameter is a keyword; no simulator is needed. out="results/mine" would keep everything.
run = af.train(data, steps=STEPS, discount=0.9, hidden_dim=64, batch_size=128, eval_every=0, device="cpu")

# 3. Act: raw observations in, actions out; one observation [D] or many [n, D].
print("from the far right, push", run.policy(np.array([0.9, 0.0])).round(2))

# This task is small enough to play it, and to know the optimum.
print(f"return of the data    {log['rewards'].reshape(-1, EPISODE).sum(1).mean():7.2f}")
print(f"return of the policy  {play(run.policy):7.2f}")
print(f"return of the optimum {play(best):7.2f}")
