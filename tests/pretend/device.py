"""A CUDA device that is not there: tensors without memory, captures that are watched, launches that are checked.

Found so: operations that mix devices; reading a value back to the host, new host tensors and copies inside what a CUDA
graph captures; Triton launches with a tensor on the wrong device, an argument missing, unknown or too large, or a grid
that is not legal. Not found: wrong numbers, memory, streams, what a library does inside an operation.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA = torch.device("cuda", 0)
GRID_LIMITS = (2**31 - 1, 65535, 65535)
HOST_READS = ("aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::masked_select")
C10_CUDA, C10_META = 1, 14  # c10::DeviceType


class Fault(Exception):
    """What a real device would refuse, or what would stall it."""


class Capture(TorchDispatchMode):
    """What a CUDA graph records: counts launches and the bytes they read and write; host traffic is a Fault."""

    def __init__(self) -> None:
        super().__init__()
        self.launches, self.bytes = Counter[str](), 0

    @property
    def total(self) -> int:
        """Launches of all kinds."""
        return self.launches.total()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name in HOST_READS:
            raise Fault(f"{func} reads a value back to the host")
        out = func(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)]
        for t in tensors:
            if t.device.type != "cuda":
                raise Fault(f"{func} touches a tensor {tuple(t.shape)} on {t.device}")
        if tensors and not func.is_view and not func._schema.name.startswith(("prim", "aten::empty")):
            self.add(func._schema.name, tensors)
        return out

    def add(self, name: str, tensors: list[Tensor]) -> None:
        """Count a launch that touches these tensors."""
        self.launches[name] += 1
        self.bytes += sum(t.numel() * t.element_size() for t in {id(t): t for t in tensors}.values())


class HostReads(TorchDispatchMode):
    """Outside a capture a program may read the device: it gets 0, as there are no numbers."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name == "aten::_local_scalar_dense":
            return 0 if not args[0].is_floating_point() else 0.0
        return func(*args, **(kwargs or {}))


class Graph:
    """Stands for torch.cuda.CUDAGraph."""

    def __init__(self) -> None:
        self.capture, self.replays = Capture(), 0

    def replay(self) -> None:
        """Counted, and refused for a graph that holds nothing."""
        if not self.capture.total:
            raise Fault("an empty graph is replayed")
        self.replays += 1


class Stream:
    """Stands for torch.cuda.Stream; notes for which streams it waits."""

    made: ClassVar[list[Stream]] = []
    main: ClassVar[Stream]

    def __init__(self, device: Any = None) -> None:
        self.waited_for: list[Any] = []
        Stream.made.append(self)

    def wait_stream(self, other: Any) -> None:
        """Nothing to wait for."""
        self.waited_for.append(other)


Stream.main = Stream()


class Pretend:
    """The device while it is installed: ``graphs`` captured, ``kernels`` launched by name."""

    def __init__(self, mode: FakeTensorMode) -> None:
        self.mode, self.graphs, self.kernels = mode, list[Graph](), Counter[str]()
        self._capture: Capture | None = None

    @contextmanager
    def capturing(self, capture: Capture) -> Iterator[Capture]:
        """Watch what is done inside as a capture is watched."""
        self._capture = capture
        try:
            with capture:
                yield capture
        finally:
            self._capture = None

    def graph(self, graph: Graph) -> AbstractContextManager[Capture]:
        """Stands for torch.cuda.graph."""
        self.graphs.append(graph)
        return self.capturing(graph.capture)

    def launch(self, kernel: Any, args: tuple[Any, ...], grid: Any, kwargs: Mapping[str, Any]) -> None:
        """Stands for a Triton launch."""
        from aspc_fast.kernels.problem import Sizes

        name, known = kernel.fn.__name__, list(kernel.arg_names)
        arguments = dict(zip(known, args, strict=False)) | {k: v for k, v in kwargs.items() if k in known}
        options = {"num_warps", "num_stages", "maxnreg", "enable_fp_fusion", "debug", "num_ctas"}
        if missing := set(known) - set(arguments):
            raise Fault(f"{name}: arguments {sorted(missing)} are missing")
        if unknown := set(kwargs) - set(known) - options:
            raise Fault(f"{name}: {sorted(unknown)} is neither an argument nor a launch option")
        tensors = []
        for key, value in arguments.items():
            if isinstance(value, Tensor):
                if value.device.type != "cuda":
                    raise Fault(f"{name}: {key} is on {value.device}")
                if not value.is_contiguous():
                    raise Fault(f"{name}: {key} has strides {value.stride()}, kernels index rows as contiguous")
                tensors.append(value)
            elif isinstance(value, int) and abs(value) >= 2**31:
                raise Fault(f"{name}: {key} = {value} is no 32-bit number")
            elif not isinstance(value, int | float | str | bool | Sizes):
                raise Fault(f"{name}: {key} is a {type(value).__name__}")
        grid = tuple(grid(arguments) if callable(grid) else grid)
        if not 1 <= len(grid) <= 3 or not all(0 < n <= limit for n, limit in zip(grid, GRID_LIMITS, strict=False)):
            raise Fault(f"{name}: grid {grid}")
        self.kernels[name] += 1
        if self._capture is not None:
            self._capture.add(name, tensors)

    def copy(self, value: Any) -> Any:
        """A structure (state, hyper-parameters, replay store ...) with every tensor on the pretend device."""
        if isinstance(value, Tensor):
            with self.mode:
                return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=CUDA)
        if isinstance(value, dict):
            return {key: self.copy(item) for key, item in value.items()}
        if type(value).__module__.startswith("aspc_fast") and hasattr(value, "__dict__"):
            own = copy.copy(value)
            for name, item in vars(value).items():
                # views of the weights, kept by name, are made anew
                object.__setattr__(own, name, {} if name == "_params" else self.copy(item))
            return own
        return value


@contextmanager
def pretend_cuda() -> Iterator[Pretend]:
    """Install the device."""
    from aspc_fast.kernels.outer import outer_kernel

    pretend = Pretend(FakeTensorMode(allow_non_fake_inputs=True))
    kernel_type = type(outer_kernel)

    def run(self: Any, *args: Any, grid: Any, warmup: bool = False, **kwargs: Any) -> None:
        pretend.launch(self, args, grid, kwargs)

    def get(self: Any, grid: Any) -> Any:
        return lambda *args, **kwargs: pretend.launch(self, args, grid, kwargs)

    replaced: dict[str, Any] = {
        "torch.cuda.Stream": Stream,
        "torch.cuda.CUDAGraph": Graph,
        "torch.cuda.current_stream": lambda device=None: Stream.main,
        "torch.cuda.stream": lambda stream: nullcontext(),
        "torch.cuda.graph": pretend.graph,
        "torch.cuda.synchronize": lambda *args: None,
        "torch.cuda.device": lambda device: nullcontext(),
        "torch.compile": lambda function, **options: function,  # the parts run as they are
        "aspc_fast.kernels.common.INTERPRETED": False,
        "aspc_fast.kernels.common.MIXED": False,
    }
    with ExitStack() as stack:
        stack.enter_context(_indexed_by_nobody())
        for name, stand_in in replaced.items():
            stack.enter_context(patch(name, stand_in))
        stack.enter_context(patch.object(kernel_type, "run", run))
        stack.enter_context(patch.object(kernel_type, "__getitem__", get))
        stack.enter_context(pretend.mode)
        stack.enter_context(HostReads())
        stack.enter_context(torch.no_grad())
        yield pretend


@contextmanager
def _indexed_by_nobody() -> Iterator[None]:
    """A CPU build of torch has no device guard for CUDA, which indexing asks for even of a tensor without memory: lend
    it the one of the device type "meta", which does nothing. A CUDA build needs no help."""
    if torch.version.cuda:
        yield
        return
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    registry = (ctypes.c_void_p * 16).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    before = registry[C10_CUDA]
    registry[C10_CUDA] = registry[C10_META]
    with contextlib.ExitStack() as stack:
        stack.callback(registry.__setitem__, C10_CUDA, before)
        yield
