"""The steps that hand-written engines know: those of ASPC and TD3+BC.

An algorithm's step consists of parts. A kind of step is what these engines have for a step's parts together; a stage is
where the fused engine's step can be stopped (``fused.STAGES``).
"""

from __future__ import annotations

from typing import Literal

from aspc_fast.agent.state import Spec
from aspc_fast.errors import UserError

Kind = Literal["critic", "actor", "meta"]
ENGINES = ("native", "fused")
ALGORITHMS = ("aspc", "td3bc")
_KINDS: dict[tuple[str, ...], Kind] = {
    ("critics",): "critic",
    ("critics", "policy"): "actor",
    ("critics", "policy and alpha"): "meta",
}


def step_kind(spec: Spec, step: int) -> Kind:
    """What training step ``step`` (1, 2, ...) updates: critics; critics and actor; critics, actor and alpha."""
    return _KINDS[spec.parts(step)]


def check_algorithm(engine: str, spec: Spec) -> None:
    """UserError unless ``engine`` has kernels for the algorithm."""
    if spec.config.algo not in ALGORITHMS:
        known, algo = " and ".join(ALGORITHMS), spec.config.algo
        raise UserError(f"engine {engine} has kernels for {known}, not for {algo}; use --engine compiled")
