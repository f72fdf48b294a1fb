"""Where each weight lies in a run's flat parameter vector.

All weights of a network are one flat vector [P], so that Adam, the target update, a checkpoint and a kernel's base
pointer each deal with one tensor. ``ActorParams`` and ``CriticParams`` are views of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

ALIGNMENT = 64  # entries: every network of every run starts at a multiple of 256 bytes, as vector loads like it


class ActorParams(NamedTuple):
    """Weights [in, out] and biases [out] of the actor's three layers (leading axes allowed)."""

    w0: Tensor
    b0: Tensor
    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor


class CriticLayer(NamedTuple):
    """One hidden layer: weight [in, H], bias [H], LayerNorm's gain and shift [H] (None without LayerNorm)."""

    w: Tensor
    b: Tensor
    gain: Tensor | None
    shift: Tensor | None


class CriticParams(NamedTuple):
    """Hidden layers, then the last layer's weight [H] and bias []."""

    hidden: tuple[CriticLayer, ...]
    w: Tensor
    b: Tensor


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the tensors in one network's flat vector, in order, zero-padded to a multiple of 64."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """P: number of entries of the flat vector."""
        return -(-sum(self._sizes) // ALIGNMENT) * ALIGNMENT

    @property
    def _sizes(self) -> list[int]:
        return [math.prod(shape) for shape in self.shapes]

    def views(self, flat: Tensor) -> list[Tensor]:
        """The tensors of flat [..., P], as views [..., *shape] in order."""
        sizes, lead = self._sizes, flat.shape[:-1]
        parts = torch.split(flat, [*sizes, self.size - sum(sizes)], dim=-1)
        return [part.view((*lead, *shape)) for part, shape in zip(parts, self.shapes, strict=False)]

    def flatten(self, tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
        """The inverse of ``views``: [..., P] from tensors [..., *shape]."""
        parts = [
            t.unsqueeze(-1) if not shape else t.flatten(-len(shape))
            for t, shape in zip(tensors, self.shapes, strict=True)
        ]
        padding = self.size - sum(self._sizes)
        return torch.cat([*parts, parts[-1].new_zeros((*parts[-1].shape[:-1], padding))], dim=-1)


@dataclass(frozen=True)
class Shapes:
    """Sizes shared by all runs of a population: padded dimensions, width and the kind of critic."""

    obs_dim: int
    act_dim: int
    hidden_dim: int = 256
    robust: bool = True

    @property
    def actor(self) -> Layout:
        """Layout of the actor: obs_dim -> H -> H -> act_dim."""
        d, a, h = self.obs_dim, self.act_dim, self.hidden_dim
        return Layout(("w0", "b0", "w1", "b1", "w2", "b2"), ((d, h), (h,), (h, h), (h,), (h, a), (a,)))

    @property
    def critic(self) -> Layout:
        """Layout of one critic: [obs, act] -> H -> H (-> H if robust) -> 1."""
        h = self.hidden_dim
        names: list[str] = []
        shapes: list[tuple[int, ...]] = []
        for depth in range(3 if self.robust else 2):
            width = self.obs_dim + self.act_dim if depth == 0 else h
            names += [f"w{depth}", f"b{depth}"] + ([f"gain{depth}", f"shift{depth}"] if self.robust else [])
            shapes += [(width, h), (h,)] + ([(h,), (h,)] if self.robust else [])
        return Layout((*names, "w_last", "b_last"), (*shapes, (h,), ()))

    def actor_params(self, flat: Tensor) -> ActorParams:
        """Views of flat [..., P_actor]."""
        return ActorParams(*self.actor.views(flat))

    def critic_params(self, flat: Tensor) -> CriticParams:
        """Views of flat [..., P_critic]."""
        *hidden, w, b = self.critic.views(flat)
        per_layer = 4 if self.robust else 2
        layers = tuple(
            CriticLayer(*hidden[i : i + per_layer], *(() if self.robust else (None, None)))
            for i in range(0, len(hidden), per_layer)
        )
        return CriticParams(layers, w, b)
