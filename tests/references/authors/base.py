"""Run the authors' code as it is, and see what it computes."""

from __future__ import annotations

import contextlib
import sys
import types
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import torch

from tests.references.traces import weights_of

Named = dict[str, Any]
Seen = dict[str, list[Named]]  # local variables by function, one entry for each call
EMPTY = ("d4rl", "gym", "wandb", "pyrallis", "core.network.network_utils", "core.network.network_bodies")
EMPTY += ("core.utils.torch_utils",)
WIDTHS = {"256": 32, "750": 48}  # theirs -> these files'
STEPS, BATCH, OBS, ACT = 20, 16, 7, 3
TD3 = {"discount": 0.99, "tau": 0.005, "policy_noise": 0.2, "noise_clip": 0.5, "policy_freq": 2, "alpha": 2.5}


def load(folder: Path, files: tuple[str, ...], widths: dict[str, int]) -> types.ModuleType:
    """Their modules; the last of ``files`` is returned."""
    modules: dict[str, Any] = {name: mock.MagicMock(__name__=name) for name in EMPTY}
    modules["pyrallis"].wrap = lambda: lambda function: function
    names = [file.removesuffix(".py").replace("/", ".") for file in files]
    for name in (*EMPTY, *names):
        for parent in (".".join(name.split(".")[:n]) for n in range(1, name.count(".") + 1)):
            modules.setdefault(parent, types.ModuleType(parent)).__path__ = []
    sys.modules |= modules
    for name, file in zip(names, files, strict=True):
        source = (folder / file).read_text(encoding="utf-8")
        for theirs, ours in widths.items():
            source = source.replace(theirs, str(ours))
        sys.modules[name] = module = types.ModuleType(name)
        exec(compile(source, f"authors:{file}", "exec"), module.__dict__)
    return module


@contextlib.contextmanager
def watched() -> Iterator[Seen]:
    """Local variables of the authors' functions as they return."""
    seen: Seen = defaultdict(list)

    def look(frame: types.FrameType, event: str, _: Any) -> None:
        if event == "return" and frame.f_code.co_filename.startswith("authors:"):
            seen[frame.f_code.co_qualname].append(dict(frame.f_locals))

    sys.setprofile(look)
    try:
        yield seen
    finally:
        sys.setprofile(None)


class Author(ABC):
    """One algorithm of theirs, made from its module and a trace's settings."""

    files: ClassVar[tuple[str, ...]]
    draws: ClassVar[Named] = {"noise_raw": (1,)}  # in the order of use -> samples, and size in actions' sizes
    hp: ClassVar[Named]
    meta: ClassVar[Named] = {}

    @abstractmethod
    def __init__(self, module: Any, meta: Named) -> None: ...

    @abstractmethod
    def weights(self, targets: bool = True) -> dict[str, torch.Tensor]:
        """Copies by name; without targets those that a trace begins with."""

    @abstractmethod
    def start(self, weights: dict[str, torch.Tensor]) -> None:
        """Begin with these; targets are copies."""

    @abstractmethod
    def step(self, batch: dict[str, torch.Tensor]) -> Named:
        """One update; what it computed, as numbers."""


class ModulesAuthor(Author):
    """A trainer of PyTorch modules: subclasses make it and read its outputs."""

    targets: ClassVar[Named]  # networks -> their targets, or None

    def __init__(self, module: Any, meta: Named) -> None:
        self.trainer = self.make(module, meta["hp"], meta)

    @abstractmethod
    def make(self, m: Any, hp: Named, meta: Named) -> Any:
        """Their trainer."""

    @abstractmethod
    def outputs(self, seen: Seen) -> Named:
        """Of the step that was seen: tensors, whose means are meant, or numbers."""

    def weights(self, targets: bool = True) -> dict[str, torch.Tensor]:
        return weights_of(self.trainer, (*self.targets, *(t for t in self.targets.values() if t and targets)))

    def start(self, weights: dict[str, torch.Tensor]) -> None:
        for net, target in self.targets.items():
            own = {name.split("/", 1)[1]: value for name, value in weights.items() if name.startswith(f"{net}/")}
            for name in (net, target) if target else (net,):
                getattr(self.trainer, name).load_state_dict(own)

    def step(self, batch: dict[str, torch.Tensor]) -> Named:
        draws = [batch[name] for name in self.draws]

        def draw(*_: Any, **__: Any) -> torch.Tensor:
            return draws.pop(0)

        with (
            mock.patch.object(torch, "randn_like", draw),
            mock.patch("torch.distributions.normal._standard_normal", draw),
            mock.patch.object(torch.Tensor, "uniform_", draw),
            watched() as seen,
        ):
            self.train([batch[name] for name in ("state", "action", "reward", "next_state", "done")])
        return {name: mean(value) for name, value in self.outputs(seen).items()}

    def train(self, batch: list[torch.Tensor]) -> None:
        self.trainer.train(batch)


def mean(value: Any) -> float:
    return float(torch.as_tensor(value).detach().double().mean())


def turned(w: Any) -> Any:
    """A matrix the other way round: theirs are [in, out], the files' [out, in]."""
    return w.T if w.ndim == 2 else w
