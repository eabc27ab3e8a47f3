"""The README's example runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from checkpoints import load, save

README = Path(__file__).parents[4] / "README.md"


def test_the_example_runs(rng: np.random.Generator, capfd: pytest.CaptureFixture[str]) -> None:
    code, *_ = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    old = {"layer.weight": rng.standard_normal((64, 256)).astype("f4")}
    save(Path("model.safetensors"), old)
    new = {"layer.weight": old["layer.weight"].copy()}
    new["layer.weight"][5, 6] = 3
    save(Path("tuned.safetensors"), new)
    before = rng.standard_normal((100, 8)).astype("f4")
    names = {"tensors": old, "features": before, "labels": rng.integers(0, 3, 100), "before": before, "after": before + 1}
    exec(compile(code, str(README), "exec"), names)  # noqa: S102
    assert names["y"].shape == (2, 64) and len(names["classes"]) == 100
    np.testing.assert_array_equal(old["layer.weight"], load(Path("tuned.safetensors"))["layer.weight"])
    assert "splitting" in capfd.readouterr().err
