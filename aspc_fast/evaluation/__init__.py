"""Rollouts in today's simulators with D4RL's horizons, rewards and scores. Simulators load when a task is made."""

from __future__ import annotations

from aspc_fast.evaluation.rollout import Episodes, Policy, rollout
from aspc_fast.evaluation.scores import Evaluation, evaluate
from aspc_fast.evaluation.tasks import Task, make_task

__all__ = ["Episodes", "Evaluation", "Policy", "Task", "evaluate", "make_task", "rollout"]
