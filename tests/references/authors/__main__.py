"""Record the authors' own trainers as golden traces: how the small traces of the package were made.

python -m tests.references.authors wpc FOLDER OUT.npz

FOLDER is a checkout of github.com/Colin-Jing/ASPC (wpc, iql, cql, rebrac; rebrac needs jax, flax, optax, chex), of
github.com/ltlhuuu/A2PR (a2pr) or of github.com/seonvin0319/AMO (rapo). Their update runs as it is, but for three
things: modules that it imports and an update does not use (d4rl, gym, ...) are empty; layers are narrower; draws are
given. What it computes is read from its local variables as its functions return. In float64 ``Tensor.float`` gives
doubles: no constant is rounded on its way.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from tests.references.authors import AUTHORS
from tests.references.authors.base import ACT, BATCH, OBS, STEPS, WIDTHS, Author, Named, load
from tests.references.record import PRECISIONS, random_data
from tests.references.traces import checksum


def record(author: type[Author], module: Any, meta: Named, init: Named, batches: Named) -> Named:
    """What they did from these float32 inputs in both precisions, under the golden traces' keys."""
    arrays = {f"init/{name}": value for name, value in init.items()}
    arrays |= {f"batch/{name}": value for name, value in batches.items()}
    for precision, dtype in PRECISIONS:
        torch.set_default_dtype(dtype)
        as_float = torch.Tensor.double if dtype == torch.float64 else torch.Tensor.float
        with mock.patch.object(torch.Tensor, "float", as_float):
            made = author(module, meta)
            made.start({name: torch.from_numpy(value) for name, value in init.items()})
            logs = [
                made.step({name: torch.from_numpy(value[i]).to(dtype) for name, value in batches.items()})
                for i in range(meta["n_steps"])
            ]
        for name in sorted(set().union(*logs)):
            arrays[f"{precision}/out/{name}"] = np.array([log.get(name, np.nan) for log in logs])
        final = made.weights() if precision == "f64" else {}
        arrays |= {f"{precision}/final_checksum/{name}": checksum(value) for name, value in final.items()}
    torch.set_default_dtype(torch.float32)
    return arrays


def main() -> None:
    """Record one algorithm with its defaults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("algo", choices=AUTHORS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    author, (width, vae_width) = AUTHORS[options.algo], WIDTHS.values()
    hp = author.hp | {"hidden_dim": width} | ({"vae_hidden_dim": vae_width} if options.algo == "a2pr" else {})
    source = (options.folder / author.files[-1]).read_bytes()
    meta = {
        "name": f"{options.algo}_{OBS}x{ACT}_{STEPS}steps",
        "algo": options.algo,
        "state_dim": OBS,
        "action_dim": ACT,
    }
    meta |= {"n_steps": STEPS, "batch": BATCH, "max_action": 1.0, "seed": 0, "source": "tests/references/authors"}
    meta |= {"hp": hp, "adam": {"b1": 0.9, "b2": 0.999, "eps": 1e-8}, "torch": torch.__version__}
    meta |= {"source_sha256": hashlib.sha256(source).hexdigest()} | author.meta
    module = load(options.folder, author.files, WIDTHS)
    torch.manual_seed(0)
    init = author(module, meta).weights(targets=False)
    # Narrow networks start nearly constant: with wider weights advantages, and with them masks, have both signs.
    init = {name: (w * 2 if w.ndim == 2 else w).numpy() for name, w in init.items()}
    generator = torch.Generator().manual_seed(0)
    data, outer = (random_data(STEPS, BATCH, OBS, ACT, 1.0, generator) for _ in range(2))
    if options.algo != "rebrac":
        data.pop("next_action")
    if options.algo == "rapo":
        data |= {f"outer_{name}": outer[name] for name in ("state", "action", "next_state", "done")}
    for name, (*samples, actions) in author.draws.items():
        shape = (STEPS, BATCH, *samples, actions * ACT)
        if name.startswith("uniform"):
            data[name] = 2 * torch.rand(shape, generator=generator) - 1
        else:
            data[name] = torch.randn(shape, generator=generator)
    arrays = record(author, module, meta, init, {name: value.numpy() for name, value in data.items()})
    np.savez_compressed(options.out, meta_json=np.array(json.dumps(meta)), **arrays)


if __name__ == "__main__":
    main()
