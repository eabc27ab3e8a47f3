"""The compensators as a first implementation in torch would write them, on the workloads of residua's example.

    compensate_torch.py METHOD SIZE FOLDER [THREADS]

METHOD is linear, attention, rff, weak-nonlinear or rgda; SIZE.safetensors in FOLDER comes from
`cargo run --release -p residua-compensate --example workload -- make SIZE FOLDER`. Prints one line of JSON.
"""

import json
import resource
import sys
import time

import torch
from safetensors.torch import load_file

method, size, folder = sys.argv[1:4]
threads = int(sys.argv[4]) if len(sys.argv) > 4 else torch.get_num_threads()
torch.set_num_threads(threads)
torch.manual_seed(0)
torch.set_grad_enabled(False)
SAMPLES = 800 if size == "S" else 2000
TEMPERATURE, NEAREST, CHUNK = 0.05, 400, 512


def usage():
    return resource.getrusage(resource.RUSAGE_SELF)


def held(field):
    """VmRSS, held now, or VmHWM, the most held since it was set back; in bytes."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def normal(a):
    return torch.nn.functional.normalize(a, dim=1)


file = load_file(f"{folder}/{size}.safetensors")
before, after, old, labels = (file.pop(name) for name in ("before", "after", "old", "labels"))
D = before.shape[1]
eye = torch.eye(D)
means, covariances = [], []
for label in labels.unique():
    rows = old[labels == label]
    means.append(rows.mean(0))
    covariances.append(torch.cov(rows.T))
del file, old


def sampled(move, count, stale):
    """Moments of moved draws, blended with the old ones, class by class."""
    new_means, new_covariances = [], []
    for mean, covariance in zip(means, covariances):
        factor = torch.linalg.cholesky(covariance + 1e-4 * eye)
        moved = move(mean + torch.randn(count, D) @ factor.T)
        new_means.append((1 - stale) * moved.mean(0) + stale * mean)
        new_covariances.append((1 - stale) * torch.cov(moved.T) + stale * covariance)
    return new_means, new_covariances


def linear():
    x, y = normal(before), normal(after)
    w = torch.linalg.solve(x.T @ x + 0.1 * eye, x.T @ y)
    blend = torch.exp(torch.tensor(-len(x) / D))
    w = (1 - blend) * w + blend * eye
    return [m @ w for m in means], [w.T @ s @ w + 1e-3 * eye for s in covariances]


def attention():
    """One top-k and one drift for each chunk: without the work that the published code does and discards."""
    keys, drift = normal(before), after - before
    k = min(NEAREST, len(keys))

    def move(points):
        out = []
        for chunk in points.split(CHUNK):
            top, index = (normal(chunk) @ keys.T / TEMPERATURE).topk(k, dim=1)
            weight = torch.softmax(top, 1)
            out.append(chunk + torch.bmm(weight[:, None], drift[index])[:, 0])
        return torch.cat(out)

    return sampled(move, SAMPLES, 0.1)


def rff():
    count = 2048
    omega, offset = torch.randn(D, count), torch.rand(count) * 2 * torch.pi
    phi = lambda a: (2 / count) ** 0.5 * torch.cos(normal(a) @ omega + offset)
    features = phi(before)
    w = torch.linalg.solve(features.T @ features + 1e-4 * torch.eye(count), features.T @ (after - before))
    return sampled(lambda a: a + phi(a) @ w, SAMPLES, 0.1)


def weak_nonlinear():
    steps = 4000
    bound = D**-0.5
    params = [eye.clone(), torch.empty(D, D).uniform_(-bound, bound), torch.empty(D, D).uniform_(-bound, bound)]
    params += [torch.tensor([1.0, 0.0]), torch.tensor(0.0)]
    A, B1, B2, a, s = (p.requires_grad_(True) for p in params)

    def move(points):
        w = torch.softmax(a / torch.exp(s), 0)
        return w[0] * points @ A.T + w[1] * torch.relu(points @ B1.T) @ B2.T

    optimiser = torch.optim.AdamW([A, B1, B2, a, s], lr=1e-3, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=1e-3 / 3)
    with torch.enable_grad():
        for _ in range(steps):
            batch = torch.randint(len(before), (64,))
            optimiser.zero_grad()
            loss = torch.nn.functional.mse_loss(move(before[batch]), after[batch])
            (loss + 0.5 * (torch.softmax(a, 0)[0] - 1) ** 2).backward()
            optimiser.step()
            schedule.step()
    marks.append((time.perf_counter(), usage()))
    return sampled(move, 5000, 0.0)


def rgda():
    pooled = sum(covariances) / len(covariances)
    inverses, determinants = [], []
    for covariance in covariances:
        factor = torch.linalg.cholesky(0.2 * covariance + 2 * pooled + 0.5 * eye)
        inverses.append(torch.cholesky_inverse(factor))
        determinants.append(2 * factor.diagonal().log().sum())
    inverses, determinants = torch.stack(inverses), torch.stack(determinants)
    marks.append((time.perf_counter(), usage()))
    x = before[:1000]
    scores = []
    for mean, inverse, determinant in zip(means, inverses, determinants):
        z = x - mean
        scores.append(-0.5 * ((z @ inverse * z).sum(1) + determinant))
    return [torch.stack(scores).argmax(0).sum().float()[None]], []


loaded, marks = held("VmRSS"), []
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
start, cpu = time.perf_counter(), usage()
new_means, _ = globals()[method.replace("-", "_")]()
seconds, now = time.perf_counter() - start, usage()
cpu_seconds = lambda a, b: b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime
fit, fit_cpu = (marks[0][0] - start, cpu_seconds(cpu, marks[0][1])) if marks else (None, None)
print(json.dumps({
    "program": f"torch {torch.__version__}", "method": method, "workload": size, "threads": threads,
    "seconds": seconds, "fit_seconds": fit,
    "cpu_seconds": cpu_seconds(cpu, now), "fit_cpu_seconds": fit_cpu,
    "peak_bytes": held("VmHWM"), "peak_above_inputs": held("VmHWM") - loaded,
    "check": float(sum(m.double().norm() for m in new_means)),
}))
