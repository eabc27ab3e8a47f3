"""Statistics in parts, without an engine."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import residua
from residua.distributed import Leaf, collect, leaf, merge, plan, save_shard
from residua.distributed._plan import finish
from residua.distributed._run import Tree

DIM, LEAF = 8, 100


@pytest.fixture
def files(tmp_path: Path, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    names: tuple[list[str], list[str]] = ([], [])
    for number, rows in enumerate((130, 1, 280, 55)):
        for kind, values in (("x", rng.standard_normal((rows, DIM), "f4")), ("y", rng.integers(0, 3, rows))):
            names["xy".index(kind)].append(str(tmp_path / f"{kind}{number}.npy"))
            np.save(tmp_path / f"{kind}{number}.npy", values)
    return names


def saved(statistics: residua.ClassStatistics) -> bytes:
    statistics.save("saved.safetensors")
    return Path("saved.safetensors").read_bytes()


def single(files: tuple[list[str], list[str]]) -> bytes:
    builder = residua.ClassStatistics.builder(DIM, leaf_rows=LEAF)
    for x, y in zip(*files, strict=True):
        builder.add(np.load(x), np.load(y))
    # Only a builder that saw all samples notes where they came from; a state has no place for that.
    builder.save("state.safetensors")
    return saved(residua.StatisticsBuilder.load("state.safetensors").finish())


def test_leaves_merge_to_the_bytes_of_a_single_process(files) -> None:
    work = plan(*files, leaf_rows=LEAF)
    states = [leaf(shard, work) for shard in work.shards()]
    assert len(states) == 5 and work.total == 466
    a, b, c, d, e = states
    tree = merge(merge(merge(a, b), merge(c, d)), e)
    chain = merge(a, merge(b, merge(c, merge(d, e))))
    assert tree == chain
    assert saved(finish(tree)) == single(files)
    assert saved(collect(files[0], labels=files[1], leaf_rows=LEAF, in_flight=4)) == single(files)
    with pytest.raises(residua.InputError, match="start at leaf 0; leaf 2 comes next"):
        merge(b, a)
    with pytest.raises(residua.InputError, match="rows 0 to 200 of 466"):
        finish(merge(a, b))
    damaged = bytearray(a)
    damaged[-3] ^= 1
    with pytest.raises(residua.InputError, match="hash"):
        merge(bytes(damaged), b)


def test_another_order_of_files_is_another_sum(files) -> None:
    turned = [files[0][::-1], files[1][::-1]]
    assert saved(collect(turned[0], labels=turned[1], leaf_rows=LEAF)) != single(files)


@pytest.mark.parametrize("leaves", range(1, 12))
def test_the_tree_merges_neighbours_in_any_order(leaves: int) -> None:
    """Every order of arrival gives the same merges, each of two neighbours, the left one first."""
    found = set()
    orders = itertools.permutations(range(leaves)) if leaves < 6 else [np.random.default_rng(i).permutation(leaves) for i in range(50)]
    for order in orders:
        tree, merges = Tree(leaves), set()
        for number in order:
            place = (0, int(number), (int(number), int(number) + 1))
            while (pair := tree.add(*place)) is not None:
                level, at, left, right = pair
                assert left[1] == right[0]
                merges.add((left, right))
                place = (level, at, (left[0], right[1]))
        assert tree.root() == (0, leaves)
        found.add(frozenset(merges))
    assert len(found) == 1 and len(next(iter(found))) == leaves - 1


def test_a_stopped_run_goes_on(files) -> None:
    leaves: list[Leaf] = []

    def stop(leaf: Leaf) -> None:
        leaves.append(leaf)
        if len(leaves) == 3:
            raise KeyboardInterrupt

    options = {"labels": files[1], "leaf_rows": LEAF, "work_dir": "work"}
    with pytest.raises(KeyboardInterrupt):
        collect(files[0], on_leaf=stop, **options)
    damaged, whole = sorted(os.listdir("work"))[:2]
    content = bytearray(Path("work", damaged).read_bytes())
    content[-1] ^= 1
    Path("work", damaged).write_bytes(content)
    leaves.clear()
    # A damaged leaf is made again.
    assert saved(collect(files[0], on_leaf=leaves.append, **options)) == single(files)
    assert [leaf.made for leaf in leaves] == [True, False, False, True, True]
    assert len(os.listdir("work")) == 5 and whole in os.listdir("work")
    # Other leaves or other files are another plan.
    leaves.clear()
    collect(files[0], on_leaf=leaves.append, **{**options, "leaf_rows": 200})
    assert all(leaf.made for leaf in leaves)
    leaves.clear()
    np.save(files[0][1], np.ones((1, DIM), "f4"))
    os.utime(files[0][1], (1, 1))
    collect(files[0], on_leaf=leaves.append, **options)
    assert all(leaf.made for leaf in leaves)


def test_processes_that_nobody_started_make_their_shards(files) -> None:
    """The recipe for torchrun: each rank saves its shards, rank 0 merges all."""
    work = plan(*files, leaf_rows=LEAF)
    for rank in (2, 0, 1):
        for shard in work.shards()[rank::3]:
            assert save_shard(shard, work, "work").made
    leaves: list[Leaf] = []
    made = collect(files[0], labels=files[1], leaf_rows=LEAF, work_dir="work", on_leaf=leaves.append)
    assert not any(leaf.made for leaf in leaves)
    assert saved(made) == single(files)


def test_builders_are_saved_and_loaded(files) -> None:
    x, y = np.load(files[0][2]), np.load(files[1][2])
    builder = residua.ClassStatistics.builder(DIM)
    builder.add(x[:100], y[:100])
    builder.save("state.safetensors")
    loaded = residua.StatisticsBuilder.load("state.safetensors", precision="f64")
    assert (loaded.samples, loaded.first_leaf, loaded.dim) == (100, 0, DIM)
    other = residua.ClassStatistics.builder(DIM)
    other.add(x[100:], y[100:])
    loaded.merge(other)
    builder.add(x[100:], y[100:])
    np.testing.assert_allclose(loaded.finish()[1].covariance(), builder.finish()[1].covariance(), rtol=1e-12)
    for finished in (lambda: other.samples, lambda: other.save("x"), lambda: loaded.merge(other)):
        with pytest.raises(residua.UsageError, match="finished"):
            finished()
    with pytest.raises(residua.UsageError, match="another thread"):
        again = residua.ClassStatistics.builder(DIM)
        again.merge(again)


def test_tensors_of_safetensors_are_read(files, tmp_path: Path) -> None:
    from checkpoints import save

    pairs = []
    for x, y in zip(*files, strict=True):
        path = save(Path(x).with_suffix(".safetensors"), {"f": np.load(x), "l": np.load(y)})
        pairs.append((f"{path}:f", f"{path}:l"))
    features, labels = zip(*pairs, strict=True)
    assert saved(collect(features, labels=labels, leaf_rows=LEAF)) == single(files)


def test_errors_name_the_shard_and_the_worker(files) -> None:
    x = np.load(files[0][2])
    x[150, 3] = np.nan
    np.save(files[0][2], x)
    with pytest.raises(residua.InputError, match=rf"shard 2 \(rows 200 to 300, .*x2.npy\) on .*:{os.getpid()}: .*x2.npy.*row 150, column 3"):
        collect(files[0], labels=files[1], leaf_rows=LEAF)
    with pytest.raises(residua.BudgetError, match="shard 0"):
        collect(files[0], labels=files[1], leaf_rows=LEAF, memory_budget=2000)
    with pytest.raises(residua.UsageError, match="4 files of features and 1 of labels"):
        collect(files[0], labels=files[1][:1])
    with pytest.raises(residua.UsageError, match="'spark'"):
        collect(files[0], labels=files[1], engine="spark")
    np.save(files[1][0], np.zeros(3, int))
    with pytest.raises(residua.InputError, match="y0.npy: labels: 3 rows where 130 belong"):
        collect(files[0], labels=files[1])


def test_progress_counts_leaves(files) -> None:
    seen = []
    collect(files[0], labels=files[1], leaf_rows=LEAF, progress=lambda *call: seen.append(call))
    assert [call[2:] for call in seen] == [(done, 5) for done in range(1, 6)]
    assert seen[0][:2] == ("collecting", seen[0][1]) and seen[0][1].startswith("shard 0 on ")
