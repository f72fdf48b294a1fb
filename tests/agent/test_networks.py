import pytest
import torch

from aspc_fast.agent.layout import Shapes
from aspc_fast.agent.networks import (
    actor_backward,
    actor_forward,
    actor_tangent,
    critic_action_gradient,
    critic_forward,
    mlp_backward,
)

B, D, A = 9, 5, 3
MAX_ACTION = torch.tensor(1.7, dtype=torch.float64)


def shapes(robust: bool = True) -> Shapes:
    return Shapes(D, A, 16, robust)


def randn(*size: int) -> torch.Tensor:
    return torch.randn(*size, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_actor_backward_equals_autograd():
    layout, flat = shapes().actor, randn(shapes().actor.size).requires_grad_()
    observations, cotangent = randn(B, D), randn(B, A)
    actions, _ = actor_forward(shapes().actor_params(flat), observations, MAX_ACTION)
    (expected,) = torch.autograd.grad((actions * cotangent).sum(), flat)
    with torch.no_grad():
        params = shapes().actor_params(flat)
        _, tape = actor_forward(params, observations, MAX_ACTION)
        ours = layout.flatten(actor_backward(params, tape, cotangent, MAX_ACTION))
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_actor_tangent_equals_forward_mode():
    flat, direction, observations = randn(shapes().actor.size), randn(shapes().actor.size), randn(B, D)

    def policy(weights):
        return actor_forward(shapes().actor_params(weights), observations, MAX_ACTION)[0]

    step = 1e-6
    expected = (policy(flat + step * direction) - policy(flat - step * direction)) / (2 * step)
    params = shapes().actor_params(flat)
    _, tape = actor_forward(params, observations, MAX_ACTION)
    ours = actor_tangent(params, tape, shapes().actor_params(direction), MAX_ACTION)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("robust", [True, False])
def test_critic_gradients_equal_autograd(robust):
    layout, flat = shapes(robust).critic, randn(shapes(robust).critic.size).requires_grad_()
    observations, actions, cotangent = randn(B, D), randn(B, A).requires_grad_(), randn(B)
    q, _ = critic_forward(shapes(robust).critic_params(flat), observations, actions)
    (expected,) = torch.autograd.grad((q * cotangent).sum(), flat, retain_graph=True)
    (expected_actions,) = torch.autograd.grad(q.sum(), actions)
    with torch.no_grad():
        params = shapes(robust).critic_params(flat)
        _, tape = critic_forward(params, observations, actions)
        ours = layout.flatten(mlp_backward(params, tape, cotangent))
        ours_actions = critic_action_gradient(params, tape, A)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours_actions, expected_actions, rtol=1e-10, atol=1e-10)


def test_leading_axes_are_what_vmap_adds():
    """Runs and critics are batched by broadcasting; torch.vmap of the one-critic function says the same."""
    s, flat = shapes(), randn(4, 2, shapes().critic.size)
    observations, actions = randn(4, 2, B, D), randn(4, 2, B, A)

    def one(weights, obs, act):
        return critic_forward(s.critic_params(weights), obs, act)[0]

    broadcast = one(flat, observations, actions)
    vmapped = torch.vmap(torch.vmap(one))(flat, observations, actions)
    torch.testing.assert_close(broadcast, vmapped, rtol=1e-12, atol=1e-12)


def test_layout_round_trip_and_alignment():
    for layout in (shapes().actor, shapes().critic, shapes(False).critic):
        flat = randn(3, layout.size)
        used = sum(view[0].numel() for view in layout.views(flat))
        flat[:, used:] = 0
        assert layout.size % 64 == 0
        assert torch.equal(layout.flatten(layout.views(flat)), flat)
