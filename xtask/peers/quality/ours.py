"""Split files of this project: made by the command, turned back into weights by the command."""

import json
import subprocess
from pathlib import Path

from safetensors.torch import load_file, save_file

# Title, what calibrates it, options of `residua split`.
SPLITS = [("the default", None, [])] + [
    (f"--bits {bits}", calibration, ["--bits", str(bits)])
    for calibration, points in [
        (None, [4.25, 4.5, 5.5, 3.44]),
        ("second moments", [4.25, 4.5, 5.5, 3.44, 5.3]),
        ("mean squares", [4.25, 4.5, 5.5]),
    ]
    for bits in points
]


def save_calibration(moments, work: Path):
    """The calibration file of each kind."""
    squares, whole = work / "mean-squares.safetensors", work / "second-moments.safetensors"
    save_file({name: h.diagonal().clone() for name, h in moments.items()}, squares)
    save_file({name: h[None].clone() for name, h in moments.items()}, whole)
    return {"mean squares": squares, "second moments": whole}


def split(residua, folder: Path, work: Path, options, calibration):
    """New weights, and the bits per weight of the tensors that were split."""
    out, dense = work / "split.safetensors", work / "dense.safetensors"
    command = [residua, "split", folder, "-o", out, "--include", "*_proj.weight", "--json", *options]
    if calibration:
        command += ["--calibration", calibration]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    subprocess.run([residua, "materialize", out, "-o", dense], check=True, stdout=subprocess.DEVNULL)
    tensors = report["tensors"]
    stored = sum(plane["bytes"] for tensor in tensors for plane in tensor["planes"])
    elements = sum(tensor["shape"][0] * tensor["shape"][1] for tensor in tensors)
    names = {tensor["name"] for tensor in tensors}
    weights = {name: weight.float() for name, weight in load_file(dense).items() if name in names}
    return weights, 8 * stored / elements
