"""A copy of the learning state that stays as it is while training goes on."""

from __future__ import annotations

import torch
from torch import Tensor

from aspc_fast.agent.state import AgentState
from aspc_fast.results.checkpoint import state_tensors


class Snapshot:
    """Copies of the state on its own device, in memory that is kept from one copy to the next.

    Where the device has no room for a second state, the copy goes to the host: slower, and training waits for it.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def take(self, state: AgentState) -> dict[str, Tensor]:
        """The state now, by the names it has in a checkpoint; overwritten by the next call."""
        now = state_tensors(state)
        if not self._kept:
            try:
                self._kept = {name: torch.empty_like(tensor) for name, tensor in now.items()}
            except torch.OutOfMemoryError:
                self._kept = {name: torch.empty_like(tensor, device="cpu") for name, tensor in now.items()}
        for name, tensor in now.items():
            self._kept[name].copy_(tensor)
        if state.device.type == "cuda":
            torch.cuda.current_stream(state.device).synchronize()  # another thread reads it next
        return dict(self._kept)
