"""Peak memory of splitting a model: three dense copies and COO in torch, beside `residua.split`.

    python memory.py MODEL_FOLDER

Each way runs in a separate process. The textbook way keeps the original, the base and the residual of every linear
layer dense, and then turns the residual into COO. The figures are the peaks of the processes' resident memory, imports included.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path


def textbook(folder: Path, density: float) -> None:
    """Three dense copies in torch, then COO."""
    import torch
    from safetensors.torch import load_file

    original = {}
    for file in sorted(folder.glob("*.safetensors")):
        original.update({name: weight.float() for name, weight in load_file(file).items()})
    linear = {name: weight for name, weight in original.items() if weight.dim() == 2 and "embed" not in name}
    base, residual = {}, {}
    for name, weight in linear.items():
        scale = weight.abs().amax(dim=1, keepdim=True) / 7
        base[name] = (weight / scale).round().clamp(-7, 7) * scale
        difference = weight - base[name]
        keep = int(density * weight.numel())
        threshold = difference.abs().flatten().topk(keep, sorted=False).values.min()
        residual[name] = torch.where(difference.abs() >= threshold, difference, 0.0)
    sparse = {name: each.to_sparse() for name, each in residual.items()}
    print(sum(each._nnz() for each in sparse.values()), "non-zeros")


def ours(folder: Path, density: float, budget: str) -> None:
    """`residua.split`, streamed within a budget."""
    import residua

    with tempfile.TemporaryDirectory() as out:
        report = residua.split(
            folder, Path(out) / "split.safetensors", density=density, exclude=["*embed*", "lm_head*"], memory_budget=budget
        )
    print(report["nnz"], "non-zeros")


def peak() -> int:
    """Bytes of resident memory at the peak of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder with safetensors weights")
    parser.add_argument("--density", type=float, default=0.05)
    parser.add_argument("--memory-budget", default="256MiB")
    parser.add_argument("--way", choices=["textbook", "residua"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way == "textbook":
        textbook(args.folder, args.density)
    elif args.way == "residua":
        ours(args.folder, args.density, args.memory_budget)
    else:
        for way in ("textbook", "residua"):
            print(f"{way:9}", flush=True, end=" ")
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--way", way], check=True)
        return
    print(f"          peak {peak() / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
