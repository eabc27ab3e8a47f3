"""Files: split, materialize, verify, diff, patch, inspect."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import residua
from checkpoints import load, save


def test_a_split_materializes_near_the_original_and_verifies(model: Path) -> None:
    report = residua.split(model, "split.safetensors", density=0.1, exclude=["b.*"])
    assert [tensor["name"] for tensor in report["tensors"]] == ["a.weight"]
    assert {tensor["name"] for tensor in report["passed"]} == {"a.bias", "b.weight", "norm"}
    assert report["nnz"] == round(0.1 * 64 * 256) and report["parameters"] == 64 * 256
    residua.materialize("split.safetensors", "dense.safetensors")
    old, new = load(model), load(Path("dense.safetensors"))
    error = np.linalg.norm(old["a.weight"] - new["a.weight"]) / np.linalg.norm(old["a.weight"])
    assert report["error"] == pytest.approx(error, rel=1e-4) and error < 0.1
    for name in ("a.bias", "b.weight", "norm"):
        np.testing.assert_array_equal(old[name], new[name])
    found = residua.verify("split.safetensors", model)
    assert found["valid"] and found["matches"] and found["error"] == pytest.approx(error, rel=1e-4)
    assert residua.verify("split.safetensors")["matches"] is None


@pytest.mark.parametrize("options", [
    {"threshold": 0.5, "values": "f32"},
    {"base": "int8", "importance": "column"},
    {"base": "int4-g64", "values": "i8", "hashes": False},
])
def test_every_option_reaches_the_job(model: Path, options: dict) -> None:
    plain = residua.split(model, "plain.safetensors")
    other = residua.split(model, "other.safetensors", **options)
    assert Path("plain.safetensors").read_bytes() != Path("other.safetensors").read_bytes()
    assert residua.verify("other.safetensors")["valid"]
    assert other["tensors"] != plain["tensors"]


def test_a_calibration_file_is_used(model: Path) -> None:
    rng = np.random.default_rng(1)
    save(Path("calibration.safetensors"), {
        "a.weight": rng.uniform(0.01, 100, 256).astype("f4"), "b.weight": rng.uniform(0.01, 100, 64).astype("f4"),
    })
    residua.split(model, "plain.safetensors")
    residua.split(model, "calibrated.safetensors", calibration="calibration.safetensors", values="f32")
    assert Path("plain.safetensors").read_bytes() != Path("calibrated.safetensors").read_bytes()
    residua.materialize("calibrated.safetensors", "dense.safetensors")
    old, new, squares = load(model), load(Path("dense.safetensors")), load(Path("calibration.safetensors"))
    ratios = [
        ((old[name].astype("f8") - new[name]) ** 2 @ h).sum() / (old[name].astype("f8") ** 2 @ h).sum()
        for name, h in squares.items()
    ]
    found = residua.verify("calibrated.safetensors", model, calibration="calibration.safetensors")
    assert found["output_error"] == pytest.approx(np.sqrt(np.mean(ratios)), rel=1e-4)
    assert residua.verify("calibrated.safetensors", model)["output_error"] is None
    with pytest.raises(residua.UsageError, match="against"):
        residua.verify("calibrated.safetensors", calibration="calibration.safetensors")


def test_a_file_over_another_checkpoint_needs_it(model: Path) -> None:
    old = load(model)
    new = {name: tensor.copy() for name, tensor in old.items()}
    new["a.weight"][3, :5] += 1
    save(Path("new.safetensors"), new)
    folder = Path("elsewhere")
    folder.mkdir()
    residua.split("new.safetensors", folder / "split.safetensors", base=model, threshold=1e-3, values="f32")
    with pytest.raises(residua.UsageError, match="name the base checkpoint"):
        residua.SplitFile(folder / "split.safetensors").layer("a.weight")
    file = residua.SplitFile(folder / "split.safetensors", base=model)
    assert file.layers()[0].base is None and file.layers()[0].nnz == 5
    np.testing.assert_allclose(file.dense("a.weight"), new["a.weight"], atol=1e-6)
    np.testing.assert_array_equal(file.dense("a.weight", 0), old["a.weight"])
    residua.materialize(folder / "split.safetensors", "back.safetensors", base=model)
    np.testing.assert_allclose(load(Path("back.safetensors"))["a.weight"], new["a.weight"], atol=1e-6)


@pytest.mark.parametrize("op", ["overwrite", "xor"])
def test_a_delta_patches_bit_for_bit(model: Path, op: str) -> None:
    tensors = {name: tensor.copy() for name, tensor in load(model).items()}
    tensors["a.weight"][5, 7] = -0.0
    tensors["norm"] = np.ones(32, "f2")
    save(Path("new.safetensors"), tensors)
    report = residua.diff(model, "new.safetensors", "delta.safetensors", op=op)
    assert report["changed"] == 33 and report["op"] == op
    residua.patch(model, "delta.safetensors", "again.safetensors")
    assert Path("again.safetensors").read_bytes() == Path("new.safetensors").read_bytes()
    with pytest.raises(residua.InputError, match="not the base"):
        residua.patch("new.safetensors", "delta.safetensors", "wrong.safetensors")
    assert not Path("wrong.safetensors").exists()


def test_inspect_tells_files_apart(model: Path) -> None:
    residua.split(model, "split.safetensors")
    residua.diff(model, model, "delta.safetensors")
    builder = residua.ClassStatistics.builder(2)
    builder.add(np.zeros((3, 2)), [4, 4, 9])
    builder.finish().save("statistics.safetensors")
    assert [tensor["name"] for tensor in residua.inspect(model)["tensors"]] == ["a.weight", "a.bias", "b.weight", "norm"]
    split = residua.inspect("split.safetensors")
    assert split["kind"] == "split" and split["layers"][0]["base"] == "lut4-g16"
    assert residua.inspect("delta.safetensors")["kind"] == "delta"
    assert residua.inspect("statistics.safetensors") == {"kind": "statistics", "dim": 2, "classes": {"4": 2, "9": 1}}


def test_tensors_that_passed_through_are_read(model: Path) -> None:
    residua.split(model, "split.safetensors")
    file = residua.SplitFile("split.safetensors")
    bias = next(tensor for tensor in file.tensors() if tensor.name == "a.bias")
    assert (bias.shape, bias.dtype, bias.bytes) == ([64], "F32", 256)
    np.testing.assert_array_equal(file.tensor("a.bias").view("f4"), load(model)["a.bias"])
    assert file.names() == ["a.weight", "b.weight"] and len(file) == 2
    assert file.metadata
