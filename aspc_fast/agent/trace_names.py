"""How an algorithm's authors name things, so that their golden traces can be replayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from aspc_fast.agent.layout import Layout

if TYPE_CHECKING:
    from aspc_fast.agent.state import AgentState, Hyper, Spec


class Place(NamedTuple):
    """Where one of their tensors lies in our state.

    net: a network, what comes with it (``NAME_target``, ``NAME_m``, ``NAME_v``), or a scalar of the state. copy: which
    of the network's copies. tensor: its name in the layout. segment: which segment of its last axis, where they have a
    tensor for each (None: all).
    """

    net: str
    copy: int | None = None
    tensor: str = ""
    segment: int | None = None

    def view(self, spec: Spec, state: AgentState, run: int = 0) -> Tensor:
        """That tensor of one run, as a view of the state: weights [in, out], others [n], or []."""
        flat = getattr(state, self.net)[run]
        if not self.tensor:
            return flat
        layout = spec.layouts[_owner(spec, self.net)]
        number = layout.names.index(self.tensor)
        whole = layout.views(flat if self.copy is None else flat[self.copy])[number]
        if self.segment is None:
            return whole
        widths = layout.segments[number][-1]
        return whole.narrow(-1, sum(widths[: self.segment]), widths[self.segment])


Places = dict[str, Place]


def _owner(spec: Spec, name: str) -> str:
    """The network with which a tensor of the state comes."""
    return name if name in spec.layouts else name.rpartition("_")[0]


def _nothing(*_: Any) -> dict[str, Any]:
    return {}


SCRIPT_SETTINGS = {
    *("device", "env", "env_id", "dataset_name", "seed", "train_seed", "eval_seed", "project", "group", "name"),
    *("checkpoints_path", "load_model", "save_model", "backend", "eval_freq", "eval_every", "eval_episodes"),
    *("eval_first_step", "final_eval_repeats", "n_episodes", "max_timesteps", "max_steps", "num_epochs"),
    *("num_updates_on_epoch", "buffer_size", "batch_size", "outer_batch_size", "expl_noise", "normalize"),
    *("normalize_states", "normalize_reward", "reward_scale", "reward_bias", "reward_transform", "scale", "shift"),
    "actor_special_init",
}
"""Settings of the authors' scripts that change no update: those of data, whose transforms are already in the batches
of a trace, of the run's length, evaluation and logging, and of initial weights."""


@dataclass(frozen=True)
class TraceNames:
    """What a program must know to replay a trace of an algorithm's authors.

    algo: what the file's meta_json says. hyper: their hyper-parameters, in ``hp`` or beside it, -> ours ("" where
    ``config`` deals with it; the later of two names for one of ours counts); null means our default. batch: our batch
    fields -> theirs. weights: their parameters as "NETWORK/PARAMETER" -> ours, targets included, for a program; linear
    weights are [out, in] there. starts: networks that need not be in the file because they start as a copy of another
    (ours -> ours); targets need not either. config: what else of our configuration the file tells, by its meta and
    arrays. given: batch fields that we hold in another form than the file -> the function from its numbers to ours.
    after: quantities recorded after a step (1, 2, ...) that the step's metrics do not hold. final: further arrays of
    f64/final, as our numbers and the scales of their deviations.
    """

    algo: str
    hyper: Mapping[str, str]
    batch: Mapping[str, str]
    weights: Callable[[Spec], Places]
    starts: Mapping[str, str] = field(default_factory=dict)
    config: Callable[[dict[str, Any], dict[str, np.ndarray]], dict[str, Any]] = _nothing
    given: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    after: Callable[[Spec, AgentState, Hyper, int], dict[str, float]] = _nothing
    final: Callable[[Spec, AgentState], dict[str, tuple[np.ndarray, np.ndarray]]] = _nothing
    max_action: float | None = None
    """The bound of actions in a program of theirs that knows no other; None: the file says it."""
    scale_gradient: frozenset[str] = frozenset()
    """Outputs to be held to 1e-8 instead of 1e-9 (hyper-gradients of tiny size)."""


BATCH_NAMES = {
    "observations": "state",
    "actions": "action",
    "rewards": "reward",
    "next_observations": "next_state",
    "terminals": "done",
}
"""The usual names of the batch fields that every algorithm has."""


def numbered(spec: Spec, network: str, copy: int | None, layers: Sequence[str], norms: Sequence[str] = ()) -> Places:
    """A network's tensors by the names of its linear layers ("vnet/l1", ...) and its LayerNorms, in order."""
    owner = _owner(spec, network)
    layout, places, hidden = spec.layouts[owner], Places(), spec.nets[owner].hidden_layers(copy)
    for depth, layer in enumerate(layers):
        last = "_last" if depth == hidden and "w_last" in layout.names else str(depth)
        places |= {
            f"{layer}.weight": Place(network, copy, f"w{last}"),
            f"{layer}.bias": Place(network, copy, f"b{last}"),
        }
    for depth, norm in enumerate(norms):
        places |= {f"{norm}.weight": Place(network, copy, f"gain{depth}")}
        places |= {f"{norm}.bias": Place(network, copy, f"shift{depth}")}
    return places


def sequential(
    spec: Spec, network: str, copy: int | None, theirs: str, target: str = "", stride: int | None = None
) -> Places:
    """A network that is an nn.Sequential called ``theirs`` ("critic_1/net"), and its target called ``target``.

    Linear layers stand ``stride`` apart: by default 2, or 3 with a LayerNorm after each ReLU.
    """
    mlp, places = spec.nets[network].mlp, Places()
    stride, depth = stride or (3 if mlp.layer_norm else 2), spec.nets[network].hidden_layers(copy)
    for name, ours in ((theirs, network), *([(target, f"{network}_target")] if target else [])):
        layers = [f"{name}.{stride * i}" for i in range(depth + 1)]
        norms = [f"{name}.{stride * i + 2}" for i in range(depth if mlp.layer_norm else 0)]
        places |= numbered(spec, ours, copy, layers, norms)
    return places


def layer_names(layout: Layout) -> list[str]:
    """The names of an nn.Sequential's parameters ("net.0.weight", ...) in the layout's order."""
    names = []
    stride = 3 if any(name.startswith("gain") for name in layout.names) else 2
    last = sum(name.startswith("w") for name in layout.names) - 1
    for name in layout.names:
        depth = last if name.endswith("_last") else int(name[-1])
        kind = name.rstrip("0123456789").removesuffix("_last")
        index = stride * depth + (2 if kind in ("gain", "shift") else 0)
        names.append(f"net.{index}.{'weight' if kind in ('w', 'gain') else 'bias'}")
    return names


def one_rate(meta: dict[str, Any], *rates: str) -> dict[str, float]:
    """The file's one learning rate for all of these of ours to which it gives none of their own."""
    return dict.fromkeys((rate for rate in rates if rate not in meta["hp"]), float(meta.get("lr", 3e-4)))


def width_of(arrays: dict[str, np.ndarray], bias: str) -> dict[str, int]:
    """hidden_dim by the first layer's bias in the file."""
    return {"hidden_dim": int(arrays[bias].size)} if bias in arrays else {}


def actor_critic_places(spec: Spec) -> Places:
    """An actor and two critics, all with targets, as TD3+BC's authors name them."""
    places = sequential(spec, "actor", None, "actor/net", "actor_target/net")
    for i in (0, 1):
        places |= sequential(spec, "critic", i, f"critic_{i + 1}/net", f"critic_{i + 1}_target/net")
    return places
