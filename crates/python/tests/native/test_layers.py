"""Layers that run."""

from __future__ import annotations

import copy
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import residua
from checkpoints import load


@pytest.fixture
def file(model: Path) -> residua.SplitFile:
    residua.split(model, "split.safetensors", density=0.05)
    return residua.SplitFile("split.safetensors")


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("leading", [(), (1,), (7,), (2, 3, 5)])
def test_a_layer_is_the_materialized_matrix(file, rng, alpha: float, leading: tuple[int, ...]) -> None:
    residua.materialize("split.safetensors", "dense.safetensors", alpha=alpha)
    dense = load(Path("dense.safetensors"))["a.weight"]
    layer = file.layer("a.weight")
    x = rng.standard_normal((*leading, 256)).astype("f4")
    expected = x.astype("f8") @ dense.astype("f8").T
    y = layer.forward(x, alpha)
    assert y.shape == (*leading, 64) and y.dtype == np.float32
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    out = np.full((*leading, 64), np.nan, "f4")
    layer.forward_into(x, out, alpha)
    np.testing.assert_array_equal(out, y)
    np.testing.assert_array_equal(layer.dense(alpha), dense)


def test_layouts_and_types_do_the_right_thing(file, rng) -> None:
    layer = file.layer("a.weight")
    x = rng.standard_normal((6, 256)).astype("f4")
    y = layer.forward(x)
    np.testing.assert_array_equal(layer.forward(np.asfortranarray(x)), y)
    np.testing.assert_array_equal(layer.forward(np.repeat(x, 2, axis=1)[:, ::2]), y)
    np.testing.assert_array_equal(layer.forward(memoryview(x)), y)
    half = x.astype("f2")
    np.testing.assert_array_equal(layer.forward(half), layer.forward(half.astype("f4")))
    assert layer.forward(np.empty((0, 256), "f4")).shape == (0, 64)

    class Exported:
        """Another library's array."""

        __dlpack__, __dlpack_device__ = x.__dlpack__, x.__dlpack_device__

    np.testing.assert_array_equal(layer.forward(Exported()), y)


def test_what_does_not_fit_is_refused_with_words(file, rng) -> None:
    layer = file.layer("a.weight")
    x = rng.standard_normal((6, 256)).astype("f4")
    out = np.full((6, 64), 3, "f4")
    for bad, words in [
        (x.astype("f8"), "astype"), (x.astype("i4"), "float32"), (x[:, :8], "256"), (np.float32(1), "256"),
        ("abc", "float32"), (None, "float32"),
    ]:
        with pytest.raises(residua.UsageError, match=words):
            layer.forward(bad)
    frozen = out.copy()
    frozen.flags.writeable = False
    for bad in [out[:5], out.astype("f8"), np.zeros((6, 128), "f4")[:, ::2], frozen, x.reshape(24, 64)[:6]]:
        if bad.base is x:
            continue
        with pytest.raises(residua.UsageError):
            layer.forward_into(x, bad)
    shared = rng.standard_normal((4, 256)).astype("f4")
    with pytest.raises(residua.UsageError, match="borrowed"):
        layer.forward_into(shared, shared[:1].reshape(4, 64))
    with pytest.raises(residua.InputError, match="c.weight"):
        file.layer("c.weight")


def test_copies_and_pickles(file, rng) -> None:
    layer = file.layer("a.weight")
    x = rng.standard_normal((2, 256)).astype("f4")
    assert copy.copy(layer) is layer and copy.deepcopy({"layer": layer})["layer"] is layer
    again = pickle.loads(pickle.dumps(layer))
    np.testing.assert_array_equal(again.forward(x), layer.forward(x))
    data = pickle.dumps(layer)
    os.remove("split.safetensors")
    with pytest.raises(residua.IoError):
        pickle.loads(data)


def test_the_number_of_threads_changes_no_bit(file, rng) -> None:
    x = rng.standard_normal((64, 256)).astype("f4")
    results = []
    for threads in (1, 2, 0):
        residua.set_num_threads(threads)
        results.append(file.layer("a.weight").forward(x))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)
    with pytest.raises(residua.UsageError):
        residua.set_num_threads(100_000)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_works(file, rng) -> None:
    """Threads of the parent do not exist in the child: waiting for them would take forever."""
    residua.set_num_threads(2)
    layer = file.layer("a.weight")
    x = rng.standard_normal((64, 256)).astype("f4")
    expected = layer.forward(x)
    residua.verify("split.safetensors")
    child = os.fork()
    if child == 0:
        good = np.array_equal(layer.forward(x), expected) and residua.verify("split.safetensors")["valid"]
        good = good and np.array_equal(residua.SplitFile("split.safetensors").layer("a.weight").forward(x), expected)
        os._exit(0 if good else 1)
    deadline = time.monotonic() + 20
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.02)
    assert done[1] == 0
    residua.set_num_threads(0)
    np.testing.assert_array_equal(layer.forward(x), expected)
