"""What `residua calibrate` writes and the errors of outputs that `residua verify` states, beside numpy in f64.

    python calibration.py PATH_OF_RESIDUA

Exit code 77: a package is missing.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy as np
    from safetensors.numpy import load_file, save_file
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

ROWS, COLS, OUT = 700, 300, 40


def residua(folder, *arguments):
    command = [sys.argv[1], *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def activations(rng):
    """Inputs whose features differ in size and hang together."""
    x = rng.normal(size=(ROWS, 30)) @ rng.normal(size=(30, COLS)) + rng.normal(size=(ROWS, COLS))
    return x * np.exp(rng.normal(size=COLS))


def blocks(h, n):
    """Diagonal blocks of `h`, the last one filled up with zeros."""
    out = np.zeros((-(-COLS // n), n, n))
    for number, block in enumerate(out):
        part = h[number * n : (number + 1) * n, number * n : (number + 1) * n]
        block[: len(part), : len(part)] = part
    return out


def check_calibration(folder, x):
    kinds = {
        "f4.npy": x.astype("f4"),
        "f8.npy": x,
        "f2.npy": x.astype("f2"),
        "big.npy": x.astype(">f4"),
        "fortran.npy": np.asfortranarray(x.astype("f4")),
        "ints.npy": np.rint(10 * x).astype("i2"),
    }
    for name, array in kinds.items():
        np.save(folder / name, array)
        x = array.astype("f8")
        h = x.T @ x / ROWS
        for options, expected in [
            ([], h.diagonal()),
            (["--second-moments"], h[None]),
            (["--second-moments", "--block", "128"], blocks(h, 128)),
        ]:
            residua(folder, "calibrate", f"w={name}", "-o", "out.safetensors", *options)
            found = load_file(folder / "out.safetensors")["w"]
            assert found.dtype == np.float32 and found.shape == expected.shape, (name, options, found.shape)
            error = np.abs(found - expected).max() / np.abs(expected).max()
            assert error < 2e-7, (name, options, error)


def check_output_errors(folder, x, rng):
    weights = {name: rng.normal(size=(OUT, COLS)).astype("f4") for name in ["a", "b"]}
    save_file(weights, folder / "model.safetensors")
    save_file({"x": x.astype("f4"), "y": x[::-1, ::-1].astype("f4").copy()}, folder / "x.safetensors")
    layers = ["a=x.safetensors:x", "b=x.safetensors:y"]
    for options, n in [([], None), (["--second-moments"], COLS), (["--second-moments", "--block", "128"], 128)]:
        residua(folder, "calibrate", *layers, "-o", "cal.safetensors", *options)
        calibration = load_file(folder / "cal.safetensors")
        for kind in ["int4-g32", "int8"]:
            residua(folder, "split", "model.safetensors", "-o", "split.safetensors", "--base", kind)
            residua(folder, "materialize", "split.safetensors", "-o", "dense.safetensors")
            dense = load_file(folder / "dense.safetensors")
            report = json.loads(
                residua(
                    folder, "verify", "split.safetensors", "--against", "model.safetensors",
                    "--calibration", "cal.safetensors", "--json",
                )
            )  # fmt: skip
            errors = []
            for name, w in weights.items():
                h = calibration[name].astype("f8")
                w, e = w.astype("f8"), w.astype("f8") - dense[name].astype("f8")
                if n is None:
                    trace = lambda m: np.sum(m * m * h)
                else:
                    parts = [(slice(i, min(i + n, COLS)), b) for i, b in zip(range(0, COLS, n), h)]
                    size = lambda s: s.stop - s.start
                    trace = lambda m: sum(np.trace(m[:, s] @ b[: size(s), : size(s)] @ m[:, s].T) for s, b in parts)
                errors.append(np.sqrt(trace(e) / trace(w)))
                tensor = next(t for t in report["tensors"] if t["name"] == name)
                assert abs(tensor["output_error"] / errors[-1] - 1) < 1e-9, (options, kind, name, tensor, errors)
            overall = np.sqrt(np.mean(np.square(errors)))
            assert abs(report["output_error"] / overall - 1) < 1e-9, (report["output_error"], overall)


def main():
    rng = np.random.default_rng(5)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        x = activations(rng)
        check_calibration(folder, x)
        check_output_errors(folder, x, rng)
    print("ok")


main()
