"""The closed-form meta-gradient against autograd: the oracle with the authors' derivative, and untouched autograd."""

import pytest
import torch

from aspc_fast import reference
from aspc_fast.agent.aspc import actor_direction, meta_step
from aspc_fast.agent.state import Batch, RunShape, make_hyper, make_spec, state_from_weights
from aspc_fast.agent.td3bc import actor_step
from aspc_fast.agent.trace_names import layer_names
from aspc_fast.config import AgentConfig

B, D, A = 32, 6, 3
FIRST = {"rho": 0.7, "rho_m": 0.0, "rho_v": 0.0, "ema_q": 0.0}
MAX_ACTION = 1.3


def random_state(loss_function: int, seed: int, dead_units: bool):
    """A state in mid-training with random moments, and the reference trainer in the same state."""
    torch.manual_seed(seed)
    config = AgentConfig(batch_size=B, hidden_dim=32, loss_function=loss_function, policy_freq=1, alpha_freq=1, ema=0.9)
    run = RunShape(D, A, MAX_ACTION)
    spec = make_spec([config], [run])
    actor = 0.2 * torch.randn(1, spec.shapes.actor.size, dtype=torch.float64)
    critic = 0.3 * torch.randn(1, 2, spec.shapes.critic.size, dtype=torch.float64)
    if dead_units:  # a bias far below zero: the unit never fires, so its gradient and moments are exactly 0
        spec.shapes.actor_params(actor).hidden[0].b[0, :5] = -1e6
    state = state_from_weights(
        spec,
        {"actor": actor, "critic": critic},
        {name: torch.tensor([value], dtype=torch.float64) for name, value in FIRST.items()},
    )
    state.actor_v.copy_(torch.rand_like(state.actor_v) * 1e-4)
    state.actor_m.copy_(torch.randn_like(state.actor_m) * 1e-2)
    if dead_units:
        for moment in (state.actor_m, state.actor_v):
            spec.shapes.actor_params(moment).hidden[0].w[0, :, :5] = 0
            spec.shapes.actor_params(moment).hidden[0].b[0, :5] = 0
    state.ema_q.fill_(0.4)
    state.step.fill_(7)
    batch = Batch(
        torch.randn(1, B, D, dtype=torch.float64),
        (torch.rand(1, B, A, dtype=torch.float64) * 2 - 1) * MAX_ACTION,
        *(torch.zeros(1, B, dtype=torch.float64), torch.zeros(1, B, D), torch.zeros(1, B), torch.zeros(1, B, A)),
    )
    return spec, make_hyper(spec, [config], [run], [0], torch.float64), state, batch


def load_module(module, layout, flat):
    tensors = {n: v.T if v.ndim == 2 else v for n, v in zip(layer_names(layout), layout.views(flat), strict=True)}
    current = module.state_dict()
    module.load_state_dict({name: tensors[name].reshape(current[name].shape) for name in current})


def matching_reference(spec, state, loss_function):
    config = reference.Config(policy_freq=1, alpha_freq=1, ema=0.9, loss_function=loss_function)
    trainer = reference.Trainer(D, A, MAX_ACTION, config, dtype=torch.float64)
    trainer.actor = reference.Actor(D, A, MAX_ACTION, 32).double()
    trainer.critic_1 = reference.RobustCritic(D, A, 32).double()
    trainer.reset()
    load_module(trainer.actor, spec.shapes.actor, state.actor[0])
    load_module(trainer.critic_1, spec.shapes.critic, state.critic[0, 0])
    for moments, flat in ((trainer.actor_m, state.actor_m), (trainer.actor_v, state.actor_v)):
        views = spec.shapes.actor.views(flat[0])
        for moment, view in zip(moments, views, strict=True):
            moment.copy_(view.T if view.ndim == 2 else view)
    trainer.raw_alpha.data.fill_(0.7)
    trainer.ema_q.fill_(0.4)
    trainer.steps = 7
    return trainer


@pytest.mark.parametrize("loss_function", [1, 2, 3, 4])
@pytest.mark.parametrize("dead_units", [False, True])
def test_closed_form_equals_the_autograd_oracle(loss_function, dead_units):
    for seed in range(5):
        spec, hyper, state, batch = random_state(loss_function, seed, dead_units)
        trainer = matching_reference(spec, state, loss_function)
        expected = trainer.actor_step(batch.observations[0], batch.actions[0], meta=True)
        step, _ = actor_step(spec, state, hyper, batch, with_gradient_q=True)
        ours = meta_step(spec, state, hyper, batch, step)
        for name in ("alpha_grad", "alpha_loss", "eq1", "eq2", "eq3", "ema_q", "bc_sup", "delta_bc_sup"):
            torch.testing.assert_close(ours[name][0], expected[name], rtol=1e-10, atol=1e-13, msg=name)


def test_textbook_derivative_equals_untouched_autograd():
    """Where every v > 0, d theta'/d alpha in the textbook variant is what autograd gives through Adam as written."""
    spec, hyper, state, batch = random_state(4, 3, dead_units=False)
    before, m0, v0 = state.actor.clone(), state.actor_m.clone(), state.actor_v.clone()
    step, _ = actor_step(spec, state, hyper, batch, with_gradient_q=True)
    gradient_bc = step.gradient - torch.nn.functional.softplus(state.rho) * step.gradient_q
    alpha = torch.nn.functional.softplus(state.rho).clone().requires_grad_()
    g = alpha * step.gradient_q + gradient_bc
    m, v = 0.9 * m0 + 0.1 * g, 0.999 * v0 + 0.001 * g**2
    n = int(state.step)
    update = (m / (1 - 0.9**n)) / ((v / (1 - 0.999**n)).sqrt() + 1e-8)
    new = before - 3e-4 * update
    torch.testing.assert_close(new.detach(), state.actor, rtol=1e-12, atol=1e-14)
    probe = torch.randn_like(new)
    (expected,) = torch.autograd.grad((new * probe).sum(), alpha)
    ours = (actor_direction(spec, state, hyper, step, textbook=True) * probe).sum()
    torch.testing.assert_close(ours, expected[0], rtol=1e-10, atol=0)
    authors = (actor_direction(spec, state, hyper, step) * probe).sum()
    assert authors != ours  # the authors' D^3 differs from the textbook, if only a little
    torch.testing.assert_close(authors, ours, rtol=1e-3, atol=0)


@pytest.mark.parametrize(("policy_freq", "alpha_freq", "updates"), [(2, 10, 50_000), (3, 7, 47_619), (7, 9, 15_873)])
def test_alphas_learning_rate_falls_over_a_whole_number_of_updates(policy_freq, alpha_freq, updates):
    """aspc.py has 0.01 ** (1 / int(1e6 / (policy_freq * alpha_freq)))."""
    config = AgentConfig(algo="aspc", policy_freq=policy_freq, alpha_freq=alpha_freq)
    assert config.alpha_lr_decay**updates == pytest.approx(0.01, rel=1e-9)
