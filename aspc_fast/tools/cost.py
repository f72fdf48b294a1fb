"""What one update must compute and move: the floors that timings are compared with."""

from __future__ import annotations

from dataclasses import dataclass

from aspc_fast.agent.state import Spec


@dataclass(frozen=True)
class UpdateCost:
    """Mean over a period, one run: floating-point operations of matrix products, and bytes of weights, moments, targets
    and gradients that pass through memory when nothing stays in a cache."""

    flops: float
    bytes: float


def update_cost(spec: Spec) -> UpdateCost:
    """Counted from the layer sizes; batch data and activations are left out of the bytes (they stay on the chip)."""
    s, batch, h = spec.shapes, spec.batch_size, spec.shapes.hidden_dim
    hidden = 3 if s.robust else 2
    actor = s.obs_dim * h + h * h + h * s.act_dim
    inner, first = (hidden - 1) * h * h + h, (s.obs_dim + s.act_dim) * h
    critic = first + inner
    # every step: target actor and both target critics forward; critics forward, weight gradients, inner input gradients
    always = actor + 2 * critic + 2 * (critic + critic + inner)
    # actor steps: actor forward; Q1 forward and its gradient down to the actions; actor's weight and input gradients
    acting = actor + critic + inner + s.act_dim * h + actor + (h * h + h * s.act_dim)
    # meta steps: gQ once more, actor and Q1 at theta', the tangent through theta'
    meta = (2 * actor) + actor + critic + inner + s.act_dim * h + 2 * actor
    per_update = always + acting / spec.policy_freq + (meta / spec.period if spec.learns_alpha else 0.0)
    critic_bytes, actor_bytes = 2 * s.critic.size * 4, s.actor.size * 4
    # Adam reads and writes weights and both moments; targets are read every step and moved on actor steps
    moved = critic_bytes * (6 + 1 + 2 / spec.policy_freq) + actor_bytes * (1 + (6 + 2) / spec.policy_freq)
    return UpdateCost(2.0 * batch * per_update, float(moved))
