"""Class statistics from batches of features: `residua.ClassStatistics` beside `torch.cov` for each class.

    python class_statistics.py [--samples N] [--dim D] [--classes C] [--threads T]

Both get the same batches of 256 float32 features. Torch keeps the features of each class, then takes `torch.cov` of them, in
float32 as they are and in float64, in which Residua computes. Contestants take turns; the figures are the minima of the rounds,
and the largest difference of a covariance from NumPy's in float64, as a share of its largest number.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

import residua


def ours(batches: list[tuple[torch.Tensor, torch.Tensor]], dim: int) -> dict[int, np.ndarray]:
    builder = residua.ClassStatistics.builder(dim)
    for features, labels in batches:
        builder.add(features, labels)
    statistics = builder.finish()
    first = statistics.labels[0]
    return {first: statistics[first].covariance()}


def theirs(batches: list[tuple[torch.Tensor, torch.Tensor]], dtype: torch.dtype) -> dict[int, np.ndarray]:
    kept: dict[int, list[torch.Tensor]] = {}
    for features, labels in batches:
        for label in np.unique(labels.numpy()).tolist():
            kept.setdefault(label, []).append(features[labels == label])
    covariances = {label: torch.cov(torch.cat(rows).to(dtype).T) for label, rows in kept.items()}
    first = min(covariances)
    return {first: covariances[first].numpy()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    residua.set_num_threads(args.threads)
    torch.manual_seed(0)
    features = torch.randn(args.samples, args.dim) @ (torch.randn(args.dim, args.dim) / args.dim**0.5) + 1
    labels = torch.randint(args.classes, (args.samples,))
    batches = [(features[at : at + 256], labels[at : at + 256]) for at in range(0, args.samples, 256)]
    contestants: dict[str, Callable[[], dict[int, np.ndarray]]] = {
        "residua": lambda: ours(batches, args.dim),
        "torch.cov, float64": lambda: theirs(batches, torch.float64),
        "torch.cov, float32": lambda: theirs(batches, torch.float32),
    }
    seconds = dict.fromkeys(contestants, float("inf"))
    errors = {}
    for _ in range(args.rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            found = run()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
            ((label, covariance),) = found.items()
            exact = np.cov(features[labels == label].double().numpy().T)
            errors[name] = np.abs(covariance - exact).max() / np.abs(exact).max()
    print("| | seconds | times residua | error |\n|---|---|---|---|")
    for name, time_taken in seconds.items():
        print(f"| {name} | {time_taken:.2f} | {time_taken / seconds['residua']:.2f} | {errors[name]:.0e} |")


if __name__ == "__main__":
    main()
