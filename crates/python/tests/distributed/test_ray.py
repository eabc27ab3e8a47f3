"""Ray, on a real cluster: a head without processors, and two nodes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import residua
from common import LEAF, Dying, check_killed_worker, check_stopped_driver, single, together, write
from ray.cluster_utils import Cluster
from residua.distributed import _run, collect

MEMORY = 80 << 20
SETUP = """
import contextlib, ray
@contextlib.contextmanager
def cluster():
    ray.init(address="auto", log_to_driver=False)
    yield
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Workers import the tests' helpers.
    path = os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])
    os.environ["PYTHONPATH"] = path
    cluster = Cluster(
        initialize_head=True,
        connect=True,
        head_node_args={"num_cpus": 0, "object_store_memory": MEMORY, "include_dashboard": False},
    )
    cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
    cluster.add_node(num_cpus=2, object_store_memory=MEMORY, resources={"second": 1})
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_bytes_are_those_of_a_single_process(cluster: Cluster, tmp_path: Path, workers: int) -> None:
    files = write(tmp_path)
    made, leaves = together(*files, tmp_path, engine="ray", in_flight=workers, shuffle=workers)
    assert made == single(*files, tmp_path)
    assert sorted(leaf.shard.index for leaf in leaves) == list(range(10))
    assert [leaf.shard.index for leaf in leaves] != list(range(10))
    pids = {leaf.worker for leaf in leaves}
    assert len(pids) >= min(workers, 2) and f"{_run.worker()}" not in pids


def test_a_killed_worker_is_replaced(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_killed_worker("ray", tmp_path, monkeypatch)


def test_a_worker_that_always_dies_is_named(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write(tmp_path)
    (tmp_path / "attempts").mkdir()
    monkeypatch.setattr(_run, "run_leaf", Dying(tmp_path / "attempts", 4).in_place_of_run_leaf())
    with pytest.raises(residua.distributed.WorkerError, match=r"shard 4 \(rows 1024 to 1280, .*x2.npy\): WorkerCrashedError"):
        together(*files, tmp_path, engine="ray", retries=0)


def test_errors_come_from_the_worker(cluster: Cluster, tmp_path: Path) -> None:
    files = write(tmp_path)
    os.truncate(files[0][2], 100_000)
    with pytest.raises(residua.ResiduaError, match=r"x2\.npy"):
        together(*files, tmp_path, engine="ray")
    files = write(tmp_path)
    with pytest.raises(residua.BudgetError, match=r"shard \d+ \(rows .* on .*:\d+: memory budget too small"):
        together(*files, tmp_path, engine="ray", memory_budget=3000)


def test_a_stopped_driver_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    check_stopped_driver("ray", tmp_path, SETUP)


def test_a_node_that_goes_takes_nothing_along(cluster: Cluster, tmp_path: Path) -> None:
    """The last test: a node leaves when all leaves are made and merges wait. What it held is made again."""
    files = write(tmp_path)
    node = cluster.add_node(num_cpus=2, object_store_memory=MEMORY, resources={"third": 1})
    cluster.wait_for_nodes()
    seen = []

    def leave(leaf: residua.distributed.Leaf) -> None:
        seen.append(leaf)
        if len(seen) == 10:
            cluster.remove_node(node, allow_graceful=False)
            time.sleep(1)

    made = collect(files[0], labels=files[1], engine="ray", leaf_rows=LEAF, in_flight=10, on_leaf=leave)
    made.save(tmp_path / "made.safetensors")
    assert (tmp_path / "made.safetensors").read_bytes() == single(*files, tmp_path)
