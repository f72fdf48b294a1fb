"""alpha on a line: what it is at each step, that it is all that differs from TD3+BC, and that no kernel takes it."""

import pytest
import torch

from aspc_fast.agent.state import inverse_softplus
from aspc_fast.config import AgentConfig
from aspc_fast.engine import select
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.errors import UserError
from aspc_fast.run.population import RunSpec, build_population
from tests.helpers import toy_data

SMALL = {"hidden_dim": 16, "batch_size": 16, "critic": "robust"}


def built(dtype=torch.float64, engine="eager", **changes):
    configs = [AgentConfig(**(SMALL | {"algo": "td3bc_linear"} | changes))]
    return build_population([toy_data()], [RunSpec(0, c, 3) for c in configs], dtype=dtype, engine=engine)


def alphas(made, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        means = MetricMeans()
        made.engine.advance(1, means)
        found.append(means.take().get("alpha_used", [None])[0])
    return found


@pytest.mark.parametrize(("start", "end"), [(2.0, 10.0), (2.5, 0.1)])
def test_alpha_runs_from_its_first_to_its_last_value_and_stays(start, end):
    found = alphas(built(alpha=start, alpha_end=end, alpha_horizon=8), 12)
    assert found[::2] == [None] * 6  # no actor update in these steps
    shares = [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert found[1::2] == pytest.approx([start + (end - start) * share for share in shares], rel=1e-12)


def test_a_step_is_td3bc_s_with_that_alpha():
    linear = built(alpha=2.0, alpha_end=4.0, alpha_horizon=10)
    plain = built(algo="td3bc", alpha=1.0)
    assert torch.equal(linear.state.actor, plain.state.actor)
    for t in range(1, 9):
        plain.state.rho.fill_(inverse_softplus(2.0 + 2.0 * t / 10))
        for made in (linear, plain):
            made.engine.advance(1, MetricMeans())
    torch.testing.assert_close(linear.state.actor, plain.state.actor, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(linear.state.critic_target, plain.state.critic_target, rtol=1e-12, atol=1e-14)
    assert not torch.equal(plain.state.actor, built().state.actor)


def test_engines_with_kernels_refuse_it_and_auto_never_takes_them(monkeypatch):
    with pytest.raises(UserError, match="has kernels for aspc and td3bc, not for td3bc_linear"):
        built(dtype=torch.float32, engine="native")
    monkeypatch.setattr(select, "works_here", lambda: True)
    million = 10**9
    assert select.resolve_engine("auto", "cpu", million, "td3bc") == "native"
    assert select.resolve_engine("auto", "cpu", million, "td3bc_linear") != "native"
    assert select.resolve_engine("auto", "cuda", million, "td3bc_linear") == "compiled"
