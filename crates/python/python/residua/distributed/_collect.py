"""Class statistics of many files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from .. import _native
from .._native import ClassStatistics
from .._progress import bar
from ._plan import LEAF_ROWS, Plan, Shard, finish, plan
from ._run import Engine, Here, Leaf, Task, reduce, run_leaf


def collect(
    files: Sequence[str | os.PathLike[str]],
    *,
    labels: Sequence[str | os.PathLike[str]],
    engine: str | None = None,
    work_dir: str | os.PathLike[str] | None = None,
    memory_budget: int | str | None = None,
    leaf_rows: int = LEAF_ROWS,
    threads: int = 1,
    in_flight: int | None = None,
    retries: int = 3,
    storage: str = "smallest",
    precision: str = "f64",
    shrinkage: str | float | None = None,
    progress: bool | Callable[[str, str, int, int], None] | None = None,
    on_leaf: Callable[[Leaf], None] | None = None,
    shuffle: int | None = None,
) -> ClassStatistics:
    """Collects class statistics of many files. The result has the bits of a single process, whatever the engine.

    Args:
        files: Features `[n, d]`: `.npy` files, or tensors as `FILE.safetensors:TENSOR`. Every worker must see them under
            these paths.
        labels: Labels `[n]` of each of them.
        engine: `ray`, `dask`, or None for this process. Ray takes the cluster that `ray.init` connected to, Dask the current
            client.
        work_dir: A folder that all workers see. Leaves are kept there: a run that was stopped goes on where it was.
        memory_budget: The bytes that a leaf, a merge or the result may take: a number, or a text such as `512MiB`.
        leaf_rows: Rows of a leaf. The last bits of the statistics depend on it, and on nothing else here.
        threads: Threads of a leaf or a merge; with Ray also the CPUs that it asks for. An engine alone uses it.
        in_flight: The most leaves and merges at a time, unless it is what the cluster can run at once.
        retries: How often Ray tries a leaf again whose worker is lost. Dask has a setting for that:
            `distributed.scheduler.allowed-failures`.
        storage, precision, shrinkage: As in `ClassStatistics.builder`.
        progress: True for a bar, or a function of a verb, a shard, and leaves done and in all.
        on_leaf: A function that is called with every leaf that is done.
        shuffle: The seed of another order in which leaves are started. It changes no bit.

    Raises:
        UsageError: an argument has no such value, or there is no client.
        InputError, IoError, BudgetError: as when one process collects; the text names the shard and the worker.
        WorkerError: a shard was lost with its worker too often.
    """
    work = plan(files, labels, leaf_rows=leaf_rows, memory_budget=memory_budget)
    running = _engine(engine, threads, retries)
    task = Task(work, _folder(work_dir), threads if engine else None)
    show = bar() if progress is True else progress or None
    count, total = 0, len(work.shards())

    def done(leaf: Leaf) -> None:
        nonlocal count
        count += 1
        if show is not None:
            show("collecting", f"shard {leaf.shard.index} on {leaf.worker}", count, total)
        if on_leaf is not None:
            on_leaf(leaf)

    state = reduce(running, task, in_flight or running.slots(), done, shuffle)
    return finish(
        state, storage=storage, precision=precision, shrinkage=shrinkage, memory_budget=memory_budget
    )


def save_shard(shard: Shard, plan: Plan, work_dir: str | os.PathLike[str]) -> Leaf:
    """Makes a leaf for a later `collect` with this `work_dir`, unless it is there already.

    For processes that no engine starts, such as those of torchrun.
    """
    return run_leaf(Task(plan, _folder(work_dir), None), shard)[1]


def _folder(work_dir: str | os.PathLike[str] | None) -> str | None:
    # Workers may have another current folder.
    return None if work_dir is None else os.path.abspath(work_dir)


def _engine(name: str | None, threads: int, retries: int) -> Engine:
    if threads < 1:
        raise _native.UsageError(f"threads is {threads}; a leaf takes at least one")
    try:
        match name:
            case None:
                return Here()
            case "ray":
                from .ray import Ray

                return Ray(threads, retries)
            case "dask":
                from .dask import Dask

                return Dask()
    except ImportError as error:
        raise _native.UsageError(f"engine {name!r} is not installed: {error}") from error
    raise _native.UsageError(f"engine is {name!r}; there are 'ray', 'dask' and None")
