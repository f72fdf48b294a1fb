"""The weight kernel against gradient, Adam, target update and d theta'/d alpha in plain PyTorch."""

import pytest
import torch

from tests.kernels import interpreter  # noqa: F401  (first: sets the interpreter)

# isort: split
from aspc_fast.kernels.actor import actor_gradients, launch_actor
from aspc_fast.kernels.critic import critic_gradient, launch_critic
from aspc_fast.kernels.policy import launch_policy
from aspc_fast.kernels.problem import METRICS
from aspc_fast.kernels.weights import actor_plan, critic_plan, launch_weights, weights_twin
from tests.kernels.interpreter import DTYPES
from tests.kernels.support import SHAPES, Case, make_case
from tests.kernels.test_passes import judge

# the widest in one precision: its many programs take the interpreter long
CASES = [(s, d) for s in SHAPES for d in DTYPES if d == DTYPES[0] or s != "one layer per launch, full width"]
NAMES = ("params", "m", "v", "target")


def tensors(case: Case, network: str) -> dict[str, torch.Tensor]:
    return dict(zip(NAMES, (getattr(case.state, network + end) for end in ("", "_m", "_v", "_target")), strict=True))


def with_tape_of(case: Case, shape: str, dtype: torch.dtype, network: str) -> Case:
    """The same case in ``dtype`` before the kernel changes it, with a copy of its workspace."""
    other = case.in_dtype(dtype)
    other.work.tape.copy_(case.work.tape)
    return other


def set_clock(case: Case, updates: int) -> None:
    betas = (case.spec.config.adam_beta1, case.spec.config.adam_beta2)
    case.work.clock[:6] = torch.tensor([1 - beta**updates for beta in betas] * 3, dtype=torch.float64)


def apply_twin(case: Case, network: str, updates: int) -> dict[str, torch.Tensor]:
    """The twin on the gradients in the workspace: what the kernel must make of them."""
    state = tensors(case, network)
    axes = (-1, 1, 1) if network == "critic" else (-1, 1)
    lr = getattr(case.hyper, f"{network}_lr").view(axes)
    gradient_q = None
    if network == "critic":
        gradient = critic_gradient(case.problem, case.work)[0]
    else:
        gradient, gradient_q = (actor_gradients(case.problem, case.work, part) for part in (0, 1))
    n = torch.tensor(updates)
    direction = weights_twin(
        case.spec, gradient, *state.values(), lr, case.hyper.tau.view(axes), n, gradient_q=gradient_q
    )
    return state if direction is None else {**state, "direction": direction}


@pytest.mark.parametrize(("shape", "dtype"), CASES)
@pytest.mark.parametrize("network", ["critic", "actor"])
def test_weights(shape, dtype, network):
    case, updates = make_case(shape).in_dtype(dtype), 7
    set_clock(case, updates)
    if network == "critic":
        launch_critic(case.problem, case.work, case.state.critic, case.table)
        plan = critic_plan(case.problem, case.work)
    else:
        launch_policy(case.problem, case.work, case.state, case.table, tangent=False)
        launch_actor(case.problem, case.work, case.state, case.table, meta=True)
        plan = actor_plan(case.problem, case.work)
    exact, plain = (with_tape_of(case, shape, d, network) for d in (torch.float64, dtype))
    launch_weights(
        *(case.problem, case.work, case.spec, plan, *tensors(case, network).values(), case.table),
        move=True,
        dual=network == "actor",
    )
    found = tensors(case, network)
    if network == "actor":
        found["direction"] = case.work.direction
    own, truth = (apply_twin(c, network, updates) for c in (plain, exact))
    if network == "actor":  # where v is nearly 0, the rounding of a sum of much larger terms is divided by its root
        judge(dtype, *({"direction": x.pop("direction")} for x in (found, own, truth)), slack=256.0)
    judge(dtype, found, own, truth, slack=8.0)  # v squares the gradient: its rounding counts twice


@pytest.mark.parametrize("network", ["critic", "actor"])
def test_padding_stays_zero_and_targets_stay_put_unless_asked(network):
    case = make_case("GPU tiles, odd batch")
    before = {name: tensor.clone() for name, tensor in tensors(case, network).items()}
    set_clock(case, 1)
    case.work.tape.normal_(generator=torch.Generator(case.work.tape.device).manual_seed(0))
    plan = (critic_plan if network == "critic" else actor_plan)(case.problem, case.work)
    launch_weights(
        *(case.problem, case.work, case.spec, plan, *tensors(case, network).values(), case.table), move=False
    )
    after = tensors(case, network)
    layout = getattr(case.spec.shapes, network)
    used = sum(view[0].numel() if network == "actor" else view[0, 0].numel() for view in layout.views(after["m"]))
    assert used < layout.size
    assert torch.equal(after["target"], before["target"])
    for name in ("params", "m", "v"):
        assert (after[name][..., used:] == 0).all()
        assert (after[name][..., :used] != before[name][..., :used]).float().mean() > 0.99


def test_units_without_a_gradient_yet_do_not_move_with_alpha():
    case = make_case("three runs, odd batch")
    for tensor in (case.state.actor_m, case.state.actor_v):
        tensor.zero_()
    set_clock(case, 1)
    launch_policy(case.problem, case.work, case.state, case.table, tangent=False)
    launch_actor(case.problem, case.work, case.state, case.table, meta=True)
    dead = slice(3, 6)
    case.work["d_actor"][:, 0, ..., dead] = 0  # those units' whole gradient vanishes, gQ does not
    assert (case.work["d_actor"][:, 1, 1, :, dead] != 0).any()
    plan = actor_plan(case.problem, case.work)
    launch_weights(
        *(case.problem, case.work, case.spec, plan, *tensors(case, "actor").values(), case.table), move=True, dual=True
    )
    direction = case.spec.shapes.actor_params(case.work.direction)
    assert torch.isfinite(case.work.direction).all()
    assert (direction.hidden[1].w[..., dead] == 0).all()
    assert (direction.hidden[1].w != 0).any()


def test_losses_are_recorded_and_summed():
    case = make_case("three runs, odd batch")
    set_clock(case, 1)
    launch_critic(case.problem, case.work, case.state.critic, case.table)
    _, loss, q1_mean = critic_gradient(case.problem, case.work)
    plan = critic_plan(case.problem, case.work)
    for _ in range(2):  # the sums take in every launch
        launch_weights(
            *(case.problem, case.work, case.spec, plan, *tensors(case, "critic").values(), case.table), move=False
        )
    for name, value in {"critic_loss": loss, "q1_mean": q1_mean}.items():
        row = METRICS.index(name)
        torch.testing.assert_close(case.work.metrics[row], value)
        torch.testing.assert_close(case.work.sums[row], 2 * value.double(), rtol=1e-5, atol=1e-6)
