"""``residua.MovingStatistics`` over tasks."""

from __future__ import annotations

import numpy as np
import pytest
import residua

DIM = 6


def task(rng: np.random.Generator, classes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Inputs around a centre per class, with labels."""
    labels = np.repeat(classes, 60)
    return rng.standard_normal((len(labels), DIM)) + 3 * np.eye(DIM)[labels % DIM], labels


def statistics(features: np.ndarray, labels: np.ndarray) -> residua.ClassStatistics:
    builder = residua.ClassStatistics.builder(DIM)
    builder.add(features, labels)
    return builder.finish()


def test_old_classes_move_and_new_ones_join(rng) -> None:
    models = [np.eye(DIM) + 0.4 * rng.standard_normal((DIM, DIM)) for _ in range(3)]
    tasks, other = [task(rng, [2 * t, 2 * t + 1]) for t in range(3)], rng.standard_normal((500, DIM))
    moving = residua.MovingStatistics(DIM, residua.Linear(noise=0.0))
    expected = None
    for number, ((inputs, labels), model) in enumerate(zip(tasks, models)):
        after = inputs @ model
        if number > 0:
            earlier = models[number - 1]
            moving.begin_task(inputs @ earlier, auxiliary=other @ earlier)
            pairs = [np.concatenate([inputs @ m, other @ m]) for m in (earlier, model)]
            expected = residua.Linear(noise=0.0).fit(*pairs).apply(expected)
        moving.end_task(after, labels, auxiliary=other @ model)
        expected = statistics(after, labels) if expected is None else expected | statistics(after, labels)
    assert moving.statistics.labels == list(range(6))
    true = statistics(tasks[0][0] @ models[2], tasks[0][1])
    for label in range(6):
        np.testing.assert_array_equal(moving.statistics[label].mean, expected[label].mean)
    for label in (0, 1):
        # The models are linear, so a linear method follows them.
        np.testing.assert_allclose(moving.statistics[label].mean, true[label].mean, atol=0.05)


def test_labels_estimate_the_errors(rng) -> None:
    (old, old_labels), (new, labels) = task(rng, [0, 1]), task(rng, [2, 3])
    drift = np.eye(DIM) + 0.4 * rng.standard_normal((DIM, DIM))
    moving = residua.MovingStatistics(DIM)
    moving.end_task(old, old_labels)
    moving.begin_task(new)
    moving.end_task(new @ drift, labels)
    fitted = residua.Linear().fit(new, new @ drift, labels=labels)
    unlabelled = residua.Linear().fit(new, new @ drift)
    errors = fitted.apply(statistics(old, old_labels)).errors
    np.testing.assert_array_equal(moving.statistics.errors[:2], errors)
    assert (unlabelled.apply(statistics(old, old_labels)).errors != errors).any()


def test_a_call_that_fails_changes_nothing(rng) -> None:
    moving, (features, labels) = residua.MovingStatistics(DIM), task(rng, [0, 1])
    moving.end_task(features, labels)
    first, (features, labels) = moving.statistics, task(rng, [2, 3])
    with pytest.raises(residua.UsageError, match="begin_task"):
        moving.end_task(features, labels)
    with pytest.raises(residua.UsageError, match=r"\[120, 5\], not \[samples, 6\]"):
        moving.begin_task(features[:, :5])
    moving.begin_task(features[:50])
    with pytest.raises(residua.UsageError, match="50 inputs before the task, 120 after it"):
        moving.end_task(features, labels)
    with pytest.raises(residua.InputError):
        moving.end_task(np.full((50, DIM), np.nan), np.zeros(50, int))
    assert moving.statistics is first
    moving.end_task(features[:50], labels[:50])
    assert moving.statistics.labels == [0, 1, 2]
