"""Class statistics in a training loop that learns task after task."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._native import ClassStatistics, Linear, Method, UsageError

__all__ = ["MovingStatistics"]


class MovingStatistics:
    """A Gaussian of every class seen so far. After each task the old ones move along with the model, and the new ones join.

    It learns the movement from pairs: features of the same inputs by the model before and after the task. The inputs are those
    of the new task and, much better, also some auxiliary ones: any unlabelled inputs of the same kind. Only the features before
    a task are kept, and only until the task ends.

    Args:
        dim: the number of features.
        method: how old classes move, such as ``residua.Rff()``; ``residua.Linear()`` by default.
    """

    statistics: ClassStatistics | None
    """All classes; None before the first task ends. ``residua.PooledQda(moving.statistics)`` is a classifier over them."""

    def __init__(self, dim: int, method: Method | None = None) -> None:
        self.dim, self.method = dim, method or Linear()
        self.statistics = None
        self._before: NDArray[Any] | None = None

    def begin_task(self, features: Any, auxiliary: Any = None) -> None:
        """Call it before training. The first task does not need it.

        Args:
            features: ``[n, dim]`` of the new task's inputs; float32 or float64, NumPy or torch on the CPU without a gradient.
            auxiliary: ``[m, dim]`` of auxiliary inputs.

        Raises:
            UsageError: a shape does not fit.
        """
        self._before = self._rows(features, auxiliary)

    def end_task(self, features: Any, labels: Any, auxiliary: Any = None) -> None:
        """Call it after training, with features of the same inputs in the same order. A call that fails changes nothing.

        Args:
            features: ``[n, dim]`` of the new task's inputs.
            labels: ``[n]`` integers. A class that is known already is joined with its new samples.
            auxiliary: ``[m, dim]`` of the auxiliary inputs.

        Raises:
            UsageError: a shape or the number of inputs does not fit, or `begin_task` was not called.
            InputError: a feature is not a finite number.
        """
        builder = ClassStatistics.builder(self.dim)
        builder.add(features, labels)
        statistics = builder.finish()
        if self.statistics is not None:
            if self._before is None:
                raise UsageError("a task after the first needs begin_task before its training")
            after = self._rows(features, auxiliary)
            if len(after) != len(self._before):
                raise UsageError(f"{len(self._before)} inputs before the task, {len(after)} after it")
            # They make the estimated errors better; auxiliary inputs have none.
            known = labels if auxiliary is None else None
            statistics = self.method.fit(self._before, after, labels=known).apply(self.statistics) | statistics
        self.statistics, self._before = statistics, None

    def _rows(self, *parts: Any) -> NDArray[Any]:
        arrays = [_array(part) for part in parts if part is not None]
        for array in arrays:
            if array.ndim != 2 or array.shape[1] != self.dim:
                raise UsageError(f"features are {list(array.shape)}, not [samples, {self.dim}]")
        return np.concatenate(arrays)


def _array(features: Any) -> NDArray[Any]:
    try:
        return np.asarray(features)
    # How torch refuses a gradient, another device, or bfloat16.
    except (RuntimeError, TypeError) as error:
        raise UsageError(f"features: {error}") from error
