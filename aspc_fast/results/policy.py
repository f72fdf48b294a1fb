"""A trained policy as a plain callable, and its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aspc_fast.agent.layout import Shapes
from aspc_fast.agent.networks import actor_forward
from aspc_fast.agent.state import unpad
from aspc_fast.data.normaliser import Normaliser
from aspc_fast.errors import UserError


@dataclass(frozen=True)
class Policy:
    """Raw observations [n, obs_dim] -> actions [n, act_dim] in +-max_action; normalisation is inside.

    ``weights`` is the actor's flat vector float32 [P] in the layout of ``shapes``.
    """

    weights: Tensor
    shapes: Shapes
    normaliser: Normaliser
    max_action: float

    @classmethod
    def from_padded(
        cls, flat: Tensor, padded: Shapes, obs_dim: int, act_dim: int, normaliser: Normaliser, max_action: float
    ) -> Policy:
        """The policy of one run of a population, cut to its true dimensions."""
        own = Shapes(obs_dim, act_dim, padded.hidden_dim, padded.robust)
        return cls(unpad(flat, own.actor, padded.actor, own, padded), own, normaliser, max_action)

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Actions float32 [n, act_dim] of raw observations [n, obs_dim]; [obs_dim] gives [act_dim]. UserError."""
        if isinstance(observations, dict):
            raise UserError(f"the policy takes an array, got a dict with {', '.join(map(repr, observations))}")
        obs = np.asarray(observations, dtype=np.float32)
        if obs.ndim not in (1, 2) or obs.shape[-1] != self.shapes.obs_dim:
            dim = self.shapes.obs_dim
            raise UserError(f"the policy takes observations [n, {dim}] or [{dim}], got an array of shape {obs.shape}")
        normalised = torch.from_numpy(self.normaliser(np.atleast_2d(obs)))
        with torch.no_grad():
            params = self.shapes.actor_params(self.weights)
            actions, _ = actor_forward(params, normalised, torch.tensor(self.max_action))
        return actions.numpy()[0] if obs.ndim == 1 else actions.numpy()


class PolicyBatch:
    """Several policies of equal dimensions as one: observations [R * n, obs_dim] in R blocks, one per policy."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._shapes = policies[0].shapes
        self._weights = torch.stack([p.weights for p in policies])
        self._mean, self._std = (
            torch.from_numpy(np.stack([getattr(p.normaliser, name) for p in policies]))[:, None]
            for name in ("mean", "std")
        )
        self._max_action = torch.tensor([p.max_action for p in policies])[:, None, None]

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Actions float32 [R * n, act_dim]."""
        obs = torch.from_numpy(np.asarray(observations, dtype=np.float32)).reshape(
            len(self._weights), -1, self._shapes.obs_dim
        )
        with torch.no_grad():
            params = self._shapes.actor_params(self._weights)
            actions, _ = actor_forward(params, (obs - self._mean) / self._std, self._max_action)
        return actions.flatten(0, 1).numpy()
