"""Deltas into arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import residua
from checkpoints import load, save


def arrays(path: Path) -> dict[str, np.ndarray]:
    return {name: tensor.copy() for name, tensor in load(path).items()}


@pytest.fixture(params=["overwrite", "xor"])
def delta(request, model: Path, rng) -> Path:
    tensors = arrays(model)
    tensors["a.weight"][rng.integers(64, size=20), rng.integers(256, size=20)] += 1
    tensors["b.weight"] = rng.standard_normal((96, 64)).astype("f4")
    tensors["norm"][3] = 7
    save(Path("new.safetensors"), tensors)
    report = residua.diff(model, "new.safetensors", "delta.safetensors", op=request.param)
    assert {tensor["stored"] for tensor in report["tensors"]} == {"sparse", "replaced", "same"}
    return Path("delta.safetensors")


def test_arrays_become_the_new_checkpoint(model: Path, delta: Path) -> None:
    tensors = arrays(model) | {"other": np.zeros(3)[::2]}
    places = {name: tensor.ctypes.data for name, tensor in tensors.items()}
    report = residua.apply_delta(tensors, delta)
    assert {tensor["name"] for tensor in report["tensors"]} == {"a.weight", "a.bias", "b.weight", "norm"}
    for name, tensor in load(Path("new.safetensors")).items():
        np.testing.assert_array_equal(tensors[name].view("u1"), tensor.view("u1"))
        assert tensors[name].ctypes.data == places[name]


def test_a_large_tensor_of_many_rows(rng) -> None:
    old = rng.integers(0, 1 << 16, 70_000 * 5 + 3).astype("u2")
    new = old.copy()
    new[rng.integers(old.size, size=3000)] ^= 5
    for name, tensor in (("old", old), ("new", new)):
        save(Path(name), {"w": tensor})
    residua.diff("old", "new", "delta.safetensors")
    live = old.copy()
    with pytest.raises(residua.InputError, match="U16"):
        residua.apply_delta({"w": live}, "delta.safetensors")
    from residua._native import apply_views

    apply_views([("w", "BF16", [live.size], live.view("u1"))], "delta.safetensors")
    np.testing.assert_array_equal(live, new)


def test_all_or_nothing(model: Path, delta: Path) -> None:
    def refused(change, words: str, error: type[Exception] = residua.InputError) -> None:
        tensors = arrays(model)
        change(tensors)
        before = {name: tensor.copy() for name, tensor in tensors.items()}
        with pytest.raises(error, match=words):
            residua.apply_delta(tensors, delta)
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(tensor, before[name])

    refused(lambda tensors: tensors["norm"].__setitem__(0, 2), "norm.*not the one")
    refused(lambda tensors: tensors["a.bias"].__setitem__(0, 2), "a.bias.*not the one")
    refused(lambda tensors: tensors.pop("b.weight"), "b.weight.*missing")
    refused(lambda tensors: tensors.update(norm=tensors["norm"].astype("f4")), "norm.*F32")
    refused(lambda tensors: tensors.update(norm=np.ones(128, "f2")[::2]), "norm.*contiguous", residua.UsageError)
    refused(lambda tensors: tensors["norm"].setflags(write=False), "norm", residua.UsageError)
    with pytest.raises(residua.BudgetError):
        residua.apply_delta(arrays(model), delta, memory_budget=1000)


def test_a_damaged_delta_changes_nothing(model: Path, delta: Path) -> None:
    content = bytearray(delta.read_bytes())
    values = load(Path("new.safetensors"))["b.weight"].tobytes()[:64]
    content[content.index(values)] ^= 1
    delta.write_bytes(content)
    tensors = arrays(model)
    with pytest.raises(residua.InputError, match="damaged"):
        residua.apply_delta(tensors, delta)
    for name, tensor in load(model).items():
        np.testing.assert_array_equal(tensors[name], tensor)


def test_what_memory_cannot_follow_is_refused(model: Path) -> None:
    changes = [
        (lambda tensors: tensors.update(more=np.ones(3, "f4")), "adds"),
        (lambda tensors: tensors.pop("norm"), "removes"),
        (lambda tensors: tensors.update(norm=np.ones(3, "f2")), "shape"),
    ]
    for change, words in changes:
        tensors = arrays(model)
        change(tensors)
        save(Path("new.safetensors"), tensors)
        residua.diff(model, "new.safetensors", "delta.safetensors")
        with pytest.raises(residua.InputError, match=words):
            residua.apply_delta(arrays(model), "delta.safetensors")
