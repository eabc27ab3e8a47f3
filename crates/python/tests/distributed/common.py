"""What the tests of all engines share: files of features, the bytes of a single process, and a worker that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import residua
from residua.distributed import Leaf, Plan, Shard, _run, collect

DIM, CLASSES, LEAF = 32, 5, 256
"""Classes of more samples than dimensions in every leaf, so that the order of merges shows in the bits."""


def write(folder: Path, rows: tuple[int, ...] = (900, 37, 1600)) -> tuple[list[str], list[str]]:
    """Features and labels of several files; the last leaf is not full."""
    rng = np.random.default_rng(11)
    files, labels = [], []
    for number, count in enumerate(rows):
        files.append(str(folder / f"x{number}.npy"))
        labels.append(str(folder / f"y{number}.npy"))
        np.save(files[-1], rng.standard_normal((count, DIM), "f4") * rng.uniform(0.1, 30, DIM).astype("f4"))
        np.save(labels[-1], rng.integers(0, CLASSES, count).astype("u4"))
    return files, labels


def saved(statistics: residua.ClassStatistics, folder: Path) -> bytes:
    path = folder / "saved.safetensors"
    statistics.save(path)
    return path.read_bytes()


def single(files: list[str], labels: list[str], folder: Path) -> bytes:
    """One builder over all rows, in batches that have nothing to do with leaves."""
    builder = residua.ClassStatistics.builder(DIM, leaf_rows=LEAF)
    for features, of in zip(files, labels, strict=True):
        x, y = np.load(features), np.load(of)
        for first in range(0, len(x), 77):
            builder.add(x[first : first + 77], y[first : first + 77])
    # Only a builder that saw all samples notes where they came from; a state has no place for that.
    builder.save(folder / "state.safetensors")
    return saved(residua.StatisticsBuilder.load(folder / "state.safetensors").finish(), folder)


def together(files: list[str], labels: list[str], folder: Path, **options) -> tuple[bytes, list[Leaf]]:
    """What an engine makes, and its leaves."""
    leaves: list[Leaf] = []
    made = collect(files, labels=labels, leaf_rows=LEAF, on_leaf=leaves.append, **options)
    return saved(made, folder), leaves


class Dying:
    """A leaf that kills its worker at the first attempt. It leaves a mark for every attempt."""

    def __init__(self, folder: Path, index: int) -> None:
        self.folder, self.index = str(folder), index

    def __call__(self, shard: Shard, plan: Plan) -> bytes:
        if shard.index == self.index:
            attempt = len(os.listdir(self.folder))
            with open(os.path.join(self.folder, str(attempt)), "w") as mark:
                mark.write(_run.worker())
            if attempt == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return residua.distributed.leaf(shard, plan)

    def in_place_of_run_leaf(self) -> Callable[[_run.Task, Shard], tuple[bytes, Leaf]]:
        def run(task: _run.Task, shard: Shard) -> tuple[bytes, Leaf]:
            return self(shard, task.plan), Leaf(shard, _run.worker(), made=True)

        return run

    def attempts(self) -> list[str]:
        """The workers of all attempts."""
        return [Path(self.folder, name).read_text() for name in sorted(os.listdir(self.folder))]


def stopped(engine: str, folder: Path, files: list[str], labels: list[str], setup: str) -> None:
    """Runs a driver that is killed after three leaves are kept in `folder/work`."""
    program = f"""
import os, signal
{setup}
from residua.distributed import collect
seen = []
def count(leaf):
    seen.append(leaf)
    if len(seen) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
if __name__ == "__main__":
    with cluster():
        collect({files!r}, labels={labels!r}, engine={engine!r}, leaf_rows={LEAF}, work_dir={str(folder / "work")!r},
            in_flight=1, on_leaf=count)
"""
    script = folder / "driver.py"
    script.write_text(program)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr


def kept(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "work"))


def check_killed_worker(engine: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker dies in the middle of a leaf: another one makes it, with the same bytes."""
    files = write(folder)
    (folder / "attempts").mkdir()
    dying = Dying(folder / "attempts", 4)
    monkeypatch.setattr(_run, "run_leaf", dying.in_place_of_run_leaf())
    made, _ = together(*files, folder, engine=engine)
    first, second = dying.attempts()
    assert first != second
    assert made == single(*files, folder)


def check_stopped_driver(engine: str, folder: Path, setup: str) -> None:
    """A driver dies: the next one takes the leaves that are kept, and makes the others."""
    files = write(folder)
    stopped(engine, folder, *files, setup)
    before = kept(folder)
    assert 3 <= len(before) < 10 and all(name.endswith(".safetensors") for name in before)
    made, leaves = together(*files, folder, engine=engine, work_dir=folder / "work")
    assert made == single(*files, folder)
    assert sum(not leaf.made for leaf in leaves) == len(before) and len(leaves) == 10
    assert len(kept(folder)) == 10
