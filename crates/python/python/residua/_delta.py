"""Deltas into tensors in memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ._native import UsageError, apply_views, inspect

_NUMPY = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "float16": "F16",
    "uint32": "U32",
    "int32": "I32",
    "float32": "F32",
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "complex64": "C64",
}
_TORCH = _NUMPY | {
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
}


def apply_delta(
    tensors: Mapping[str, Any],
    delta: str | os.PathLike[str],
    *,
    memory_budget: int | str | None = None,
    progress: bool | Callable[[str, str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Applies a delta to tensors in memory, such as `model.state_dict()`.

    Everything is verified before the first byte changes: the tensors against the hashes of the old checkpoint, and what
    they become against those of the new one. They all change or none does.

    Args:
        tensors: Names and tensors: NumPy arrays, or torch tensors on the CPU, contiguous and writable. Those that the delta
            does not know stay as they are, such as a head that is tied to the embedding.
        delta: A file that `diff` wrote.
        memory_budget: The bytes that the call may allocate; it holds the delta. A number, or a text such as `512MiB`.
        progress: As in `split`.

    Returns:
        A dictionary: `tensors` (name, how the delta held it, bytes) and `output_bytes`.

    Raises:
        UsageError: a tensor is not contiguous, not writable, or on another device.
        InputError: a tensor is missing or is not the one that the delta was made from; the delta adds, removes or reshapes
            a tensor, or is damaged.
        BudgetError, IoError: as in `patch`.
    """
    known = {tensor["name"] for tensor in inspect(delta).get("tensors", ())}
    views = [_view(name, tensor) for name, tensor in tensors.items() if name in known]
    places = sorted((data.__array_interface__["data"][0], data.nbytes, name) for name, _, _, data in views if data.nbytes)
    for (start, length, other), (next_start, _, name) in zip(places, places[1:]):
        if next_start < start + length:
            raise UsageError(f"tensors {other} and {name} share memory, and the delta has both: untie them first")
    return apply_views(views, os.fspath(delta), memory_budget=memory_budget, progress=progress)


def _view(name: str, tensor: Any) -> tuple[str, str, list[int], np.ndarray[Any, Any]]:
    """A tensor's name, element type, shape and bytes."""
    if isinstance(tensor, np.ndarray):
        dtype = _NUMPY.get(tensor.dtype.name) if tensor.dtype.isnative else None
        contiguous, shape = tensor.flags.c_contiguous, list(tensor.shape)
        if contiguous and dtype:
            data = tensor.reshape(-1).view(np.uint8)
    elif hasattr(tensor, "is_contiguous") and hasattr(tensor, "detach"):
        dtype = _TORCH.get(str(tensor.dtype).removeprefix("torch."))
        contiguous, shape = tensor.is_contiguous(), list(tensor.shape)
        if tensor.device.type != "cpu":
            raise UsageError(f"tensor {name} is on {tensor.device}; move it to the CPU first")
        if contiguous and dtype:
            # There is a tensor of it, so it is there.
            data = tensor.detach().reshape(-1).view(sys.modules["torch"].uint8).numpy()
    else:
        raise UsageError(f"tensor {name} is neither a NumPy array nor a torch tensor, but {type(tensor).__name__}")
    if dtype is None:
        raise UsageError(f"tensor {name} has element type {tensor.dtype}, which no checkpoint has")
    if not contiguous:
        raise UsageError(f"tensor {name} is not contiguous; the delta could not be written into it")
    return name, dtype, shape, data
