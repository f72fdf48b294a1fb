"""Every hyper-parameter once: its paper symbol, default and unit. The command line and the API are built from this."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from aspc_fast.errors import UserError

Algo = Literal["aspc", "td3bc"]
CriticKind = Literal["auto", "robust", "plain"]
RewardOption = Literal["none", "return-range", "minus-one", "scale", "centre"]
Precision = Literal["tf32", "fp32", "bf16"]


@dataclass(frozen=True)
class AgentConfig:
    """Hyper-parameters of one run. Defaults are the paper's single set for all 39 datasets."""

    algo: Algo = "aspc"
    """aspc: alpha is learned; td3bc: alpha stays at its first value."""
    critic: CriticKind = "auto"
    """robust: 3 hidden layers, LayerNorm after ReLU; plain: 2 hidden layers; auto: robust for aspc, else plain."""
    hidden_dim: int = 256
    """Width of every hidden layer, in units."""
    batch_size: int = 256
    """B: transitions per update."""
    discount: float = 0.99
    """gamma: discount per step, in [0, 1]."""
    tau: float = 0.005
    """tau: share of the online weights that enters the targets at each target update, in (0, 1]."""
    policy_noise: float = 0.2
    """sigma: standard deviation of the target policy's noise, in units of max_action."""
    noise_clip: float = 0.5
    """c: bound of that noise, in units of max_action."""
    policy_freq: int = 2
    """d: critic updates per actor (and target) update."""
    actor_lr: float = 3e-4
    """eta_actor: Adam learning rate of the actor."""
    critic_lr: float = 3e-4
    """eta_critic: Adam learning rate of the critics."""
    alpha: float = 2.5
    """alpha_0: first weight of the RL term against cloning (td3bc: the only one), > 0."""
    alpha_freq: int = 10
    """k: actor updates per alpha update."""
    alpha_lr: float = 2e-3
    """eta_alpha: Adam learning rate of rho (alpha = softplus(rho)) at alpha_freq 10; in proportion to alpha_freq."""
    alpha_lr_final: float = 0.01
    """Share of eta_alpha that is left after alpha_lr_horizon training steps (exponential decay per alpha update)."""
    alpha_lr_horizon: int = 1_000_000
    """Training steps over which alpha_lr_final is reached: a constant of the method, not the run's length."""
    ema: float = 0.995
    """kappa: memory of the running mean of Q, in [0, 1)."""
    loss_function: Literal[1, 2, 3, 4] = 4
    """L_outer: 1 = eq1; 2 = eq1 + eq2; 3 = eq1 + eq3; 4 = eq1 + eq2 + eq3."""
    reward: RewardOption = "none"
    """Reward transform: return-range (times horizon / (best - worst return)), minus-one, scale, centre (minus mean)."""
    reward_scale: float = 1.0
    """Factor of the reward option scale."""
    reward_mean: float = 0.0
    """r_mean: subtracted from every reward after the transform."""
    normalise_eps: float = 1e-3
    """Added to the standard deviation when states are normalised, in units of the state."""
    adam_beta1: float = 0.9
    """beta_1 of every Adam."""
    adam_beta2: float = 0.999
    """beta_2 of every Adam."""
    adam_eps: float = 1e-8
    """epsilon of every Adam, added outside the root."""

    def __post_init__(self) -> None:
        for name, low, high, open_low in _RANGES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise UserError(f"{name} must be a finite number, got {value!r}")
            if value < low or value > high or (open_low and value == low):
                bracket = "(" if open_low else "["
                raise UserError(f"{name} must lie in {bracket}{low:g}, {high:g}], got {value!r}")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UserError(f"{name} must be one of {', '.join(map(str, allowed))}, got {getattr(self, name)!r}")

    @property
    def critic_kind(self) -> Literal["robust", "plain"]:
        """The critic in use once ``auto`` is resolved."""
        if self.critic != "auto":
            return self.critic
        return "robust" if self.algo == "aspc" else "plain"

    @property
    def period(self) -> int:
        """Training steps after which the schedule of updates repeats."""
        return self.policy_freq * self.alpha_freq

    @property
    def alpha_lr_initial(self) -> float:
        """Learning rate of the first alpha update."""
        return self.alpha_lr / 10 * self.alpha_freq

    @property
    def alpha_lr_decay(self) -> float:
        """Factor on alpha's learning rate per alpha update."""
        return float(self.alpha_lr_final ** (self.period / self.alpha_lr_horizon))

    def to_json(self) -> dict[str, Any]:
        """Plain values, one per field."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> AgentConfig:
        """The inverse of ``to_json``; UserError on a field this version does not know."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UserError(f"unknown hyper-parameter {unknown[0]!r} in the configuration")
        return cls(**values)


_BIG = 1e9
_RANGES: tuple[tuple[str, float, float, bool], ...] = (
    # name, lowest, highest, is the lowest excluded
    ("hidden_dim", 1, 8192, False),
    ("batch_size", 1, 1_048_576, False),
    ("discount", 0, 1, False),
    ("tau", 0, 1, True),
    ("policy_noise", 0, _BIG, False),
    ("noise_clip", 0, _BIG, False),
    ("policy_freq", 1, 1_000_000, False),
    ("actor_lr", 0, 1, False),
    ("critic_lr", 0, 1, False),
    ("alpha", 0, _BIG, True),
    ("alpha_freq", 1, 1_000_000, False),
    ("alpha_lr", 0, 1, False),
    ("alpha_lr_final", 0, 1, True),
    ("alpha_lr_horizon", 1, 1e12, False),
    ("ema", 0, 1, False),
    ("reward_scale", -_BIG, _BIG, False),
    ("reward_mean", -_BIG, _BIG, False),
    ("normalise_eps", 0, _BIG, True),
    ("adam_beta1", 0, 0.999999, False),
    ("adam_beta2", 0, 0.99999999, False),
    ("adam_eps", 0, 1, True),
)
_CHOICES: dict[str, tuple[Any, ...]] = {
    "algo": ("aspc", "td3bc"),
    "critic": ("auto", "robust", "plain"),
    "loss_function": (1, 2, 3, 4),
    "reward": ("none", "return-range", "minus-one", "scale", "centre"),
}
