"""Safetensors files, written and read by hand: the code under test has no part in them."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

NAMES = {"float32": "F32", "float16": "F16", "float64": "F64", "int64": "I64", "uint16": "BF16", "uint8": "U8"}


def save(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    """Writes a file. uint16 stands for bfloat16."""
    header, start = {}, 0
    for name, tensor in tensors.items():
        end = start + tensor.nbytes
        header[name] = {"dtype": NAMES[tensor.dtype.name], "shape": tensor.shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    data = b"".join(np.ascontiguousarray(tensor).tobytes() for tensor in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def load(path: Path) -> dict[str, np.ndarray]:
    """Reads a file."""
    dtypes = {spelled: name for name, spelled in NAMES.items()}
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    header.pop("__metadata__", None)
    tensors = {}
    for name, info in header.items():
        start, end = info["data_offsets"]
        tensors[name] = np.frombuffer(data[start:end], dtypes[info["dtype"]]).reshape(info["shape"])
    return tensors
