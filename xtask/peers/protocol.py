"""The loop that every Python contestant of `cargo xtask bench` runs.

A line `CASE THREADS` comes in, one line of JSON goes out. `xtask/src/bench/contestant.rs` describes the
protocol, `xtask/src/bench/data.rs` the files.
"""

import functools
import json
import pathlib
import sys
import time

FOLDER = pathlib.Path(sys.argv[1])
DENSITY = 0.05
BATCH = 32


def serve(about, cases):
    """`cases` maps a name to a function from the number of threads to a reply."""
    answer({"ready": about})
    for line in sys.stdin:
        try:
            case, threads = line.split()
            if case in cases:
                answer(cases[case](int(threads)))
            else:
                answer({"skip": "not done here"})
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {error}"})


def answer(reply):
    print(json.dumps(reply), flush=True)


def skip(why):
    return {"skip": why}


def timed(work):
    """Seconds that `work` takes, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


@functools.cache
def csr_files():
    """The matrices: (indptr, indices, data, shape) each."""
    return [load(path, "indptr", "indices", "data") for path in sorted(FOLDER.glob("csr-*.safetensors"))]


@functools.cache
def coo_file():
    return load(FOLDER / "coo.safetensors", "row", "col", "data")


def load(path, *names):
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        metadata = file.metadata()
        shape = (int(metadata["rows"]), int(metadata["cols"]))
        return (*(file.get_tensor(name) for name in names), shape)


@functools.cache
def x(cols):
    import numpy as np

    return ((np.arange(cols) % 17) / 16).astype(np.float32)


@functools.cache
def x_batch(cols):
    import numpy as np

    c, b = np.arange(cols)[:, None], np.arange(BATCH)[None, :]
    return np.ascontiguousarray(((31 * c + 7 * b) % 17) / 16, dtype=np.float32)


def check(results):
    """Sum of |y| over all matrices."""
    import numpy as np

    return float(sum(np.abs(y.astype(np.float64)).sum() for y in results))
