"""Class statistics, methods and classifiers, against NumPy in float64."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import residua


def collect(features: np.ndarray, labels: np.ndarray, batch: int = 50, **options) -> residua.ClassStatistics:
    builder = residua.ClassStatistics.builder(features.shape[1], **options)
    for first in range(0, len(features), batch):
        builder.add(features[first : first + batch], labels[first : first + batch])
    return builder.finish()


@pytest.mark.parametrize("mean", [0.0, 1e6])
@pytest.mark.parametrize("samples", [40, 700])
def test_statistics_are_those_of_numpy(rng, mean: float, samples: int) -> None:
    labels = rng.integers(0, 3, samples)
    features = rng.standard_normal((samples, 24)) @ rng.standard_normal((24, 24)) + mean
    statistics = collect(features, labels)
    assert statistics.labels == [0, 1, 2] and len(statistics) == 3 and statistics.samples == samples
    for label in statistics:
        of = features[labels == label]
        assert statistics[label].count == len(of)
        np.testing.assert_allclose(statistics[label].mean, of.mean(0), rtol=1e-9, atol=1e-9)
        expected = np.cov((of - of.mean(0)).T)
        np.testing.assert_allclose(statistics[label].covariance(), expected, atol=1e-9 * np.abs(expected).max())


def test_single_precision_is_read_as_it_is(rng) -> None:
    labels, features = rng.integers(0, 2, 300), rng.standard_normal((300, 8)).astype("f4")
    wide = collect(features.astype("f8"), labels)
    for other in (features, np.asfortranarray(features), np.repeat(features, 2, 0)[::2], features.astype(">f4")):
        np.testing.assert_array_equal(collect(other, labels)[1].covariance(), wide[1].covariance())
    np.testing.assert_array_equal(collect(features, labels.astype("u1"), 7)[0].mean, wide[0].mean)


def test_statistics_merge_save_and_load(rng) -> None:
    features, labels = rng.standard_normal((400, 6)), rng.integers(0, 4, 400)
    whole = collect(features, labels)
    both = collect(features[:150], labels[:150]) | collect(features[150:], labels[150:])
    both.save("statistics.safetensors")
    loaded = residua.ClassStatistics.load("statistics.safetensors")
    for label in range(4):
        assert label in loaded and loaded[label].count == whole[label].count
        np.testing.assert_allclose(loaded[label].covariance(), whole[label].covariance(), rtol=1e-9, atol=1e-12)
    assert 9 not in loaded
    with pytest.raises(KeyError):
        loaded[9]


def test_storage_precision_and_shrinkage(rng) -> None:
    features, labels = rng.standard_normal((200, 12)), np.zeros(200, int)
    plain = collect(features, labels)[0].covariance()
    single = collect(features, labels, precision="f32")[0].covariance()
    np.testing.assert_array_equal(single, plain.astype("f4"))
    shrunk = collect(features, labels, shrinkage=0.25)[0].covariance()
    expected = 0.75 * plain + 0.25 * np.trace(plain) / 12 * np.eye(12)
    np.testing.assert_allclose(shrunk, expected, rtol=1e-9, atol=1e-12)
    low = collect(features, labels, storage="low-rank:3")[0].covariance()
    np.testing.assert_allclose(np.diag(low), np.diag(plain), rtol=1e-6)
    assert np.abs(low - plain).max() > 0.01


@pytest.mark.parametrize("samples", [5, 500])
def test_draws_have_the_moments_of_the_class(rng, samples: int) -> None:
    features = rng.standard_normal((samples, 8)) @ rng.standard_normal((8, 8)) + 3
    known = collect(features, np.zeros(samples, int))[0]
    draws = known.sample(60_000, seed=3)
    assert draws.shape == (60_000, 8) and draws.dtype == np.float64
    scale = np.sqrt(np.diag(known.covariance()).max())
    np.testing.assert_allclose(draws.mean(0), known.mean, atol=0.03 * scale)
    np.testing.assert_allclose(np.cov(draws.T), known.covariance(), atol=0.05 * scale**2)
    np.testing.assert_array_equal(draws, known.sample(60_000, seed=3))
    assert not np.array_equal(draws, known.sample(60_000, seed=4))
    with pytest.raises(residua.BudgetError):
        known.sample(1 << 60)


METHODS = [residua.Linear, residua.Rff, residua.WeakNonlinear, residua.Attention]


@pytest.mark.parametrize("method", METHODS)
def test_methods_move_classes_after_the_features(rng, method: type) -> None:
    before = rng.standard_normal((600, 5)).astype("f4")
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    move = lambda x: x @ turn.T * 1.1 + 0.5  # noqa: E731
    labels = rng.integers(0, 2, 600)
    stale = collect(before, labels)
    fitted = method().fit(before, move(before).astype("f4"))
    moved = fitted.apply(stale)
    error = {
        name: np.linalg.norm(found[0].mean - move(before)[labels == 0].mean(0))
        for name, found in (("stale", stale), ("moved", moved))
    }
    assert error["moved"] < 0.3 * error["stale"]
    assert fitted.apply_features(before[:7]).shape == (7, 5)
    if method is residua.Linear:
        np.testing.assert_allclose(moved[0].covariance(), np.cov(move(before)[labels == 0].T), atol=0.01)
        np.testing.assert_allclose(fitted.apply_features(before.astype("f8")), move(before), atol=0.01)


def test_settings_reach_the_methods(rng) -> None:
    before, after = rng.standard_normal((100, 3)), rng.standard_normal((100, 3))
    statistics = collect(before, np.zeros(100, int))
    move = lambda method: method.fit(before, after).apply(statistics)[0].mean  # noqa: E731
    for one, other in [
        (residua.Linear(), residua.Linear(ridge=10.0)), (residua.Linear(), residua.Linear("compat")),
        (residua.Rff(seed=1), residua.Rff(seed=2)), (residua.Rff(), residua.Rff(features=16)),
        (residua.WeakNonlinear(), residua.WeakNonlinear(hidden=8)),
        (residua.Attention(), residua.Attention(temperature=2.0)), (residua.Attention(), residua.Attention(nearest=3)),
    ]:
        assert not np.array_equal(move(one), move(other))
    with pytest.raises(residua.UsageError, match="mode"):
        residua.Rff("fast")
    with pytest.raises(residua.UsageError):
        residua.Linear(noise=7.0).fit(before, after)


def test_classifiers(rng) -> None:
    centres = rng.standard_normal((4, 6)) * 4
    labels = rng.integers(0, 4, 800)
    features = centres[labels] + rng.standard_normal((800, 6))
    statistics = collect(features, labels * 10)
    nearest = np.argmin(((features[:, None] - np.stack([statistics[10 * c].mean for c in range(4)])) ** 2).sum(2), 1)
    np.testing.assert_array_equal(residua.Ncm(statistics).predict(features), nearest * 10)
    classifiers = [residua.Lda, residua.Qda, residua.PooledQda, lambda s: residua.Ncm(s, metric="cosine")]
    for classifier in (new(statistics) for new in classifiers):
        predicted = classifier.predict(features.astype("f4"))
        assert predicted.dtype == np.int64 and np.mean(predicted == labels * 10) > 0.9
        assert classifier.labels == [0, 10, 20, 30]
        scores = classifier.scores(features)
        np.testing.assert_array_equal(np.array(classifier.labels)[scores.argmax(1)], classifier.predict(features))
    # The textbook formula, with the same regularisation.
    inner = [np.cov(features[labels == c].T) for c in range(4)]
    weights = np.array([(labels == c).sum() - 1 for c in range(4)])
    pooled = sum(w * c for w, c in zip(weights, inner)) / weights.sum()
    variance = np.trace(pooled) / 6
    average = pooled + 0.1 * variance * np.eye(6)
    means = np.stack([features[labels == c].mean(0) for c in range(4)])
    solved = np.linalg.solve(average, means.T)
    expected = features @ solved - 0.5 * (means.T * solved).sum(0)
    found = residua.Lda(statistics, uncertainty=False).scores(features)
    np.testing.assert_allclose(found - found[:, :1], expected - expected[:, :1], rtol=1e-6, atol=1e-8)
    # And pooled, with given weights; weights are chosen where that surely helps.
    for c, scores in enumerate(residua.PooledQda(statistics, own=0.3, ridge=0.2, uncertainty=False).scores(features).T):
        matrix = 0.3 * inner[c] + 0.7 * pooled + 0.2 * variance * np.eye(6)
        z = features - means[c]
        expected = -0.5 * ((z * np.linalg.solve(matrix, z.T).T).sum(1) + np.linalg.slogdet(matrix)[1])
        np.testing.assert_allclose(scores, expected, rtol=1e-6)
    low = residua.PooledQda(statistics, own=0.3, ridge=0.2, uncertainty=False, rank=6)
    np.testing.assert_allclose(low.scores(features)[:, 3], scores, rtol=1e-4)
    assert residua.PooledQda.choose(features, labels) == (None, None)
    shapes = np.exp(rng.standard_normal((4, 6)) * 1.5)
    own, ridge = residua.PooledQda.choose(shapes[labels] * rng.standard_normal((800, 6)), labels)
    assert own > 0.2 and ridge < 0.3
    with pytest.raises(residua.UsageError, match="own is 2"):
        residua.PooledQda(statistics, own=2)
    with pytest.raises(residua.UsageError, match="799 labels"):
        residua.PooledQda.choose(features, labels[1:])


def test_bad_input_is_refused_and_counts_nothing(rng) -> None:
    builder = residua.ClassStatistics.builder(4)
    good = rng.standard_normal((5, 4))
    bad = good.copy()
    bad[3, 2] = np.nan
    for features, labels, error, words in [
        (bad, np.zeros(5, int), residua.InputError, "row 3, column 2"),
        (good, np.zeros(4, int), residua.UsageError, "5 samples and 4 labels"),
        (good[:, :3], np.zeros(5, int), residua.UsageError, "4"),
        (good[0], np.zeros(1, int), residua.UsageError, "samples, dimension"),
        (good, np.zeros(5), residua.UsageError, "int64"),
        (good, np.array([0, 1, -1, 0, 0]), residua.UsageError, "label -1 of sample 2"),
        (good.astype(complex), np.zeros(5, int), residua.UsageError, "complex"),
        (good, np.zeros((5, 1), int), residua.UsageError, "labels"),
    ]:
        with pytest.raises(error, match=words):
            builder.add(features, labels)
    builder.add(good, [1] * 5)
    statistics = builder.finish()
    assert statistics.labels == [1] and statistics[1].count == 5
    with pytest.raises(residua.UsageError, match="finished"):
        builder.add(good, [1] * 5)
    with pytest.raises(residua.UsageError, match="finished"):
        builder.finish()
    with pytest.raises(residua.UsageError, match="5 samples, after has 4"):
        residua.Linear().fit(good, good[:4])
    with pytest.raises(residua.InputError):
        residua.Linear().fit(good[:0], good[:0])
    with pytest.raises(residua.BudgetError):
        residua.ClassStatistics.builder(4, memory_budget=100).add(good, [1] * 5)
    with pytest.raises(residua.InputError):
        statistics | collect(rng.standard_normal((4, 3)), np.zeros(4, int))
    Path("text").write_text("nothing")
    with pytest.raises(residua.InputError):
        residua.ClassStatistics.load("text")
    for options in ({"storage": "low-rank:x"}, {"storage": "big"}, {"precision": "f16"}, {"shrinkage": "much"}):
        with pytest.raises(residua.UsageError):
            residua.ClassStatistics.builder(4, **options)
    assert sorted(os.listdir()) == ["text"]


@pytest.mark.parametrize(
    "method", [residua.Linear(), residua.Attention(), residua.Rff(features=32), residua.WeakNonlinear(hidden=8)]
)
def test_a_fit_is_saved_and_loaded(rng, method: residua.Method) -> None:
    before = rng.standard_normal((300, 6))
    after = before @ rng.standard_normal((6, 6)) + 1
    fitted = method.fit(before, after)
    fitted.save("fit.safetensors")
    loaded = residua.Compensator.load("fit.safetensors")
    statistics = collect(before, np.zeros(300, int))
    for statistic in ("mean", "covariance"):
        found, expected = (getattr(fit.apply(statistics)[0], statistic) for fit in (loaded, fitted))
        same = (found(), expected()) if callable(found) else (found, expected)
        np.testing.assert_array_equal(*same)
    np.testing.assert_array_equal(loaded.apply_features(before), fitted.apply_features(before))
    with pytest.raises(residua.InputError, match="no class statistics|fitted compensator"):
        residua.ClassStatistics.load("fit.safetensors")
    with pytest.raises(residua.BudgetError):
        residua.Compensator.load("fit.safetensors", memory_budget=64)


def test_moved_statistics_know_their_errors_and_their_space() -> None:
    rng = np.random.default_rng(3)
    dim, classes, each = 6, 8, 60
    centres = 5 * rng.normal(size=(classes, dim))
    labels = np.repeat(np.arange(classes), each)
    before = (centres[labels] + rng.normal(size=(labels.size, dim))).astype(np.float32)
    after = (1.2 * before + 0.1 * rng.normal(size=before.shape)).astype(np.float32)
    old = residua.ClassStatistics.builder(dim, model="base")
    old.add(before[labels < 4], labels[labels < 4])
    stale = old.finish()
    assert stale.tag["model"] == "base" and stale.tag["task"] == 0 and len(stale.tag["samples"]) == 1
    assert not stale.errors.any()

    new = labels >= 4
    fitted = residua.Linear().fit(before[new], after[new], labels=labels[new])
    moved = fitted.apply(stale)
    assert moved.tag == {"model": None, "task": 1, "samples": stale.tag["samples"]}
    assert (moved.errors > 0).all() and moved[0].error == moved.errors[0]
    np.testing.assert_allclose(moved.errors, fitted.level * fitted.leverages(stale), rtol=1e-12)
    assert 0 < fitted.held_out_error < 1 and fitted.usual_leverage > 0
    with pytest.raises(residua.UsageError, match="twice"):
        moved | stale
    with pytest.raises(residua.UsageError, match="task already"):
        fitted.apply(moved)
    with pytest.raises(residua.UsageError, match="labels has 3"):
        residua.Linear().fit(before, after, labels=[0, 1, 2])
    # Three pairs are few for six dimensions.
    with pytest.warns(residua.CompensationWarning, match="3 pairs are few"):
        residua.Linear().fit(before[-3:], after[-3:]).apply(stale)
