"""Tensors to a safetensors file in one pass: copied from the device, written and hashed a piece at a time.

The format is that of https://github.com/huggingface/safetensors (8 bytes of header length, JSON header, raw bytes); the
package's own writer wants every tensor on the host at once, and a file that must be read again to be hashed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

PIECE_BYTES = 16 * 2**20
_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def save_file(tensors: Mapping[str, Tensor], path: Path) -> str:
    """Write ``tensors`` (any device, not being changed) to ``path``; returns its sha256 in hexadecimal. OSError."""
    header: dict[str, object] = {}
    end = 0
    # widest numbers first, as the format's own writer does: every tensor then lies at a multiple of its item's size
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    for name in order:
        tensor = tensors[name]
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    # a stream of its own: copies do not queue behind the updates, nor updates behind copies
    cuda = next((tensor.device for tensor in tensors.values() if tensor.is_cuda), None)
    stream = torch.cuda.Stream(cuda) if cuda is not None else None
    with path.open("wb") as handle, torch.cuda.stream(stream):  # type: ignore[arg-type]
        for piece in (len(text).to_bytes(8, "little"), text):
            handle.write(piece)
            digest.update(piece)
        for name in order:
            flat = tensors[name].detach().contiguous().reshape(-1)
            rows = max(1, PIECE_BYTES // flat.element_size())
            for lo in range(0, len(flat), rows):
                data = flat[lo : lo + rows].cpu().view(torch.uint8).numpy().data
                handle.write(data)
                digest.update(data)
    return digest.hexdigest()


def file_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of the tensors themselves."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
