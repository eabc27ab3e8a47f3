"""How jobs behave: errors, progress, Ctrl-C, budgets, threads, the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import residua
from checkpoints import save
from residua import _native


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A checkpoint that takes seconds to split."""
    rng = np.random.default_rng(0)
    tensors = {f"{i}.weight": rng.standard_normal((2048, 2048), "f4") for i in range(8)}
    return save(tmp_path / "large.safetensors", tensors)


def test_errors_are_typed_and_nothing_is_left(model: Path) -> None:
    Path("text").write_text("no checkpoint")
    nan = np.ones((8, 8), "f4")
    nan[2, 3] = np.nan
    save(Path("nan.safetensors"), {"w.weight": nan})
    before = sorted(os.listdir())
    cases = [
        (residua.IoError, "missing", {}, "cannot open"),
        (residua.InputError, "text", {}, "text"),
        (residua.InputError, "nan.safetensors", {}, r"w.weight at \[2, 3\]"),
        (residua.UsageError, model, {"density": 2.0}, "between 0 and 1"),
        (residua.UsageError, model, {"density": 0.1, "threshold": 0.1}, "exclude each other"),
        (residua.UsageError, model, {"density": 0.1, "bits": 4.5}, "exclude each other"),
        (residua.UsageError, model, {"bits": 1.0}, "at least"),
        (residua.UsageError, model, {"bits": 4.5, "base": "int8"}, "bases"),
        (residua.UsageError, model, {"bases": {"*": "int5"}}, "lut4"),
        (residua.UsageError, model, {"size": "big"}, "512MiB"),
        (residua.UsageError, model, {"importance": "column", "calibration": "x"}, "exclude each other"),
        (residua.UsageError, model, {"base": "int5"}, "int5"),
        (residua.UsageError, model, {"values": "f8"}, "bf16"),
        (residua.UsageError, model, {"importance": "loud"}, "uniform"),
        (residua.UsageError, model, {"memory_budget": "many"}, "512MiB"),
        (residua.UsageError, model, {"memory_budget": True}, "512MiB"),
        (residua.UsageError, model, {"progress": 3}, "progress"),
        (residua.BudgetError, model, {"memory_budget": "10KiB"}, "at least"),
        (residua.IoError, model, {"calibration": "missing"}, "missing"),
    ]
    for error, checkpoint, options, words in cases:
        with pytest.raises(error, match=words) as raised:
            residua.split(checkpoint, "out.safetensors", **options)
        assert isinstance(raised.value, residua.ResiduaError)
        assert sorted(os.listdir()) == before
    with pytest.raises(residua.IoError):
        residua.split(model, "no/such/folder/out.safetensors")
    with pytest.raises(residua.ResiduaError):
        residua.split(model, model)
    with pytest.raises(residua.InputError, match="delta"):
        residua.diff(model, model, "delta.safetensors")
        residua.SplitFile("delta.safetensors")
    with pytest.raises(TypeError):
        residua.split(model)


def test_the_budget_counts_what_residua_allocates(model: Path) -> None:
    ballast = bytearray(os.urandom(1 << 20) * 64)
    residua.split(model, "split.safetensors", memory_budget="16MiB")
    assert residua.parse_bytes("16MiB") == 16 << 20 == residua.parse_bytes(16 << 20) and ballast


def test_progress_is_told_and_may_stop(large: Path) -> None:
    seen = []
    residua.split(large, "split.safetensors", progress=lambda *event: seen.append(event))
    what, tensor, done, total = seen[-1]
    assert what and tensor and done == total > 0
    assert [event[2] for event in seen if event[0] == what] == sorted(event[2] for event in seen if event[0] == what)
    os.remove("split.safetensors")

    class Enough(Exception):
        pass

    def stop(*event: object) -> None:
        raise Enough

    with pytest.raises(Enough):
        residua.split(large, "split.safetensors", progress=stop)
    assert os.listdir() == ["large.safetensors"]
    residua.split(large, "split.safetensors", include=["0.*"], progress=True)


def interrupted(call: Callable[[Any], object], argument: object) -> bool:
    """Whether Ctrl-C, which comes soon, stopped a call. No Python code runs between its return and the list."""
    # A shell ignores Ctrl-C for what it starts in the background, and Python then does, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    done: list[object] = []
    threading.Timer(0.3, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        done.extend(map(call, [argument]))
        time.sleep(5)
    return not done


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals of Unix")
def test_ctrl_c_stops_a_job(large: Path) -> None:
    residua.set_num_threads(1)
    try:
        assert interrupted(partial(_native.split, out="split.safetensors"), large)
    finally:
        residua.set_num_threads(0)
    assert os.listdir() == ["large.safetensors"]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals of Unix")
def test_ctrl_c_stops_a_fit(rng: np.random.Generator) -> None:
    before = rng.standard_normal((30_000, 64)).astype("f4")
    method = residua.Rff(features=4096)
    assert interrupted(partial(method.fit, before), before)


def test_other_threads_run_meanwhile(large: Path) -> None:
    """The interpreter's lock is free during a job."""
    count, stop = [0], threading.Event()

    def tick() -> None:
        while not stop.is_set():
            count[0] += 1
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    residua.split(large, "split.safetensors")
    stop.set()
    thread.join()
    assert count[0] > 20


def test_importing_needs_numpy_alone() -> None:
    code = "import sys, residua; print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "['numpy']"


def test_the_command_is_the_same(model: Path) -> None:
    script = Path(sys.executable).with_name("residua" + (".exe" if os.name == "nt" else ""))

    def run(*args: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([script, *args], capture_output=True, text=True)

    made = run("split", model, "-o", "split.safetensors", "--json")
    assert made.returncode == 0, made.stderr
    report = residua.split(model, "again.safetensors")
    assert json.loads(made.stdout)["error"] == report["error"]
    assert Path("split.safetensors").read_bytes() == Path("again.safetensors").read_bytes()
    assert run("verify", "split.safetensors", "--against", model).returncode == 0
    assert run("split", "missing", "-o", "x").returncode == 5
    assert run("--version").stdout.startswith("residua ")
    assert run("splat").returncode == 2
    demo = run("demo")
    assert demo.returncode == 2 and "no data for the demo" in demo.stderr


def test_every_public_name_is_documented() -> None:
    for name in residua.__all__:
        value = getattr(residua, name)
        if name == "__version__":
            continue
        assert value.__doc__, name
        for member, inner in vars(value).items() if isinstance(value, type) else ():
            if not member.startswith("_"):
                assert inner.__doc__, f"{name}.{member}"


def test_bits_and_size_choose_bases(model: Path) -> None:
    report = residua.split(model, "bits.safetensors", bits=4.5, bases={"b.*": "int8"})
    kinds = {tensor["name"]: tensor["base"] for tensor in report["tensors"]}
    assert kinds["b.weight"] == "int8" and set(kinds.values()) - {"int8"}
    report = residua.split(model, "size.safetensors", size="64KiB")
    assert report["output_bytes"] == os.path.getsize("size.safetensors") <= 64 << 10
