"""torch: the textbook split of one matrix, as a first implementation would write it.

INT4 per row, residual, score residual² · column mean square, the top 5 % by topk, stored as COO.
"""

import functools
import resource

import protocol

try:
    import torch
except (ImportError, OSError, ValueError) as error:
    protocol.answer({"error": f"torch is not installed; --torch installs it ({type(error).__name__})"})
    raise SystemExit(0)


@functools.cache
def weight():
    from safetensors.torch import load_file

    return load_file(protocol.FOLDER / "dense.safetensors")["weight"]


def separate(weight):
    scale = weight.abs().amax(dim=1, keepdim=True) / 7
    base = (weight / scale).round().clamp(-8, 7)
    residual = weight - base * scale
    score = residual.square() * weight.square().mean(dim=0)
    keep = int(protocol.DENSITY * weight.numel())
    threshold = torch.topk(score.flatten(), keep, sorted=False).values.min()
    sparse = torch.where(score >= threshold, residual, 0.0).to_sparse_coo()
    return base.to(torch.int8), scale, sparse


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def split(threads):
    torch.set_num_threads(threads)
    before = loaded_peak()
    seconds, (_, _, sparse) = protocol.timed(lambda: separate(weight()))
    return {"seconds": seconds, "peak_bytes": max(0, peak() - before), "note": f"{sparse._nnz()} kept"}


@functools.cache
def loaded_peak():
    """Peak memory once the input is there, so that only scratch and result count."""
    weight().sum()
    return peak()


with torch.inference_mode():
    protocol.serve(f"torch {torch.__version__}", {"split": split})
