"""What the plain PyTorch trainers here share: networks, Adam steps, moving targets. Nothing of ours is imported."""

from __future__ import annotations

import copy
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

Init = Callable[[nn.Linear, bool], Any]
"""Draws the weights of a linear layer; told whether it is the last one."""


def edac_init(last_bound: float) -> Init:
    """The EDAC paper's: hidden weights U(+-1/sqrt(fan_in)), hidden biases 0.1, the last layer U(+-last_bound)."""

    def init(layer: nn.Linear, is_last: bool) -> None:
        bound = last_bound if is_last else 1 / math.sqrt(layer.in_features)
        nn.init.uniform_(layer.weight, -bound, bound)
        nn.init.uniform_(layer.bias, -bound, bound) if is_last else nn.init.constant_(layer.bias, 0.1)

    return init


def mlp(widths: Sequence[int], ln_eps: float | None = None, init: Init | None = None) -> nn.Sequential:
    """Linear, ReLU (and LayerNorm of this eps) for every hidden layer, then Linear; by default PyTorch's init."""
    layers: list[nn.Module] = []
    for number, (width_in, width_out) in enumerate(itertools.pairwise(widths), 2):
        linear, is_last = nn.Linear(width_in, width_out), number == len(widths)
        if init is not None:
            init(linear, is_last)
        layers.append(linear)
        if not is_last:
            layers += [nn.ReLU(), *([] if ln_eps is None else [nn.LayerNorm(width_out, eps=ln_eps)])]
    return nn.Sequential(*layers)


class Actor(nn.Module):
    """Deterministic policy: observations [B, D] -> actions tanh(net) [B, A] in +-max_action."""

    def __init__(self, net: nn.Sequential, max_action: float = 1.0) -> None:
        super().__init__()
        self.net, self.max_action = net, max_action

    def forward(self, state: Tensor) -> Tensor:
        return self.max_action * torch.tanh(self.net(state))


class Critic(nn.Module):
    """Q(s, a) [B, 1]."""

    def __init__(self, net: nn.Sequential) -> None:
        super().__init__()
        self.net = net

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        return self.net(torch.cat([state, action], dim=1))


class Layers(nn.Module):
    """Linear layers called l1, l2, ... with ReLU between them."""

    def __init__(self, *widths: int, first: int = 1) -> None:
        super().__init__()
        for number, ends in enumerate(itertools.pairwise(widths), first):
            setattr(self, f"l{number}", nn.Linear(*ends))
        self.first, self.last = first, first + len(widths) - 2

    def forward(self, x: Tensor) -> Tensor:
        for number in range(self.first, self.last):
            x = torch.relu(getattr(self, f"l{number}")(x))
        return getattr(self, f"l{self.last}")(x)


class Trainer(ABC):
    """One run. A subclass's ``train_step`` is the whole algorithm.

    initial: its networks as they are recorded. derived: those that start as a copy of another, and of which.
    """

    config_type: ClassVar[type[Any]]
    initial: ClassVar[tuple[str, ...]]
    derived: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        max_action: float = 1.0,
        config: Any = None,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        self.config = config or self.config_type()
        self.act_dim, self.max_action = act_dim, max_action
        for name, net in self.networks(obs_dim, act_dim).items():
            setattr(self, name, net.to(device, dtype))
        self.reset()

    @abstractmethod
    def networks(self, obs_dim: int, act_dim: int) -> dict[str, nn.Module]:
        """Fresh ones by name, ``initial`` among them."""

    def reset(self) -> None:
        """Derived networks become copies, optimisers and counters start anew."""
        for name, source in self.derived.items():
            setattr(self, name, copy.deepcopy(getattr(self, source)))
        self.steps = 0
        self.make_optimizers()

    @abstractmethod
    def make_optimizers(self) -> None:
        """Fresh ones."""

    def adam(self, lr: float, *names: str) -> torch.optim.Adam:
        """One optimiser of these networks."""
        return torch.optim.Adam([p for name in names for p in getattr(self, name).parameters()], lr=lr)

    def draw(self, batch_size: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """The random numbers of one update, by their names in the batch."""
        return {"noise_raw": torch.randn(batch_size, self.act_dim, generator=generator)}

    @torch.no_grad()
    def move(self, tau: float, *names: str) -> None:
        """These targets go by tau towards the networks that they are derived from."""
        for name in names:
            polyak(tau, getattr(self, name), getattr(self, self.derived[name]))


def descend(optimizer: torch.optim.Optimizer, loss: Tensor, inputs: Iterable[Tensor] | None = None) -> None:
    """One step on a loss; with ``inputs`` only they get a gradient."""
    optimizer.zero_grad()
    loss.backward(inputs=None if inputs is None else list(inputs))
    optimizer.step()


@torch.no_grad()
def polyak(tau: float, target: nn.Module, online: nn.Module) -> None:
    """target <- tau online + (1 - tau) target."""
    for p_target, p in zip(target.parameters(), online.parameters(), strict=True):
        p_target.copy_(tau * p + (1 - tau) * p_target)


def detached(logs: dict[str, Tensor]) -> dict[str, Tensor]:
    """What an update reports."""
    return {name: value.detach() for name, value in logs.items()}
