"""What must hold on a CUDA device; imports only what a bare GPU machine has."""

from pathlib import Path

import pytest
import torch

from aspc_fast import reference
from aspc_fast.agent.state import Batch
from aspc_fast.config import AgentConfig
from aspc_fast.engine import trial_memory
from aspc_fast.engine.base import Learners
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.engine.select import make_engine
from aspc_fast.engine.trial import candidates, find_on_gpu
from aspc_fast.results.checkpoint import load_checkpoint
from aspc_fast.run.loop import Interrupted
from aspc_fast.run.population import RunSpec, build_population
from aspc_fast.run.train import TrainSettings, train
from aspc_fast.tools.trace import read_trace
from aspc_fast.tools.verify import verify
from tests.helpers import golden_traces, record_trace, toy_data

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CONFIG = AgentConfig(hidden_dim=64, batch_size=64, alpha_freq=5)


def ieee(engine: str):
    """A factory of the engine without tf32, which is too coarse for a proof."""
    return lambda learners: make_engine(engine, learners, precision="fp32")


def population(device: str, engine: str, runs: int = 2, dtype: torch.dtype = torch.float64):
    datasets = [toy_data(rows=500), toy_data(rows=300, obs_dim=9, act_dim=3, seed=1)]
    specs = [RunSpec(i % 2, CONFIG, i) for i in range(runs)]
    return build_population(datasets, specs, device=device, engine=engine, dtype=dtype)


@pytest.mark.parametrize("engine", ["eager", "compiled", "fused"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_reference_trace_on_cuda(tmp_path: Path, engine, dtype):
    path = record_trace(tmp_path / "t.npz", reference.Config(alpha_freq=2), max_action=1.5)
    checks = verify(read_trace(path), dtype, ieee(engine), "cuda")
    assert not [(c.quantity, c.deviation) for c in checks if not c.passed]


@pytest.mark.parametrize("path", golden_traces(), ids=lambda path: path.stem)
@pytest.mark.parametrize("engine", ["eager", "compiled", "fused"])
def test_golden_traces_on_cuda(engine, path):
    assert not [c for c in verify(read_trace(path), torch.float64, ieee(engine), "cuda") if not c.passed]


def test_cuda_draws_the_numbers_that_the_cpu_draws():
    batches: dict[str, Batch] = {}
    for device in ("cpu", "cuda"):
        made = population(device, "eager")
        batches[device] = next(iter(made.engine.replay.sample(made.spec, made.engine.hyper, 7, 1)))
    for cpu, cuda in zip(batches["cpu"], batches["cuda"], strict=True):
        torch.testing.assert_close(cuda.cpu(), cpu, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("fast", ["compiled", "fused"])
@pytest.mark.parametrize("steps", [30, 37])
def test_graph_replays_equal_eager_steps(steps, fast):
    """37 steps: whole periods and a remainder; then 13 more from the middle of a period."""
    finals = []
    for engine in ("eager", fast):
        made, means = population("cuda", engine), MetricMeans()
        made.engine.advance(steps, means)
        made.engine.advance(13, means)
        finals.append((made.state, means.take()))
    (eager, eager_means), (graph, graph_means) = finals
    assert int(graph.step) == steps + 13
    for name, tensor in eager.tensors().items():
        torch.testing.assert_close(getattr(graph, name), tensor, rtol=1e-8, atol=1e-10)
    assert eager_means.keys() == graph_means.keys()
    for name, values in eager_means.items():
        assert graph_means[name] == pytest.approx(values, rel=1e-7, abs=1e-10)


def test_branches_train_as_the_whole_population():
    options = candidates(39, 90, "tf32")
    finals = []
    for name in [n for n in options if n == "fused, throughput" or "branches" in n]:
        made = population("cuda", "eager", runs=20, dtype=torch.float32)
        engine = options[name](Learners(made.spec, made.state, made.engine.hyper, made.engine.replay))
        for steps in (30, 13, 60):
            engine.advance(steps, MetricMeans())
        finals.append(made.state)
    assert len(finals) == 3
    for other in finals[1:]:
        assert all(torch.equal(tensor, getattr(other, name)) for name, tensor in finals[0].tensors().items())


@pytest.mark.parametrize("engine", ["eager", "compiled", "fused"])
def test_resume_is_bit_for_bit(tmp_path: Path, engine):
    settings = TrainSettings(steps=300, eval_every=0, log_every=100, checkpoint_every=100, device="cuda", engine=engine)
    train(toy_data(), CONFIG, settings, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(toy_data(), CONFIG, settings, out=tmp_path / "cut", stop=lambda: True)
    train(toy_data(), CONFIG, settings, out=tmp_path / "cut", resume=True)
    whole, cut = (load_checkpoint(tmp_path / name / "checkpoints").tensors for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_the_trial_finds_every_candidate_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision):
    """Full width, so that matrix products take the units that training takes; and the choice is remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = AgentConfig(batch_size=64, alpha_freq=2)
    made = build_population([toy_data(rows=500)], [RunSpec(0, config, i) for i in range(4)], device="cuda")
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    learners = Learners(made.spec, made.state, made.engine.hyper, made.engine.replay)
    found, _ = find_on_gpu(learners, precision)
    assert not [o for o in found.outcomes if o.verdict in ("wrong", "failed")]
    assert {"eager", "compiled", "fused, latency"} <= {o.name for o in found.outcomes if o.verdict == "right"}
    assert find_on_gpu(learners, precision)[0] == found
    assert trial_memory.recall_all(trial_memory.folder()) == [found]
