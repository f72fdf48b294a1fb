"""The kernel launches of each kind of training step, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from aspc_fast.agent.algorithm import Metrics
from aspc_fast.engine.base import Learners
from aspc_fast.engine.kinds import Kind
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.kernels.actor import launch_actor
from aspc_fast.kernels.critic import launch_critic
from aspc_fast.kernels.gather import launch_gather, make_source
from aspc_fast.kernels.outer import launch_outer
from aspc_fast.kernels.paired import launch_paired
from aspc_fast.kernels.policy import launch_policy
from aspc_fast.kernels.problem import (
    ACTOR_METRICS,
    CRITIC_METRICS,
    META_METRICS,
    METRICS,
    Problem,
    Workspace,
    hyper_table,
)
from aspc_fast.kernels.target import launch_target
from aspc_fast.kernels.weights import actor_plan, critic_plan, launch_weights

LAUNCHES: dict[str, dict[Kind, int]] = {  # kernel launches per training step with the robust critic, a test counts
    "latency": {"critic": 4, "actor": 7, "meta": 9},
    "throughput": {"critic": 9, "actor": 16, "meta": 23},
}


class Launch(NamedTuple):
    """A pass: the stage it belongs to (see fused.STAGES), what it does, and the call that makes its kernel launches:
    one in the latency shape."""

    stage: str
    name: str
    call: Callable[[], None]


def run(launches: Sequence[Launch]) -> None:
    """Make the launches, in order."""
    for launch in launches:
        launch.call()


def capture(launches: Sequence[Launch]) -> torch.cuda.CUDAGraph:
    """The launches as a CUDA graph. They are made once before, on a side stream, since loading code is not allowed
    during a capture: what they change is changed once."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run(launches)
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run(launches)
    return graph


class Program:
    """Launches that train ``learners`` in place, on whatever device its tensors are. How many: see LAUNCHES."""

    def __init__(self, learners: Learners, problem: Problem) -> None:
        spec, state, hyper, replay = learners
        self.spec, self.problem, self.state, self.hyper = spec, problem, state, hyper
        dtype, device = state.actor.dtype, state.actor.device
        self.work = Workspace(problem, dtype, device)
        self.table = hyper_table(hyper, dtype)
        betas = torch.tensor([spec.config.adam_beta1, spec.config.adam_beta2], dtype=torch.float64)
        self._log2_betas = betas.log2().to(device)
        self._log2_decay = (
            hyper.tensors().get("alpha_lr_decay", torch.ones_like(hyper.discount)).double().log2().to(device)
        )
        self._critic_plan, self._actor_plan = critic_plan(problem, self.work), actor_plan(problem, self.work)
        self._source = make_source(replay) if replay is not None else None

    def launches(self, kind: Kind, *, sample: bool = True, move_targets: bool = True) -> list[Launch]:
        """The step's launches in order. Targets move in the epilogue of the weight kernels of actor and meta steps (no
        later launch of a step reads them), unless ``move_targets`` is False. ``sample``: draw the batch first."""
        meta, move = kind == "meta", kind != "critic" and move_targets
        first = "target pass, critics forward" if self.problem.tiles.paired else "target pass"
        steps = [
            Launch("target", first, self._target),
            Launch(
                "critic", "critic pass", lambda: launch_critic(self.problem, self.work, self.state.critic, self.table)
            ),
            Launch("critic", "critic weights", lambda: self._critic_weights(move)),
        ]
        if sample:
            steps.insert(0, Launch("sample", "gather", self._gather))
        if kind != "critic":
            steps += [
                Launch("actor", "policy pass", lambda: self._policy(False)),
                Launch("actor", "actor backward", lambda: self._actor(meta)),
                Launch("actor", "actor weights", lambda: self._actor_weights(move, meta)),
            ]
        if meta:
            steps += [
                Launch("meta", "policy pass at theta'", lambda: self._policy(True)),
                Launch("meta", "outer loss and alpha", self._outer),
            ]
        return steps

    def metrics(self, kind: Kind, stages: Sequence[str]) -> Metrics:
        """Metrics [R] of the last step, which was of this kind, as far as ``stages`` of it ran."""
        names: list[str] = [*CRITIC_METRICS] if "critic" in stages else []
        if kind != "critic":
            names += ACTOR_METRICS if "actor" in stages else ()
            names += META_METRICS if kind == "meta" and "meta" in stages else ()
            names += ("alpha_after",) if "meta" in stages else ()
        return {name: self.work.metrics[METRICS.index(name)].clone() for name in names}

    def add_sums(self, means: MetricMeans, kinds: Sequence[Kind]) -> None:
        """Hand the sums of the steps of these kinds to ``means``."""
        actor_steps, meta_steps = sum(kind != "critic" for kind in kinds), sum(kind == "meta" for kind in kinds)
        groups = (
            (CRITIC_METRICS, len(kinds)),
            ((*ACTOR_METRICS, "alpha_after"), actor_steps),
            (META_METRICS, meta_steps),
        )
        for names, count in groups:
            if count:
                first = METRICS.index(names[0])
                means.add_sums(names, self.work.sums[first : first + len(names)], count)

    def _gather(self) -> None:
        assert self._source is not None, "sampling needs a replay store"
        launch_gather(self.problem, self.work, self.state, self.hyper, self._source)

    def _target(self) -> None:
        launch = launch_paired if self.problem.tiles.paired else launch_target
        launch(self.problem, self.work, self.spec, self.state, self.table, self._log2_betas)

    def _critic_weights(self, move: bool) -> None:
        s = self.state
        launch_weights(
            *(self.problem, self.work, self.spec, self._critic_plan),
            *(s.critic, s.critic_m, s.critic_v, s.critic_target, self.table),
            move=move,
        )

    def _policy(self, tangent: bool) -> None:
        launch_policy(self.problem, self.work, self.state, self.table, tangent)

    def _actor(self, meta: bool) -> None:
        launch_actor(self.problem, self.work, self.state, self.table, meta)

    def _actor_weights(self, move: bool, dual: bool) -> None:
        s = self.state
        launch_weights(
            *(self.problem, self.work, self.spec, self._actor_plan),
            *(s.actor, s.actor_m, s.actor_v, s.actor_target, self.table),
            move=move,
            dual=dual,
        )

    def _outer(self) -> None:
        launch_outer(self.problem, self.work, self.spec, self.state, self.table, self._log2_decay)
