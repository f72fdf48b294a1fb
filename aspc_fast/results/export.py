"""A trained policy as one file for programs that know nothing of this package: ONNX or safetensors.

ONNX takes raw observations float32 [n, obs_dim] and gives actions float32 [n, act_dim] in +-max_action; n is free and
normalisation is inside. A safetensors file holds the weights under plain names, ``mean`` and ``std``. What the policy
was trained on stands in the file's metadata as the JSON text ``aspc_fast`` (ONNX: metadata_props; safetensors:
``__metadata__``).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from aspc_fast import __version__
from aspc_fast.agent.layout import LAYER_NORM_EPS, MLP, Dims
from aspc_fast.data.normaliser import Normaliser
from aspc_fast.errors import UserError
from aspc_fast.files import replacing
from aspc_fast.results.load import LoadedRun, load_run
from aspc_fast.results.policy import Policy

KEY, FORMAT_VERSION = "aspc_fast", 1
SUFFIXES = {"onnx": ".onnx", "safetensors": ".safetensors"}
_OPSET, _IR_VERSION = 13, 8  # old enough for every runtime of the last years; the graph needs nothing newer
_NORM_OPSET = 17  # but LayerNormalization


def export(source: Path, kind: str, out: Path | None = None, run: int | None = None) -> Path:
    """Write the last checkpoint's policy of a results folder to ``out`` (default: policy.SUFFIX there) atomically.

    kind: onnx or safetensors. run: which run of a sweep's folder. Returns the path written. Raises
    UserError: an unknown kind, no run there, a path that cannot be written, or the package onnx missing.
    """
    if kind not in SUFFIXES:
        raise UserError(f"unknown format {kind!r}: it is one of {', '.join(SUFFIXES)}")
    loaded = load_any(source, run)
    path = out or default_path(source, run, SUFFIXES[kind])
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file with --out")
    content = _WRITERS[kind](loaded)
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None
    return path


def default_path(source: Path, run: int | None, suffix: str) -> Path:
    """policy.SUFFIX in the results folder, policy-run-N.SUFFIX in a sweep's; an exported file's own name beside it."""
    if source.is_dir():
        return source / f"policy{'' if run is None else f'-run-{run}'}{suffix}"
    return source.with_suffix(suffix)


def load_any(source: Path, run: int | None = None) -> LoadedRun:
    """A results folder's last checkpoint (of run ``run`` in a sweep's), or an exported safetensors file. UserError."""
    if source.is_dir():
        return load_run(source, run)
    if not source.exists():
        raise UserError(f"{source}: no such results folder or file")
    if source.suffix != ".safetensors":
        raise UserError(f"{source}: not a results folder, and of exported files only .safetensors can be read back")
    return load_exported(source)


def load_exported(path: Path) -> LoadedRun:
    """A policy that was exported as safetensors; UserError if the file is damaged or not such an export."""
    try:
        with safe_open(path, "pt") as file:
            described = json.loads((file.metadata() or {})[KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if described["format_version"] != FORMAT_VERSION:
            raise UserError(
                f"{path}: format version {described['format_version']!r}, this program reads version {FORMAT_VERSION}"
            )
        dims = Dims(int(described["obs_dim"]), int(described["act_dim"]))
        network = _network(described)
        layout, own = network.layout(dims), {}
        for name, shape in zip(layout.names, layout.shapes, strict=True):
            own[_plain_name(network, name)] = shape[::-1]
        for name, shape in {"mean": (dims.obs,), "std": (dims.obs,), **own}.items():
            if tuple(tensors[name].shape) != shape or tensors[name].dtype != torch.float32:
                raise UserError(
                    f"{path}: {name} is {tuple(tensors[name].shape)} {tensors[name].dtype}, not {shape} float32"
                )
        policy = Policy(
            layout.flatten([tensors[name].mT if tensors[name].ndim == 2 else tensors[name] for name in own]),
            network,
            dims,
            Normaliser(tensors["mean"].numpy(), tensors["std"].numpy()),
            float(described["max_action"]),
        )
        known = {name: described[name] for name in ("task", "frame", "env", "dataset", "algo")}
        return LoadedRun(policy, int(described["step"]), seed=int(described["seed"]), **known)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: not a policy exported by aspc_fast, {error} is missing or of the wrong type"
        ) from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from None


def describe(run: LoadedRun) -> dict[str, Any]:
    """What a file says of its policy: plain values."""
    network, dims = run.policy.network, run.policy.dims
    return {
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "algo": run.algo,
        "dataset": run.dataset,
        "task": run.task,
        "env": run.env,
        "frame": run.frame,
        "seed": run.seed,
        "step": run.step,
        "obs_dim": dims.obs,
        "act_dim": dims.act,
        "hidden": list(network.hidden),
        "layer_norm": network.layer_norm,
        "eps": network.eps,
        "max_action": run.policy.max_action,
    }


def _network(described: dict[str, Any]) -> MLP:
    """The acting network that a file describes; files of before had two hidden layers of one width."""
    hidden = described.get("hidden") or [described["hidden_dim"]] * 2
    norm, eps = bool(described.get("layer_norm", False)), float(described.get("eps", LAYER_NORM_EPS))
    return MLP(("obs",), tuple(map(int, hidden)), ("act",), norm, eps)


def _plain_name(network: MLP, name: str) -> str:
    """layers.I.weight, layers.I.bias, norms.I.weight, norms.I.bias for a name of the layout."""
    kind, layer = name.rstrip("0123456789"), name.lstrip("wbgainshft")
    group = {"w": "layers", "b": "layers", "gain": "norms", "shift": "norms"}[kind]
    return f"{group}.{layer}.{'weight' if kind in ('w', 'gain') else 'bias'}"


def _tensors(policy: Policy) -> dict[str, Tensor]:
    """Weights [out, in] and biases [out] as torch.nn.Linear has them; ``mean`` and ``std`` [obs_dim]."""
    network = _network({"hidden": policy.network.hidden, **_norm(policy)})
    layout, params = network.layout(policy.dims), policy.params()
    tensors = {"mean": torch.as_tensor(policy.normaliser.mean), "std": torch.as_tensor(policy.normaliser.std)}
    acting = [t for layer in params.hidden for t in layer if t is not None]
    acting += [params.w[:, : policy.dims.act], params.b[: policy.dims.act]]  # what only training needs stays behind
    for name, tensor in zip(layout.names, acting, strict=True):
        tensors[_plain_name(network, name)] = (tensor.mT if tensor.ndim == 2 else tensor).contiguous()
    return tensors


def _norm(policy: Policy) -> dict[str, Any]:
    return {"layer_norm": policy.network.layer_norm, "eps": policy.network.eps}


def _safetensors(run: LoadedRun) -> bytes:
    return save(_tensors(run.policy), metadata={KEY: json.dumps(describe(run))})


def _onnx(run: LoadedRun) -> bytes:
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        raise UserError(
            "ONNX export needs the package onnx, which is missing: pip install 'aspc_fast[export]'"
        ) from None
    nodes = [helper.make_node("Sub", ["observations", "mean"], ["centred"])]
    nodes.append(helper.make_node("Div", ["centred", "std"], ["x0"]))
    network = run.policy.network
    for i in range(len(network.hidden) + 1):
        last = i == len(network.hidden)
        nodes.append(helper.make_node("Gemm", [f"x{i}", f"layers.{i}.weight", f"layers.{i}.bias"], [f"z{i}"], transB=1))
        nodes.append(helper.make_node("Tanh" if last else "Relu", [f"z{i}"], [f"a{i}"]))
        norm = [f"a{i}", f"norms.{i}.weight", f"norms.{i}.bias"]
        if network.layer_norm and not last:
            nodes.append(helper.make_node("LayerNormalization", norm, [f"x{i + 1}"], axis=-1, epsilon=network.eps))
        else:
            nodes.append(helper.make_node("Identity", [f"a{i}"], [f"x{i + 1}"]))
    nodes.append(helper.make_node("Mul", [f"x{len(network.hidden) + 1}", "max_action"], ["actions"]))
    tensors = _tensors(run.policy) | {"max_action": torch.tensor(run.policy.max_action)}
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info("observations", TensorProto.FLOAT, ["n", run.policy.dims.obs])],
        [helper.make_tensor_value_info("actions", TensorProto.FLOAT, ["n", run.policy.dims.act])],
        [numpy_helper.from_array(tensor.numpy(), name) for name, tensor in tensors.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _NORM_OPSET if network.layer_norm else _OPSET)], producer_name=KEY
    )
    model.ir_version, model.producer_version = _IR_VERSION, __version__
    described = describe(run)
    flat = {name: "" if value is None else str(value) for name, value in described.items()}
    helper.set_model_props(model, {**flat, KEY: json.dumps(described)})
    onnx.checker.check_model(model)
    return model.SerializeToString()


_WRITERS: dict[str, Callable[[LoadedRun], bytes]] = {"onnx": _onnx, "safetensors": _safetensors}
