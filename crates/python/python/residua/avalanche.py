"""Class statistics that follow a model through Avalanche's experiences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from avalanche.training.plugins import SupervisedPlugin  # type: ignore[import-not-found, import-untyped, unused-ignore]
from torch import Tensor, nn
from torch.utils.data import DataLoader

from residua import ClassStatistics, Linear
from residua._native import Method

__all__ = ["ClassStatisticsPlugin"]


class ClassStatisticsPlugin(SupervisedPlugin):  # type: ignore[misc, unused-ignore]
    """Keeps a Gaussian of every class seen so far, and moves the old ones along when the model learns new classes.

    Before an experience it takes the features of the experience's samples; afterwards it takes them again, learns from the pairs how
    features moved, applies that to the statistics of the old classes, and adds the new classes. No sample is kept.
    ``plugin.statistics`` holds all classes; ``residua.Lda(plugin.statistics)`` is a classifier over them.

    Args:
        dim: the number of features.
        features: ``features(model, x)`` gives the features ``[batch, dim]`` of the inputs ``x``.
        method: how old classes are moved, such as ``residua.Rff()``; ``residua.Linear()`` by default.
        batch_size: samples that go through the model at a time.

    Raises:
        UsageError: in training, when features have another shape, or are not finite.
    """

    statistics: ClassStatistics | None

    def __init__(
        self,
        dim: int,
        features: Callable[[nn.Module, Tensor], Tensor],
        method: Method | None = None,
        batch_size: int = 256,
    ) -> None:
        super().__init__()
        self.dim, self.features, self.method, self.batch_size = dim, features, method or Linear(), batch_size
        self.statistics = None
        self._before: Tensor | None = None

    def before_training_exp(self, strategy: Any, *_: Any, **__: Any) -> None:
        """Takes the features of the new samples before the model changes."""
        self._before = None if self.statistics is None else self._take(strategy)[0]

    def after_training_exp(self, strategy: Any, *_: Any, **__: Any) -> None:
        """Moves the old classes and adds the new ones."""
        after, labels = self._take(strategy)
        new = ClassStatistics.builder(self.dim)
        new.add(after, labels)
        if self.statistics is None or self._before is None:
            self.statistics = new.finish()
        else:
            self.statistics = self.method.fit(self._before, after).apply(self.statistics) | new.finish()
        self._before = None

    def _take(self, strategy: Any) -> tuple[Tensor, Tensor]:
        """Features and labels of the experience's samples, always in the same order."""
        model, dataset = strategy.model, strategy.experience.dataset
        training, found, labels = model.training, [], []
        model.eval()
        try:
            with torch.no_grad():
                for x, y, *_ in DataLoader(dataset.eval(), batch_size=self.batch_size):
                    found.append(self.features(model, x.to(strategy.device)).float().cpu())
                    labels.append(y.long())
        finally:
            model.train(training)
        return torch.cat(found), torch.cat(labels)
