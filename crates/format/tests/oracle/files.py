"""Files that `residua convert` writes, opened by scipy, NumPy and safetensors; and theirs, opened by it.

    python files.py PATH_OF_RESIDUA

Containers are decoded here by what docs/format.md says, without any code of this project. Exit code 77: a
package is missing.
"""

import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy as np
    import scipy.io
    import scipy.sparse as sp
    from safetensors import safe_open
    from safetensors.numpy import save_file
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

GAP, ABSOLUTE16, BITMAP, ABSOLUTE32 = range(4)


def columns(mode, index, cols):
    """(positions in the row's values, columns) of one row's index bytes."""
    if mode == ABSOLUTE16:
        found = index.view("<u2").astype(np.int64)
    elif mode == ABSOLUTE32:
        found = index.view("<u4").astype(np.int64)
    elif mode == BITMAP:
        bits = np.unpackbits(index, bitorder="little")
        assert not bits[cols:].any(), "bits behind the last column"
        found = np.flatnonzero(bits)
    else:
        ends = np.cumsum(np.where(index == 0, 255, index.astype(np.int64))) - 1
        return np.flatnonzero(index), ends[index != 0]
    return np.arange(len(found)), found


def read_container(path):
    """The one matrix of a container, dense."""
    with safe_open(path, "np") as file:
        meta = file.metadata()
        assert (meta["format"], meta["format_version"]) == ("residua", "1"), meta
        (name,) = [key.removeprefix("matrix:") for key in meta if key.startswith("matrix:")]
        matrix = json.loads(meta[f"matrix:{name}"])
        rows, cols = matrix["shape"]
        mixed = matrix.get("row_modes", False)

        def plane(suffix, length):
            tensor = file.get_tensor(f"{name}.{suffix}")
            assert 0 <= tensor.nbytes - length * tensor.itemsize < 128, suffix
            assert not tensor[length:].any(), f"padding of {suffix}"
            return tensor[:length]

        row_ptr = plane("row_ptr", rows + 1)
        modes = plane("row_modes", rows) if mixed else np.full(rows, GAP)
        index_ptr = plane("index_ptr", rows + 1) if mixed else row_ptr
        index = plane("gaps", matrix["index_bytes"])
        # NumPy has no bfloat16: its bits are the upper half of a float's.
        if matrix["values"] == "bf16":
            bits = raw(path, f"{name}.values", "<u2")[: matrix["entries"]]
            values = (bits.astype("<u4") << 16).view("<f4")
        else:
            values = plane("values", matrix["entries"])
        scales = plane("scales", rows) if matrix["values"] == "i8" else np.ones(rows)
    dense, nnz = np.zeros((rows, cols)), 0
    for row in range(rows):
        row_index = index[index_ptr[row] : index_ptr[row + 1]]
        positions, found = columns(modes[row], row_index, cols)
        row_values = values[row_ptr[row] : row_ptr[row + 1]].astype(np.float64) * scales[row]
        dense[row, found] = row_values[positions]
        nnz += len(found)
    assert nnz == matrix["nnz"]
    return dense


def raw(path, tensor, dtype):
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    assert start % 128 == 0, "the data is not aligned"
    begin, end = json.loads(data[8:start])[tensor]["data_offsets"]
    return np.frombuffer(data[start + begin : start + end], dtype)


def read(path):
    if path.suffix == ".npz":
        return sp.load_npz(path).toarray()
    if path.suffix == ".mtx":
        return scipy.io.mmread(path).toarray()
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    return read_container(path)


def sources(folder, matrix):
    """Files of other libraries that hold the matrix, with a word for each."""
    coo = sp.coo_array(matrix)
    for name, form in ("coo", coo), ("csr", coo.tocsr()), ("csc", coo.tocsc()):
        for packed in True, False:
            path = folder / f"{name}-{packed}.npz"
            sp.save_npz(path, form, compressed=packed)
            yield path
    scipy.io.mmwrite(folder / "in.mtx", coo, symmetry="general")
    yield folder / "in.mtx"
    np.save(folder / "c.npy", matrix)
    yield folder / "c.npy"
    np.save(folder / "fortran.npy", np.asfortranarray(matrix))
    yield folder / "fortran.npy"
    save_file({"w": matrix}, folder / "in.safetensors")
    yield folder / "in.safetensors"


def matrices():
    """Values are small multiples of 1/4, exact in every type but i8."""
    rng = np.random.default_rng(11)
    for rows, cols, density in (5, 7, 0.4), (40, 3000, 0.003), (40, 300, 0.6), (3, 70_000, 0.0001), (4, 4, 0):
        matrix = rng.integers(1, 64, (rows, cols)) / 4 * rng.choice([-1, 1], (rows, cols))
        yield np.where(rng.random((rows, cols)) < density, matrix, 0).astype(np.float32)


def convert(residua, source, target, *options):
    command = [residua, "convert", str(source), str(target), *options]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, f"{' '.join(command)}: {result.stderr}"


def main(residua):
    files = 0
    for matrix in matrices():
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            for source, suffix in itertools.product(sources(folder, matrix), [".npz", ".mtx", ".npy"]):
                target = folder / f"out{suffix}"
                convert(residua, source, target)
                assert np.array_equal(read(target), matrix), (source, target)
                files += 1
            scale = np.abs(matrix).max(axis=1, keepdims=True, initial=0) / 127
            for values in "f32", "f16", "bf16", "i8":
                target = folder / f"{values}.safetensors"
                convert(residua, folder / "csr-True.npz", target, "--values", values)
                # Half a step of the row's scale, and what the scale's own rounding adds.
                bound = 0.5001 * scale if values == "i8" else 0
                assert (np.abs(read(target) - matrix) <= bound).all(), (matrix.shape, values)
                back = folder / "back.npz"
                convert(residua, target, back)
                assert np.allclose(read(back), read(target), rtol=1e-6, atol=0), (matrix.shape, values)
                files += 2
    print(f"{files} files agree")


if __name__ == "__main__":
    main(sys.argv[1])
