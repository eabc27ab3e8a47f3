"""What the tests share. They run against the installed package, with NumPy alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from checkpoints import save

@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def model(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A checkpoint of two linear layers, a bias and a norm."""
    tensors = {
        "a.weight": rng.standard_normal((64, 256), "f4"),
        "a.bias": rng.standard_normal(64, "f4"),
        "b.weight": rng.standard_normal((96, 64), "f4"),
        "norm": np.ones(64, "f2"),
    }
    return save(tmp_path / "model.safetensors", tensors)


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path) -> Iterator[None]:
    """Every test works in its own folder."""
    before = os.getcwd()
    os.chdir(tmp_path)
    yield
    os.chdir(before)
