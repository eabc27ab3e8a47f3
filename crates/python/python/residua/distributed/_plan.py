"""The plan, and the two functions that do the work. No engine here."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from .. import _native
from .._native import ClassStatistics, StatisticsBuilder

LEAF_ROWS = 65_536


@dataclass(frozen=True)
class Shard:
    """Leaf number `index`: the rows from `start` to `stop`, counted over all files."""

    index: int
    start: int
    stop: int


@dataclass(frozen=True)
class Plan:
    """What is collected, and where it is cut. The same files in the same order give the same plan."""

    files: tuple[tuple[str, str], ...]
    """Features and labels of each file."""
    rows: tuple[int, ...]
    """Rows of each file."""
    dim: int
    """The feature dimension d."""
    leaf_rows: int
    """Rows of a leaf."""
    memory_budget: int | str | None = None
    """The bytes that a leaf or a merge may take."""

    @property
    def total(self) -> int:
        """Rows of all files."""
        return sum(self.rows)

    def shards(self) -> list[Shard]:
        """All leaves, in order."""
        starts = range(0, self.total, self.leaf_rows)
        return [Shard(i, start, min(start + self.leaf_rows, self.total)) for i, start in enumerate(starts)]

    def describe(self, shard: Shard) -> str:
        """The rows and files of a shard, for people."""
        first, names = 0, []
        for (features, _), rows in zip(self.files, self.rows, strict=True):
            if first < shard.stop and first + rows > shard.start:
                names.append(features)
            first += rows
        of = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        return f"shard {shard.index} (rows {shard.start} to {shard.stop}, {of})"

    def key(self) -> str:
        """A name for the results of this plan. It changes with the files: their names, sizes and times."""
        paths = [path for pair in self.files for path in pair]
        stamps = [(path, *_stamp(_path(path))) for path in paths]
        text = json.dumps([stamps, self.rows, self.dim, self.leaf_rows])
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _path(array: str) -> str:
    path, suffix, _ = array.rpartition(".safetensors:")
    return path + suffix.rstrip(":") if suffix else array


def _stamp(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def plan(
    files: Sequence[str | os.PathLike[str]],
    labels: Sequence[str | os.PathLike[str]],
    *,
    leaf_rows: int = LEAF_ROWS,
    memory_budget: int | str | None = None,
) -> Plan:
    """Looks at the files, and plans their leaves.

    Args:
        files: Features `[n, d]`: `.npy` files, or tensors as `FILE.safetensors:TENSOR`. Every worker must see them under
            these paths.
        labels: Labels `[n]` of each of them.
        leaf_rows: Rows of a leaf. The last bits of the statistics depend on it, and on nothing else here.
        memory_budget: The bytes that a leaf or a merge may take: a number, or a text such as `512MiB`.

    Raises:
        UsageError: there are no files, or not as many labels.
        IoError, InputError: a file cannot be read, or is not what it should be.
    """
    if not files or len(files) != len(labels):
        raise _native.UsageError(f"{len(files)} files of features and {len(labels)} of labels: give one for each")
    if leaf_rows < 1:
        raise _native.UsageError(f"leaf_rows is {leaf_rows}; a leaf has at least one row")
    pairs = tuple((os.fspath(x), os.fspath(y)) for x, y in zip(files, labels, strict=True))
    dim, rows = _native.feature_rows(pairs)
    if not sum(rows):
        raise _native.InputError(f"{pairs[0][0]} and the files after it have no rows")
    return Plan(pairs, tuple(rows), dim, leaf_rows, memory_budget)


def leaf(shard: Shard, plan: Plan) -> bytes:
    """The exact state of a shard's statistics, as a safetensors file."""
    builder = ClassStatistics.builder(
        plan.dim,
        leaf_rows=plan.leaf_rows,
        first_leaf=shard.index,
        total=plan.total,
        memory_budget=plan.memory_budget,
    )
    builder.add_files(plan.files, shard.start, shard.stop)
    with _Folder() as folder:
        return folder.state(builder)


def merge(left: bytes, right: bytes, memory_budget: int | str | None = None) -> bytes:
    """The state of both: `right` has to start where `left` ends.

    Raises:
        InputError: it does not, or a state is damaged.
        BudgetError: the budget has no room.
    """
    with _Folder() as folder:
        builder = folder.builder("left", left, memory_budget=memory_budget)
        builder.merge(folder.builder("right", right, memory_budget=memory_budget))
        return folder.state(builder)


def finish(state: bytes, **form: object) -> ClassStatistics:
    """The statistics of a state; `form` as in `StatisticsBuilder.load`."""
    with _Folder() as folder:
        return folder.builder("state", state, **form).finish()


class _Folder(tempfile.TemporaryDirectory[str]):
    """A folder for the files of states."""

    def __enter__(self) -> _Folder:  # type: ignore[override]
        return self

    def builder(self, name: str, state: bytes, **form: object) -> StatisticsBuilder:
        path = os.path.join(self.name, name)
        with open(path, "wb") as file:
            file.write(state)
        return StatisticsBuilder.load(path, **form)  # type: ignore[arg-type]

    def state(self, builder: StatisticsBuilder) -> bytes:
        path = os.path.join(self.name, "state")
        builder.save(path)
        with open(path, "rb") as file:
            return file.read()
