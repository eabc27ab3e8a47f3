"""Dask, on a real cluster of processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import residua
from common import check_killed_worker, check_stopped_driver, single, together, write
from distributed import Client, LocalCluster

SETUP = """
import contextlib
from distributed import Client, LocalCluster
@contextlib.contextmanager
def cluster():
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        yield
"""


@pytest.fixture(params=[1, 2, 3])
def workers(request: pytest.FixtureRequest) -> Iterator[int]:
    yield from started(request.param)


@pytest.fixture
def two() -> Iterator[int]:
    yield from started(2)


def started(count: int) -> Iterator[int]:
    with LocalCluster(
        n_workers=count, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        with Client(cluster) as client:
            client.wait_for_workers(count)
            # Workers import the tests' helpers.
            client.run(__import__("sys").path.append, os.path.dirname(__file__))
            yield count


def test_bytes_are_those_of_a_single_process(workers: int, tmp_path: Path) -> None:
    files = write(tmp_path)
    made, leaves = together(*files, tmp_path, engine="dask", shuffle=workers)
    assert made == single(*files, tmp_path)
    assert sorted(leaf.shard.index for leaf in leaves) == list(range(10))
    assert [leaf.shard.index for leaf in leaves] != list(range(10))
    assert len({leaf.worker for leaf in leaves}) == workers


def test_a_killed_worker_is_replaced(two: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_killed_worker("dask", tmp_path, monkeypatch)


def test_errors_come_from_the_worker(two: int, tmp_path: Path) -> None:
    files = write(tmp_path)
    with pytest.raises(residua.BudgetError, match=r"shard \d+ \(rows .* on .*:\d+: memory budget too small"):
        together(*files, tmp_path, engine="dask", memory_budget=3000)


def test_a_stopped_driver_goes_on(two: int, tmp_path: Path) -> None:
    check_stopped_driver("dask", tmp_path, SETUP)


def test_a_missing_client_is_named(tmp_path: Path) -> None:
    files = write(tmp_path)
    with pytest.raises(residua.UsageError, match="no Dask client"):
        together(*files, tmp_path, engine="dask")
