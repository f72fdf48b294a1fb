"""Sampling bit by bit, and the outer loss with its alpha step."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.kernels import interpreter  # noqa: F401  (first: sets the interpreter)

# isort: split
from aspc_fast.agent.aspc import meta_step
from aspc_fast.agent.philox import STREAM_INDEX, words
from aspc_fast.agent.td3bc import actor_step
from aspc_fast.data.normaliser import Normaliser
from aspc_fast.engine.replay import Replay
from aspc_fast.kernels.actor import launch_actor
from aspc_fast.kernels.gather import launch_gather, make_source
from aspc_fast.kernels.outer import launch_outer
from aspc_fast.kernels.policy import launch_policy
from aspc_fast.kernels.problem import META_METRICS, METRICS
from aspc_fast.kernels.weights import actor_plan, launch_weights
from tests.helpers import toy_data
from tests.kernels.interpreter import DEVICE, DTYPES
from tests.kernels.support import SHAPES, Case, assert_as_exact_as, make_case
from tests.kernels.test_weights import tensors

LARGE_SEEDS = (0, 2**32 + 5, 2**63 - 1)


def _with_breaks(next_observations: np.ndarray) -> np.ndarray:
    broken = next_observations.copy()
    broken[::7] += 1
    return broken


def make_replay(case: Case, store_next: bool = True) -> Replay:
    """One dataset per run; without s' its rows have extra rows between them."""
    obs, act = case.spec.shapes.obs_dim, case.spec.shapes.act_dim
    runs = case.problem.runs
    data = [toy_data(300 + 100 * i, max(1, obs - 3 * i), max(1, act - i), seed=i) for i in range(runs)]
    if not store_next:  # s' is the next row's state but for every seventh row, as where episodes end
        data = [replace(d, next_observations=_with_breaks(d.next_observations)) for d in data]
    normalisers = [Normaliser.of(d.observations, 1e-3) for d in data]
    return Replay(data, normalisers, list(range(runs)), case.spec, DEVICE, case.state.actor.dtype, store_next)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("step", "store_next"), [(0, True), (123_456, False), (2**32 + 17, False)])
def test_gather_draws_what_the_generator_draws(shape, dtype, step, store_next):
    case = make_case(shape).in_dtype(dtype)
    case.hyper.seeds.copy_(torch.tensor(LARGE_SEEDS[: case.problem.runs]))
    case.state.step.fill_(step)
    replay = make_replay(case, store_next)
    assert (replay.extra.shape[-1] > 40) != store_next
    case.work.tape.zero_()
    launch_gather(case.problem, case.work, case.state, case.hyper, make_source(replay))
    found, (expected,) = case.work.batch(), replay.sample(case.spec, case.hyper, step + 1, 1)
    for name in ("observations", "actions", "rewards", "next_observations", "terminals"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert expected.observations.abs().sum() > 0
    torch.testing.assert_close(found.noise, expected.noise, rtol=0, atol=16 * torch.finfo(dtype).eps)
    assert int(case.state.step) == step
    for name, width in (
        ("inputs", found.observations.shape[-1] + found.actions.shape[-1]),
        ("noise", case.spec.shapes.act_dim),
    ):
        assert (case.work[name][..., width:] == 0).all()


def test_every_row_of_a_dataset_is_drawn_alike():
    case = make_case("pen, full batch")
    replay = make_replay(case)
    draws = words(case.hyper.seeds, torch.arange(1, 41, device=DEVICE), STREAM_INDEX, 64).flatten(-2)[:, 0]
    expected = (draws * replay.lengths[0]) >> 32
    rows = replay.buffer[1:].view(int(replay.lengths[0]), -1)
    for step in range(3):
        case.state.step.fill_(step)
        launch_gather(case.problem, case.work, case.state, case.hyper, make_source(replay))
        assert torch.equal(
            case.work["inputs"][0, :, : case.spec.shapes.obs_dim], rows[expected[step], : case.spec.shapes.obs_dim]
        )
    counts = torch.bincount(expected.flatten(), minlength=int(replay.lengths[0]))
    assert counts.min() > 0.2 * counts.float().mean()


def meta_by_kernels(case: Case) -> dict[str, torch.Tensor]:
    """Actor and meta stages on the case, by the kernels."""
    case.state.step.add_(1)
    n = float(case.state.step)
    updates = (n, n // case.spec.config.policy_freq, n // case.spec.period)
    betas = (case.spec.config.adam_beta1, case.spec.config.adam_beta2)
    case.work.clock[:6] = torch.tensor([1 - beta**k for k in updates for beta in betas], dtype=torch.float64)
    launch_policy(case.problem, case.work, case.state, case.table, tangent=False)
    launch_actor(case.problem, case.work, case.state, case.table, meta=True)
    launch_weights(
        *(case.problem, case.work, case.spec, actor_plan(case.problem, case.work)),
        *(*tensors(case, "actor").values(), case.table),
        move=False,
        dual=True,
    )
    launch_policy(case.problem, case.work, case.state, case.table, tangent=True)
    decay = case.hyper.alpha_lr_decay.log2()
    launch_outer(case.problem, case.work, case.spec, case.state, case.table, decay)
    return {name: case.work.metrics[METRICS.index(name)] for name in META_METRICS}


def meta_by_twin(case: Case) -> dict[str, torch.Tensor]:
    case.state.step.add_(1)
    step, _ = actor_step(case.spec, case.state, case.hyper, case.batch, with_gradient_q=True)
    metrics = meta_step(case.spec, case.state, case.hyper, case.batch, step)
    return {name: metrics[name] for name in META_METRICS}


STATE = ("rho", "rho_m", "rho_v", "ema_q")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "loss"), [*((shape, 4) for shape in SHAPES), *(("three runs, odd batch", loss) for loss in (1, 2, 3))]
)
def test_outer_loss_and_alpha(shape, dtype, loss):
    case, own, exact = (make_case(shape, loss_function=loss).in_dtype(d) for d in (dtype, dtype, torch.float64))
    found, torch_own, truth = meta_by_kernels(case), meta_by_twin(own), meta_by_twin(exact)
    for name in STATE:
        found[name], torch_own[name], truth[name] = (getattr(c.state, name) for c in (case, own, exact))
    for name, value in truth.items():
        # the largest shift of a cloning error is a difference of nearly equal numbers
        scale = value * truth["bc_sup"] / truth["delta_bc_sup"] if name in ("eq3", "delta_bc_sup") else value
        if dtype == torch.float64:
            assert (found[name] - value).abs().max() <= 1e-11 * scale.abs().max()
        else:  # single numbers, in which PyTorch may be exact by luck
            slack = 1000.0 if "grad" in name or name in ("rho_m", "rho_v") else 16.0
            assert_as_exact_as(found[name], torch_own[name], value, slack, scale)


def test_tied_maxima_share_the_gradient():
    case = make_case("three runs, odd batch").in_dtype(DTYPES[-1])
    work, size = case.work, case.problem.batch
    generator = torch.Generator().manual_seed(3)
    for name in ("q", "bc", "slope_q", "slope_bc"):
        work[name].copy_(torch.rand(work[name].shape, generator=generator))
    work["bc"][0, :, :2], work["bc"][1, :, :2] = 1.75, 0.25  # two samples moved by 1.5, exactly
    work["bc"][0, :, 2], work["bc"][1, :, 2] = 0.25, 1.75  # and one the other way
    work.clock[:] = 0.5
    case.state.step.fill_(case.spec.period)
    decay = case.hyper.alpha_lr_decay.log2()
    rho = case.state.rho.clone()
    launch_outer(case.problem, case.work, case.spec, case.state, case.table, decay)
    along = work["slope_bc"][:, :3]
    eq2 = work.metrics[METRICS.index("eq2")]
    expected = -(along[:, 0] + along[:, 1] - along[:, 2]) / 3 * eq2 * 1.75 * size * torch.sigmoid(rho)
    torch.testing.assert_close(work.metrics[METRICS.index("alpha_grad_eq3")], expected)
    torch.testing.assert_close(work.metrics[METRICS.index("delta_bc_sup")], torch.full_like(expected, 1.5))
