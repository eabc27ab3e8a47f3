"""Pooled QDA beside numpy in f64: the labels of `residua classify`, and the weights that `--tune` chooses.

    python pooled.py PATH_OF_RESIDUA

Exit code 77: a package is missing.
"""

import json
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

D, CLASSES = 8, 5
CANDIDATES = [(own, ridge) for own in (0.05, 0.2, 0.5, 0.9) for ridge in (0.05, 0.3, 1.0)]


def residua(folder, *arguments):
    command = [sys.argv[1], *map(str, arguments), "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, (command, done.stderr)
    return json.loads(done.stdout)


def moments(x, y):
    """Means, covariances and the average covariance of the classes."""
    groups = [x[y == c] for c in range(CLASSES)]
    covariances = [np.cov(group.T) for group in groups]
    average = sum((len(group) - 1) * covariance for group, covariance in zip(groups, covariances)) / (len(y) - CLASSES)
    return [group.mean(0) for group in groups], covariances, average


def scores(q, means, covariances, average, own, diagonal):
    """`[n, C]`."""
    columns = []
    for mean, covariance in zip(means, covariances):
        matrix = own * covariance + (1 - own) * average + diagonal * np.eye(D)
        z = q - mean
        squares = np.einsum("ni,ij,nj->n", z, np.linalg.inv(matrix), z)
        columns.append(-0.5 * (squares + np.linalg.slogdet(matrix)[1]))
    return np.array(columns).T


def default(y):
    return 0.2, 0.15 + D / (40 * np.bincount(y).min())


def chosen(x, y):
    """Collects everything once more for each sample. The scale of the ridge is that of all samples."""
    variance = np.trace(moments(x, y)[2]) / D
    tried = [default(y), *CANDIDATES]
    right = np.zeros((len(tried), len(y)), bool)
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        found = moments(x[rest], y[rest])
        for row, (own, ridge) in zip(right, tried):
            row[i] = scores(x[i : i + 1], *found, own, ridge * variance).argmax() == y[i]
    best = (0, tried[0])
    for row, candidate in zip(right, tried):
        gained, lost = (row & ~right[0]).sum(), (~row & right[0]).sum()
        if gained - lost > max(best[0], 2 * np.sqrt(gained + lost)):
            best = (gained - lost, candidate)
    return best[1]


found = set()
with tempfile.TemporaryDirectory() as folder:
    # Covariances that differ much or not at all, known well or badly, classes near each other or apart.
    for seed, (each, spread, apart) in enumerate([(80, 1.5, 0.3), (80, 0.0, 0.5), (5, 0.0, 1.0), (12, 1.5, 0.5)]):
        rng = np.random.default_rng(seed)
        shapes = np.exp(spread * rng.normal(size=(CLASSES, D)))
        centres = apart * rng.normal(size=(CLASSES, D))
        mix = rng.normal(size=(D, D))

        def draw(labels):
            return (centres[labels] + shapes[labels] * rng.normal(size=(len(labels), D))) @ mix

        y = np.repeat(np.arange(CLASSES), each)
        x, q = draw(y), draw(np.repeat(np.arange(CLASSES), 60))
        for name, array in [("x", x), ("y", y), ("q", q)]:
            np.save(f"{folder}/{name}.npy", array)
        residua(folder, "stats", "x.npy", "--labels", "y.npy", "--precision", "f64", "-o", "s.safetensors")
        classify = ["classify", "s.safetensors", "q.npy", "--classifier", "qda-pooled"]
        means, covariances, average = moments(x, y)
        for own, ridge in [(0.0, 0.1), (0.3, 0.01), (1.0, 0.4)]:
            predicted = residua(folder, *classify, "--own", own, "--ridge", ridge)["predictions"]
            expected = scores(q, means, covariances, average, own, ridge * np.trace(average) / D).argmax(1)
            assert predicted == expected.tolist(), (each, spread, own, ridge)
        tuned = residua(folder, *classify, "--tune", "x.npy", "--tune-labels", "y.npy")
        tuned = tuned["own"], tuned["ridge"]
        expected = chosen(x, y)
        assert np.allclose(tuned, expected), (each, spread, tuned, expected)
        found.add(tuned)
        plain = residua(folder, *classify)
        assert np.allclose((plain["own"], plain["ridge"]), default(y)), plain
assert len(found) > 2, found
print(f"labels and chosen weights are numpy's; weights: {sorted(found)}")
