"""Runs the leaves and merges of a plan on any engine."""

from __future__ import annotations

import os
import random
import socket
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .. import _native
from .._native import ResiduaError, StatisticsBuilder
from ._plan import Plan, Shard, leaf, merge


class WorkerError(ResiduaError):
    """A shard was lost with its worker more often than it is tried again."""


@dataclass(frozen=True)
class Leaf:
    """A leaf that is done."""

    shard: Shard
    worker: str
    """Host and process."""
    made: bool
    """False if an earlier run had made it."""


@dataclass(frozen=True)
class Task:
    """What every worker needs to know."""

    plan: Plan
    folder: str | None
    """Where leaves are kept for another run."""
    threads: int | None
    """Threads of a leaf or a merge; None leaves them as they are."""


def worker() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def run_leaf(task: Task, shard: Shard) -> tuple[bytes, Leaf]:
    """A leaf, from an earlier run if its file is there and whole. Runs on a worker."""
    try:
        _start(task)
        path = None
        if task.folder is not None:
            path = os.path.join(task.folder, f"{task.plan.key()}-{shard.index:06}.safetensors")
            state = _kept(path)
            if state is not None:
                return state, Leaf(shard, worker(), made=False)
        state = leaf(shard, task.plan)
        if path is not None:
            _replace(path, state)
        return state, Leaf(shard, worker(), made=True)
    except (ResiduaError, OSError) as error:
        raise _named(error, task.plan.describe(shard)) from error


def run_merge(task: Task, place: str, left: bytes, right: bytes) -> tuple[bytes, str]:
    """Two states as one. Runs on a worker."""
    try:
        _start(task)
        return merge(left, right, task.plan.memory_budget), worker()
    except (ResiduaError, OSError) as error:
        raise _named(error, place) from error


def _start(task: Task) -> None:
    if task.threads is not None:
        _native.set_num_threads(task.threads)


def _named(error: Exception, place: str) -> Exception:
    """The same error, with the shard and the worker."""
    kind = type(error) if isinstance(error, ResiduaError) else _native.IoError
    return kind(f"{place} on {worker()}: {error}")


def _kept(path: str) -> bytes | None:
    """The state in a file; nothing if the file is missing or damaged."""
    try:
        StatisticsBuilder.load(path)
        with open(path, "rb") as file:
            return file.read()
    except (_native.InputError, _native.IoError, OSError):
        return None


def _replace(path: str, state: bytes) -> None:
    """Writes a file that appears complete or not at all. Two workers may do so at once: they write the same bytes."""
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(state)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


class Engine(Protocol):
    """Runs functions elsewhere. A handle stands for a result that stays there."""

    def slots(self) -> int:
        """How many functions can run at a time."""

    def start(self, function: Callable[..., tuple[bytes, Any]], *arguments: Any) -> tuple[Any, Any]:
        """Starts a function; handles of the state and of the report that it returns. Arguments may be handles."""

    def wait(self, handles: Sequence[Any]) -> Iterable[Any]:
        """Waits for some of the handles; those that are done, with an error or without."""

    def get(self, handle: Any) -> Any:
        """The result of a handle; raises its error."""

    def cancel(self, handles: Sequence[Any]) -> None:
        """Gives up what has not been done yet."""


class Value:
    """A handle of what is here already."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Here:
    """No engine: everything runs at once in this process."""

    def slots(self) -> int:
        return 1

    def start(self, function: Callable[..., tuple[bytes, Any]], *arguments: Any) -> tuple[Any, Any]:
        state, report = function(*(part.value if isinstance(part, Value) else part for part in arguments))
        return Value(state), Value(report)

    def wait(self, handles: Sequence[Any]) -> Iterable[Any]:
        return handles

    def get(self, handle: Any) -> Any:
        return handle.value

    def cancel(self, handles: Sequence[Any]) -> None:
        pass


class Tree:
    """The binary tree over the numbers of leaves: which states merge, whatever the order in which they come."""

    def __init__(self, leaves: int) -> None:
        self._leaves = leaves
        self._top = (leaves - 1).bit_length()
        self._ready: dict[tuple[int, int], Any] = {}

    def add(self, level: int, number: int, state: Any) -> tuple[int, int, Any, Any] | None:
        """Takes the state of a subtree. Returns the next level and number, and the states to merge there, if both are here."""
        while level < self._top and (number ^ 1) << level >= self._leaves:
            # It has no neighbour on this level.
            level, number = level + 1, number // 2
        other = self._ready.pop((level, number ^ 1), None)
        if other is None:
            self._ready[level, number] = state
            return None
        left, right = (other, state) if number % 2 else (state, other)
        return level + 1, number // 2, left, right

    def root(self) -> Any:
        return self._ready[self._top, 0]


def reduce(
    engine: Engine, task: Task, in_flight: int, done: Callable[[Leaf], None], shuffle: int | None = None
) -> bytes:
    """Makes all leaves, merges them as a tree, and returns the state of all.

    Starts no leaf while `in_flight` leaves and merges run. `shuffle` is the seed of another order of starting them.
    """
    shards = task.plan.shards()
    waiting = list(reversed(shards))
    if shuffle is not None:
        random.Random(shuffle).shuffle(waiting)
    tree = Tree(len(shards))
    # By the handle of the report: level and number in the tree, the state, and what errors call it.
    running: dict[Any, tuple[int, int, Any, str]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < in_flight:
                shard = waiting.pop()
                state, report = engine.start(run_leaf, task, shard)
                running[report] = (0, shard.index, state, task.plan.describe(shard))
            for report in engine.wait(list(running)):
                level, number, state, place = running.pop(report)
                try:
                    result = engine.get(report)
                except ResiduaError:
                    raise
                except Exception as error:
                    raise WorkerError(f"{place}: {type(error).__name__}: {error}") from error
                if level == 0:
                    done(result)
                pair = tree.add(level, number, state)
                if pair is not None:
                    level, number, left, right = pair
                    last = min((number + 1) << level, len(shards)) - 1
                    place = f"the merge of shards {number << level} to {last}"
                    state, report = engine.start(run_merge, task, place, left, right)
                    running[report] = (level, number, state, place)
    except BaseException:
        engine.cancel(list(running))
        raise
    return bytes(engine.get(tree.root()))
