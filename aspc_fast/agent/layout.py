"""Multi-layer perceptrons: what they consist of, and where each weight lies in a run's flat parameter vector.

All weights of a network are one flat vector [P], so that Adam, the target update, a checkpoint and a kernel's base
pointer each deal with one tensor. ``MLPParams`` are views of it. Runs of different dimensions share a layout by
zero-padding: every axis is a row of segments (observation entries, action entries, units), each padded on its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

ALIGNMENT = 64  # entries: every network of every run starts at a multiple of 256 bytes, as vector loads like it
LAYER_NORM_EPS = 1e-5

Size = int | str
"""Entries of a segment: a number of units, or the name of a dimension of the data (see ``Dims``)."""


class Dims(NamedTuple):
    """Dimensions of a dataset, or of the widest of a population: observation and action entries."""

    obs: int
    act: int

    def size(self, size: Size) -> int:
        """Entries of a segment; ``latent`` is 2 * act."""
        if isinstance(size, int):
            return size
        return {"obs": self.obs, "act": self.act, "latent": 2 * self.act}[size]


class Layer(NamedTuple):
    """One hidden layer: weight [in, H], bias [H], LayerNorm's gain and shift [H] (None without LayerNorm)."""

    w: Tensor
    b: Tensor
    gain: Tensor | None
    shift: Tensor | None


class MLPParams(NamedTuple):
    """Hidden layers, then the last layer: weight [H, out] and bias [out], or [H] and [] if ``scalar``.

    ``eps`` is LayerNorm's. ``extras``: further parameters of the network that are no layer, by position.
    """

    hidden: tuple[Layer, ...]
    w: Tensor
    b: Tensor
    scalar: bool
    eps: float
    extras: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class MLP:
    """inputs -> hidden layers (Linear, ReLU, LayerNorm if any) -> Linear to ``outputs`` (empty: one number per row).

    ``extras``: name and segments of parameters beside the layers, such as a policy's log standard deviation.
    """

    inputs: tuple[Size, ...]
    hidden: tuple[int, ...]
    outputs: tuple[Size, ...] = ()
    layer_norm: bool = False
    eps: float = LAYER_NORM_EPS
    extras: tuple[tuple[str, tuple[Size, ...]], ...] = ()

    def layout(self, dims: Dims) -> Layout:
        """Where the weights lie for data of these dimensions."""
        return _layout(self, dims)

    def params(self, layout: Layout, flat: Tensor) -> MLPParams:
        """Views of flat [..., P]."""
        views = layout.views(flat)
        per_layer = 4 if self.layer_norm else 2
        count = per_layer * len(self.hidden)
        layers = tuple(
            Layer(*views[i : i + per_layer], *(() if self.layer_norm else (None, None)))
            for i in range(0, count, per_layer)
        )
        return MLPParams(layers, views[count], views[count + 1], not self.outputs, self.eps, tuple(views[count + 2 :]))


@dataclass(frozen=True)
class Layout:
    """Names and axes of the tensors in one network's flat vector, in order, zero-padded to a multiple of 64.

    ``segments``: for each tensor, for each axis, the entries of its segments. Derived: the tensors' shapes and sizes,
    and ``size``, P, the entries of the flat vector.
    """

    names: tuple[str, ...]
    segments: tuple[tuple[tuple[int, ...], ...], ...]
    shapes: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)
    sizes: tuple[int, ...] = field(init=False, repr=False, compare=False)
    size: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        shapes = tuple(tuple(sum(axis) for axis in axes) for axes in self.segments)
        sizes = tuple(math.prod(shape) for shape in shapes)
        # plain attributes, which a compiler reads as constants
        object.__setattr__(self, "shapes", shapes)
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "size", -(-sum(sizes) // ALIGNMENT) * ALIGNMENT)

    def views(self, flat: Tensor) -> list[Tensor]:
        """The tensors of flat [..., P], as views [..., *shape] in order."""
        sizes, lead = self.sizes, flat.shape[:-1]
        parts = torch.split(flat, [*sizes, self.size - sum(sizes)], dim=-1)
        return [part.view((*lead, *shape)) for part, shape in zip(parts, self.shapes, strict=False)]

    def flatten(self, tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
        """The inverse of ``views``: [..., P] from tensors [..., *shape]."""
        parts = [
            t.unsqueeze(-1) if not shape else t.flatten(-len(shape))
            for t, shape in zip(tensors, self.shapes, strict=True)
        ]
        padding = self.size - sum(self.sizes)
        return torch.cat([*parts, parts[-1].new_zeros((*parts[-1].shape[:-1], padding))], dim=-1)

    def pad_to(self, padded: Layout, flat: Tensor) -> Tensor:
        """This network's flat weights [P] in the wider layout ``padded``, zeros elsewhere."""
        out = torch.zeros(padded.size, dtype=flat.dtype)
        for i, (source, target) in enumerate(zip(self.views(flat), padded.views(out), strict=True)):
            target[self._places(i, padded)] = source
        return out

    def unpad_from(self, padded: Layout, flat: Tensor) -> Tensor:
        """The inverse of ``pad_to``: [P] from the padded layout's [P_padded]."""
        return self.flatten([view[self._places(i, padded)] for i, view in enumerate(padded.views(flat))])

    def _places(self, tensor: int, padded: Layout) -> tuple[Tensor, ...]:
        """Where the entries of a tensor lie in the padded one: an index for each axis, to broadcast."""
        axes = list(zip(self.segments[tensor], padded.segments[tensor], strict=True))
        places = []
        for i, (own, wide) in enumerate(axes):
            starts = [sum(wide[:k]) for k in range(len(wide))]
            index = torch.cat([torch.arange(start, start + n) for start, n in zip(starts, own, strict=True)])
            places.append(index.reshape([-1 if k == i else 1 for k in range(len(axes))]))
        return tuple(places)


@cache
def _layout(mlp: MLP, dims: Dims) -> Layout:
    names: list[str] = []
    segments: list[tuple[tuple[int, ...], ...]] = []
    before = tuple(map(dims.size, mlp.inputs))
    for depth, width in enumerate(mlp.hidden):
        names += [f"w{depth}", f"b{depth}"] + ([f"gain{depth}", f"shift{depth}"] if mlp.layer_norm else [])
        segments += [(before, (width,)), *[((width,),)] * (3 if mlp.layer_norm else 1)]
        before = (width,)
    if mlp.outputs:
        last = tuple(map(dims.size, mlp.outputs))
        names += [f"w{len(mlp.hidden)}", f"b{len(mlp.hidden)}"]
        segments += [(before, last), (last,)]
    else:
        names += ["w_last", "b_last"]
        segments += [(before,), ()]
    for name, sizes in mlp.extras:
        names.append(name)
        segments.append((tuple(map(dims.size, sizes)),) if sizes else ())
    return Layout(tuple(names), tuple(segments))


def actor_mlp(hidden_dim: int) -> MLP:
    """TD3+BC's actor before its tanh: obs -> H -> H -> act."""
    return MLP(("obs",), (hidden_dim,) * 2, ("act",))


def critic_mlp(hidden_dim: int, robust: bool) -> MLP:
    """[obs, act] -> Q: three hidden layers with LayerNorm if ``robust``, else two without."""
    return MLP(("obs", "act"), (hidden_dim,) * (3 if robust else 2), layer_norm=robust)


@dataclass(frozen=True)
class Shapes:
    """Sizes of ASPC's and TD3+BC's networks: padded dimensions, width and the kind of critic."""

    obs_dim: int
    act_dim: int
    hidden_dim: int = 256
    robust: bool = True

    @property
    def actor(self) -> Layout:
        """Layout of the actor: obs_dim -> H -> H -> act_dim."""
        return actor_mlp(self.hidden_dim).layout(Dims(self.obs_dim, self.act_dim))

    @property
    def critic(self) -> Layout:
        """Layout of one critic: [obs, act] -> H -> H (-> H if robust) -> 1."""
        return critic_mlp(self.hidden_dim, self.robust).layout(Dims(self.obs_dim, self.act_dim))

    def actor_params(self, flat: Tensor) -> MLPParams:
        """Views of flat [..., P_actor]."""
        return actor_mlp(self.hidden_dim).params(self.actor, flat)

    def critic_params(self, flat: Tensor) -> MLPParams:
        """Views of flat [..., P_critic]."""
        return critic_mlp(self.hidden_dim, self.robust).params(self.critic, flat)
