"""``residua.avalanche`` on a run of three tasks."""

import numpy as np
import pytest
import torch
from torch import nn

import residua

pytest.importorskip("avalanche.training.templates")
from avalanche.benchmarks.scenarios.dataset_scenario import benchmark_from_datasets  # noqa: E402
from avalanche.benchmarks.utils import as_classification_dataset  # noqa: E402
from avalanche.training.supervised import Naive  # noqa: E402
from torch.utils.data import TensorDataset  # noqa: E402

from residua.avalanche import ClassStatisticsPlugin  # noqa: E402


def tasks():
    """Three tasks of two classes each, clouds around random centres."""
    generator = torch.Generator().manual_seed(0)
    centres = 2 * torch.randn(6, 16, generator=generator)
    for task in range(3):
        y = torch.arange(2 * task, 2 * task + 2).repeat(150)
        x = centres[y] + torch.randn(len(y), 16, generator=generator)
        data = TensorDataset(x, y)
        data.targets = y.tolist()
        yield x, y, as_classification_dataset(data)


@pytest.mark.parametrize("auxiliary", [None, torch.randn(400, 16, generator=torch.Generator().manual_seed(1))])
def test_old_classes_follow_the_model(auxiliary):
    torch.manual_seed(0)
    # Features that move linearly, so that a linear method can follow.
    model = nn.Sequential(nn.Linear(16, 24), nn.Linear(24, 6))
    data = list(tasks())
    benchmark = benchmark_from_datasets(train=[dataset for _, _, dataset in data], test=[dataset for _, _, dataset in data])
    plugin = ClassStatisticsPlugin(24, lambda model, x: model[0](x), auxiliary=auxiliary)
    stale = {}

    def means(number):
        x, y, _ = data[number]
        features = model[0](x).detach().numpy()
        return {label: features[y.numpy() == label].mean(0) for label in y.unique().tolist()}

    strategy = Naive(
        model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.2), train_mb_size=50, train_epochs=8,
        plugins=[plugin], evaluator=None,
    )
    for number, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        stale.update(means(number))
    assert plugin.statistics.labels == list(range(6))
    true = means(0) | means(1)
    moved = [np.linalg.norm(plugin.statistics[label].mean - mean) for label, mean in true.items()]
    kept = [np.linalg.norm(stale[label] - mean) for label, mean in true.items()]
    assert np.mean(moved) < 0.05 * np.mean(kept), (moved, kept)
    if auxiliary is not None:
        assert np.mean(moved) < 0.02 * np.mean(kept), (moved, kept)
    features = model[0](torch.cat([x for x, _, _ in data])).detach().numpy()
    predicted = residua.Lda(plugin.statistics).predict(features)
    assert (predicted == torch.cat([y for _, y, _ in data]).numpy()).mean() > 0.8
