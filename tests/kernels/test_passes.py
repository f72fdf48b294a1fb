"""Target, critic, policy and actor passes against their twins: float64 to rounding, float32 by the error rule."""

from dataclasses import replace

import pytest
import torch

from tests.kernels import interpreter  # noqa: F401  (first: sets the interpreter)

# isort: split
from aspc_fast.agent.td3bc import target_values
from aspc_fast.kernels.actor import actor_gradients, actor_twin, launch_actor
from aspc_fast.kernels.critic import critic_gradient, critic_twin, launch_critic
from aspc_fast.kernels.paired import launch_paired
from aspc_fast.kernels.policy import launch_policy, policy_twin
from aspc_fast.kernels.problem import METRICS
from aspc_fast.kernels.target import launch_target, td_target_twin
from tests.kernels.interpreter import DTYPES, ON_GPU
from tests.kernels.support import SHAPES, Case, assert_as_exact_as, assert_same, make_case

both = pytest.mark.parametrize("dtype", DTYPES)
shapes = pytest.mark.parametrize("shape", SHAPES)
# the plain critic (two layers, no LayerNorm) on some of the shapes
kinds = pytest.mark.parametrize(
    ("shape", "critic"), [*((s, "robust") for s in SHAPES), *((s, "plain") for s in SHAPES if "odd" in s)]
)


def log2_betas(case: Case) -> torch.Tensor:
    betas = torch.tensor([case.spec.config.adam_beta1, case.spec.config.adam_beta2], dtype=torch.float64)
    return betas.log2().to(case.state.rho.device)


def judge(dtype, kernel, own, truth, slack=4.0):
    """Compare dictionaries of tensors."""
    for name, value in truth.items():
        if dtype == torch.float64:
            assert_same(kernel[name], value)
        else:
            assert_as_exact_as(kernel[name], own[name], value, slack)


@both
@shapes
def test_target(shape, dtype):
    case, exact = make_case(shape).in_dtype(dtype), make_case(shape).in_dtype(torch.float64)
    launch_target(case.problem, case.work, case.spec, case.state, case.table, log2_betas(case))
    assert int(case.state.step) == int(exact.state.step) + 1
    truth, own = (target_values(c.spec, c.state, c.hyper, c.batch) for c in (exact, case))
    judge(dtype, {"y": td_target_twin(case.work, case.hyper)}, {"y": own}, {"y": truth})
    width = case.problem.shapes.act_dim
    for run, true in enumerate(case.hyper.true_act_dim.int().tolist()):  # noise of padded entries is not used
        assert (case.work["next_actions"][run, ..., true:] == 0).all()
        assert width - true == run
    n = float(case.state.step)
    corrections = [
        1 - beta**k
        for k in (n, n // 2, n // case.spec.period)
        for beta in (case.spec.config.adam_beta1, case.spec.config.adam_beta2)
    ]
    torch.testing.assert_close(case.work.clock[:6].cpu(), torch.tensor(corrections, dtype=torch.float64))


@both
@kinds
def test_critic(shape, dtype, critic):
    case, exact = (make_case(shape, critic=critic).in_dtype(d) for d in (dtype, torch.float64))
    q_target = torch.randn(case.work["q_target"].shape, generator=torch.Generator().manual_seed(1))
    for c in (case, exact):
        c.work["q_target"].copy_(q_target)
    launch_critic(case.problem, case.work, case.state.critic, case.table)
    names = ("gradient", "loss", "q1_mean")

    def twin(c: Case) -> dict[str, torch.Tensor]:
        y = td_target_twin(c.work, c.hyper)
        return dict(zip(names, critic_twin(c.spec, c.state, c.batch, y), strict=True))

    found = dict(zip(names, critic_gradient(case.problem, case.work), strict=True))
    judge(dtype, found, twin(case), twin(exact))


PAIRED = ("GPU tiles, odd batch", "three runs, odd batch", "antmaze, full width")


@both
@pytest.mark.parametrize(("shape", "critic"), [*((s, "robust") for s in PAIRED), (PAIRED[0], "plain")])
def test_paired_launch(shape, dtype, critic):
    """Both passes cut and joined otherwise: what they leave is the same, and as exact as PyTorch's."""
    case, apart, exact = (make_case(shape, critic=critic).in_dtype(d) for d in (dtype, dtype, torch.float64))
    problem = replace(case.problem, tiles=replace(case.problem.tiles, paired=True))
    launch_paired(problem, case.work, case.spec, case.state, case.table, log2_betas(case))
    launch_critic(problem, case.work, case.state.critic, case.table)
    launch_target(apart.problem, apart.work, apart.spec, apart.state, apart.table, log2_betas(apart))
    launch_critic(apart.problem, apart.work, apart.state.critic, apart.table)

    def twin(c: Case) -> dict[str, torch.Tensor]:
        y = target_values(c.spec, c.state, c.hyper, c.batch)
        gradient, loss, q1_mean = critic_twin(c.spec, c.state, c.batch, y)
        return {"y": y, "gradient": gradient, "loss": loss, "q1_mean": q1_mean}

    found = dict(zip(("gradient", "loss", "q1_mean"), critic_gradient(problem, case.work), strict=True))
    judge(dtype, found | {"y": td_target_twin(case.work, case.hyper)}, twin(apart), twin(exact), slack=16.0)
    assert int(case.state.step) == int(apart.state.step) == int(exact.state.step) + 1
    if not ON_GPU:  # another kernel, compiled for itself, may sum in another order
        for name in ("outputs", "activated", "stats", "d_hidden", "critic_sums", "q_target", "next_actions"):
            assert torch.equal(case.work[name], apart.work[name]), name
        assert torch.equal(case.work.clock, apart.work.clock)


@both
@kinds
def test_policy_and_its_motion(shape, dtype, critic):
    case, exact = (make_case(shape, critic=critic).in_dtype(d) for d in (dtype, torch.float64))
    direction = torch.randn(case.work.direction.shape, generator=torch.Generator().manual_seed(2)) * 1e-3
    case.work.direction.copy_(direction)
    launch_policy(case.problem, case.work, case.state, case.table, tangent=True)
    width, work = case.problem.shapes.act_dim, case.work
    found = {"q": work["q"][1], "bc": work["bc"][1], "slope_q": work["slope_q"], "slope_bc": work["slope_bc"]}
    found |= {"actions": work["actions"][..., :width], "dq": work["dq"][..., :width]}
    own, truth = (policy_twin(c.spec, c.state, c.hyper, c.batch, direction.to(c.state.actor)) for c in (case, exact))
    judge(dtype, found, own, truth)
    launch_policy(case.problem, case.work, case.state, case.table, tangent=False)
    # not bit for bit the same: another kernel, compiled for itself, may sum in another order
    judge(dtype, {"q": work["q"][0]}, own, {"q": truth["q"]})
    assert (work["actions"][..., width:] == 0).all()
    assert (work["dq"][..., width:] == 0).all()


@both
@shapes
def test_actor_backward(shape, dtype):
    case, exact = make_case(shape).in_dtype(dtype), make_case(shape).in_dtype(torch.float64)
    launch_policy(case.problem, case.work, case.state, case.table, tangent=False)
    launch_actor(case.problem, case.work, case.state, case.table, meta=True)

    def twin(c: Case) -> dict[str, torch.Tensor]:
        gradient, gradient_q, metrics = actor_twin(c.spec, c.state, c.hyper, c.batch)
        return {"gradient": gradient, "gradient_q": gradient_q, **metrics}

    own, truth = twin(case), twin(exact)
    found = {name: case.work.metrics[METRICS.index(name)] for name in truth if name in METRICS}
    found |= {name: actor_gradients(case.problem, case.work, i) for i, name in enumerate(("gradient", "gradient_q"))}
    # a mean of a few numbers may come out exact in PyTorch by luck
    judge(dtype, found, own, truth, slack=16.0)
    assert torch.equal(case.work.sums.to(dtype), case.work.metrics)


def test_bf16_rounds_the_operands_only():
    case, exact = make_case("GPU tiles, odd batch"), make_case("GPU tiles, odd batch").in_dtype(torch.float64)
    problem = replace(case.problem, precision="bf16")
    launch_critic(problem, case.work, case.state.critic, case.table)
    first = exact.state.params(exact.spec, "critic").hidden[0]
    inputs = torch.cat((exact.batch.observations, exact.batch.actions), -1).unsqueeze(1)
    truth = (inputs @ first.w + first.b.unsqueeze(-2)).relu()
    deviation = ((case.work["activated"][:, :, 0].double() - truth).norm() / truth.norm()).item()
    assert 2**-11 < deviation < 2**-7  # eight bits, rounded or cut off


def test_a_run_that_diverged_is_seen_and_disturbs_no_other():
    case = make_case("GPU tiles, odd batch")
    healthy = make_case("GPU tiles, odd batch")
    case.state.critic[1, 0, 5] = torch.nan
    for c in (case, healthy):
        launch_critic(c.problem, c.work, c.state.critic, c.table)
    gradient, loss, _ = critic_gradient(case.problem, case.work)
    assert torch.isnan(loss).tolist() == [False, True, False]
    assert torch.isnan(gradient).any(-1).any(-1).tolist() == [False, True, False]
    assert torch.equal(gradient[0], critic_gradient(healthy.problem, healthy.work)[0][0])
