"""Class statistics that follow a model through Avalanche's experiences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from avalanche.training.plugins import SupervisedPlugin  # type: ignore[import-not-found, import-untyped, unused-ignore]
from torch import Tensor, nn
from torch.utils.data import DataLoader

from residua import ClassStatistics, Method
from residua.continual import MovingStatistics

__all__ = ["ClassStatisticsPlugin"]


class ClassStatisticsPlugin(SupervisedPlugin):  # type: ignore[misc, unused-ignore]
    """Keeps a Gaussian of every class seen so far, and moves the old ones along when the model learns new classes.

    Before an experience it takes the features of the experience's samples; afterwards it takes them again, learns from the pairs how
    features moved, applies that to the statistics of the old classes, and adds the new classes. No sample is kept.
    ``plugin.statistics`` holds all classes; ``residua.PooledQda(plugin.statistics)`` is a classifier over them.

    Args:
        dim: the number of features.
        features: ``features(model, x)`` gives the features ``[batch, dim]`` of the inputs ``x``.
        method: how old classes are moved, such as ``residua.Rff()``; ``residua.Linear()`` by default.
        batch_size: samples that go through the model at a time.
        auxiliary: unlabelled inputs of the same kind, ``[m, …]``. With a few thousand of them old classes move far better.

    Raises:
        UsageError: in training, when features have another shape, or are not finite.
    """

    def __init__(
        self,
        dim: int,
        features: Callable[[nn.Module, Tensor], Tensor],
        method: Method | None = None,
        batch_size: int = 256,
        auxiliary: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.features, self.batch_size, self.auxiliary = features, batch_size, auxiliary
        self._moving = MovingStatistics(dim, method)

    @property
    def statistics(self) -> ClassStatistics | None:
        """All classes; None before the first experience ends."""
        return self._moving.statistics

    def before_training_exp(self, strategy: Any, *_: Any, **__: Any) -> None:
        """Takes the features of the new samples before the model changes."""
        if self.statistics is not None:
            samples, _labels, auxiliary = self._take(strategy)
            self._moving.begin_task(samples, auxiliary)

    def after_training_exp(self, strategy: Any, *_: Any, **__: Any) -> None:
        """Moves the old classes and adds the new ones."""
        self._moving.end_task(*self._take(strategy))

    def _take(self, strategy: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        """Features and labels of the experience's samples, always in the same order, and features of the auxiliary inputs."""
        model, dataset = strategy.model, strategy.experience.dataset
        training, found, labels, auxiliary = model.training, [], [], None

        def run(x: Tensor) -> Tensor:
            return self.features(model, x.to(strategy.device)).float().cpu()

        model.eval()
        try:
            with torch.no_grad():
                for x, y, *_ in DataLoader(dataset.eval(), batch_size=self.batch_size):
                    found.append(run(x))
                    labels.append(y.long())
                if self.auxiliary is not None:
                    blocks = range(0, len(self.auxiliary), self.batch_size)
                    auxiliary = torch.cat([run(self.auxiliary[first : first + self.batch_size]) for first in blocks])
        finally:
            model.train(training)
        return torch.cat(found), torch.cat(labels), auxiliary
