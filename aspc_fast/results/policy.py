"""A trained policy as a plain callable, and its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aspc_fast.agent.layout import MLP, Dims, MLPParams
from aspc_fast.agent.networks import mlp_forward
from aspc_fast.data.normaliser import Normaliser
from aspc_fast.errors import UserError


@dataclass(frozen=True)
class Policy:
    """Raw observations [n, obs_dim] -> actions [n, act_dim] in +-max_action; normalisation is inside.

    ``weights`` is the flat vector float32 [P] of ``network`` for data of ``dims``; the tanh of its first outputs acts.
    """

    weights: Tensor
    network: MLP
    dims: Dims
    normaliser: Normaliser
    max_action: float

    @classmethod
    def from_padded(
        cls,
        flat: Tensor,
        network: MLP,
        padded: Dims,
        obs_dim: int,
        act_dim: int,
        normaliser: Normaliser,
        max_action: float,
    ) -> Policy:
        """The policy of one run of a population, cut to its true dimensions."""
        own = Dims(obs_dim, act_dim)
        weights = network.layout(own).unpad_from(network.layout(padded), flat)
        return cls(weights, network, own, normaliser, max_action)

    def params(self) -> MLPParams:
        """The weights by layer."""
        return self.network.params(self.network.layout(self.dims), self.weights)

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Actions float32 [n, act_dim] of raw observations [n, obs_dim]; [obs_dim] gives [act_dim]. UserError."""
        if isinstance(observations, dict):
            raise UserError(f"the policy takes an array, got a dict with {', '.join(map(repr, observations))}")
        obs = np.asarray(observations, dtype=np.float32)
        if obs.ndim not in (1, 2) or obs.shape[-1] != self.dims.obs:
            dim = self.dims.obs
            raise UserError(f"the policy takes observations [n, {dim}] or [{dim}], got an array of shape {obs.shape}")
        normalised = torch.from_numpy(self.normaliser(np.atleast_2d(obs)))
        with torch.no_grad():
            actions = act(self.params(), self.dims, normalised, torch.tensor(self.max_action))
        return actions.numpy()[0] if obs.ndim == 1 else actions.numpy()


def act(params: MLPParams, dims: Dims, observations: Tensor, max_action: Tensor) -> Tensor:
    """Deterministic actions [..., n, act_dim] of normalised observations [..., n, obs_dim]."""
    return mlp_forward(params, observations)[0][..., : dims.act].tanh() * max_action


class PolicyBatch:
    """Several policies of equal dimensions as one: observations [R * n, obs_dim] in R blocks, one per policy."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._first = policies[0]
        self._weights = torch.stack([p.weights for p in policies])
        self._mean, self._std = (
            torch.from_numpy(np.stack([getattr(p.normaliser, name) for p in policies]))[:, None]
            for name in ("mean", "std")
        )
        self._max_action = torch.tensor([p.max_action for p in policies])[:, None, None]

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Actions float32 [R * n, act_dim]."""
        first = self._first
        obs = torch.from_numpy(np.asarray(observations, dtype=np.float32)).reshape(
            len(self._weights), -1, first.dims.obs
        )
        with torch.no_grad():
            params = first.network.params(first.network.layout(first.dims), self._weights)
            actions = act(params, first.dims, (obs - self._mean) / self._std, self._max_action)
        return actions.flatten(0, 1).numpy()
