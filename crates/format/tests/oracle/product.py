"""Everything that NumPy, scipy and safetensors can write is read as they hold it, or refused with a true reason.

    python product.py PATH_OF_RESIDUA

The whole product of layouts, element types, byte orders, index types and symmetries is generated; every file goes
through `residua convert` into a `.npy`, which is compared with the array bit for bit (a zero may lose its sign: a
sparse matrix has no entry there). An integer that f64 does not hold exactly has to be refused by name. Exit code 77:
a package is missing.
"""

import itertools
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

try:
    import numpy as np
    import scipy.io
    import scipy.sparse as sp
    from safetensors import TensorSpec, serialize_file
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

NUMBERS = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]
# Types of NumPy that are no numbers that a file of this program could hold, and the word for why.
OTHERS = {
    "g": "long double",
    "F": "complex",
    "D": "complex",
    "G": "complex",
    "S3": "text",
    "U3": "text",
    "V2": "bytes without a meaning",
    "V5": "bytes without a meaning",
    "M8[s]": "dates and durations",
    "m8[ms]": "dates and durations",
    "O": "Python objects",
    "f4,i4": "records",
}


class Case:
    """A file, and the matrix in it or the words of the error."""

    def __init__(self, label, suffix, write, expected, options=()):
        self.label, self.suffix, self.write, self.expected = label, suffix, write, expected
        self.options = list(options)


def wide(matrix):
    """The matrix as f64, or what is said of its first number that f64 does not hold."""
    matrix = np.atleast_2d(matrix)
    if matrix.dtype.kind in "iu" and matrix.dtype.itemsize == 8:
        for number in matrix.ravel().tolist():
            if int(float(number)) != number:
                return [f"{number} is too large for f64 to hold it exactly"]
    with np.errstate(invalid="ignore"):
        return matrix.astype(np.float64)


def values(kind, shape, edges):
    """Small numbers and zeros, or the limits of the type."""
    count = int(np.prod(shape))
    dtype = np.dtype(kind)
    if not edges:
        cycle = {"b": [0, 1, 1], "u": [0, 3, 1, 0, 100], "i": [0, -3, 1, 0, 100], "f": [0, -1.5, 0.25, 7]}[dtype.kind]
    elif dtype.kind == "f":
        info = np.finfo(dtype)
        cycle = [info.max, info.min, info.tiny, info.smallest_subnormal, -0.0, np.inf, -np.inf, np.nan, info.eps]
    elif dtype.kind == "b":
        cycle = [1]
    else:
        info = np.iinfo(dtype)
        cycle = [info.max, info.min, 1, 0, info.max // 2 + 1]
    # An object array keeps integers of 64 bits.
    return np.array([cycle[i % len(cycle)] for i in range(count)], dtype=object).astype(dtype).reshape(shape)


def npy():
    shapes = [(4,), (3, 5), (5, 3), (1, 4), (0, 3), (3, 0)]
    for kind, order, fortran, version, shape, edges in itertools.product(
        NUMBERS, "<>", [False, True], [(1, 0), (2, 0), (3, 0)], shapes, [False, True]
    ):
        array = values(kind, shape, edges)
        stored = np.array(array.astype(np.dtype(kind).newbyteorder(order)), order="F" if fortran else "C")

        def write(path, stored=stored, version=version):
            with open(path, "wb") as file:
                np.lib.format.write_array(file, stored, version=version, allow_pickle=False)

        label = f"npy {kind} {order} fortran={fortran} {version} {shape} edges={edges}"
        yield Case(label, ".npy", write, wide(array))
    for kind, order, shape in itertools.product(OTHERS, "<>", [(3,), (2, 2)]):
        array = np.zeros(shape, np.dtype(kind).newbyteorder(order))
        yield Case(f"npy {kind} {order} {shape}", ".npy", lambda path, array=array: np.save(path, array, True),
                   [OTHERS[kind], "element type"])
    for shape in (), (2, 2, 2), (1, 1, 1, 1):
        yield Case(f"npy {shape}", ".npy", lambda path, shape=shape: np.save(path, np.ones(shape)),
                   ["one or two dimensions are needed"])


def indexed(matrix, dtype):
    """The same matrix with another type of its indices."""
    if matrix.format in ("csr", "csc", "bsr"):
        matrix.indices, matrix.indptr = matrix.indices.astype(dtype), matrix.indptr.astype(dtype)
    elif matrix.format == "coo":
        matrix.coords = tuple(axis.astype(dtype) for axis in matrix.coords)
    elif np.dtype(dtype).kind == "i":
        matrix.offsets = matrix.offsets.astype(dtype)
    return matrix


def npz():
    indices = ["<i4", "<i8", ">i4", ">i8", "i2", "i1", "u4", "u8"]
    layouts = [
        (name, kind)
        for name, kinds in {
            "coo": [sp.coo_array, sp.coo_matrix],
            "csr": [sp.csr_array, sp.csr_matrix],
            "csc": [sp.csc_array, sp.csc_matrix],
            "dia": [sp.dia_array, sp.dia_matrix],
            "bsr1": [lambda m: sp.bsr_array(m, blocksize=(1, 1)), lambda m: sp.bsr_matrix(m, blocksize=(1, 1))],
            "bsr23": [lambda m: sp.bsr_array(m, blocksize=(2, 3)), lambda m: sp.bsr_matrix(m, blocksize=(2, 3))],
        }.items()
        for kind in kinds
    ]
    for (name, layout), kind, order, index, edges in itertools.product(
        layouts, NUMBERS, "<>", indices, [False, True]
    ):
        array = values(kind, (4, 6), edges)
        # scipy places numbers of the common types alone; their positions stand in for the others.
        places = np.arange(1, 25, dtype=np.float64).reshape(4, 6) * (array.astype(bool) | (array != array))
        matrix = layout(places)
        flat = np.append(np.zeros(1, array.dtype), array.ravel())
        data = flat[matrix.data.astype(int)].astype(np.dtype(kind).newbyteorder(order))
        matrix = indexed(matrix, index)
        matrix.data = data

        def write(path, matrix=matrix, compressed=index == "<i4"):
            sp.save_npz(path, matrix, compressed=compressed)

        yield Case(f"npz {name} {kind} {order} {index} edges={edges}", ".npz", write, wide(array))
    for (name, layout), kind in itertools.product(layouts, "gFDG"):
        matrix = layout(np.eye(4, 6))
        matrix.data = matrix.data.astype(kind)
        yield Case(f"npz {name} {kind}", ".npz", lambda path, matrix=matrix: sp.save_npz(path, matrix),
                   [OTHERS[kind], "element type", "tensor data"])
    for kind, layout in itertools.product(["?", "i4", "i8", "u1", "f4", "f8"], [sp.coo_array, sp.csr_array]):
        row = values(kind, (7,), False)
        yield Case(f"npz 1-D {layout.__name__} {kind}", ".npz",
                   lambda path, row=row, layout=layout: sp.save_npz(path, layout(row)), wide(row))
    cube = sp.coo_array(np.ones((2, 2, 2)))
    yield Case("npz 3-D", ".npz", lambda path: sp.save_npz(path, cube), ["3 dimensions, but one or two"])
    # Not canonical: unsorted rows, duplicates, entries behind the last pointer.
    for layout, order in itertools.product([sp.csr_array, sp.csc_array], "<>"):
        data = np.array([1, 2, 3, 4, np.inf], f"{order}f8")
        matrix = layout((data, [2, 0, 2, 2, 1], [0, 2, 3, 4]), shape=(3, 3))
        matrix.indices = np.array([2, 0, 2, 2, 99], np.int32)
        dense = layout((data[:4].astype("f8"), [2, 0, 2, 2], [0, 2, 3, 4]), shape=(3, 3)).toarray()
        matrix.data = data
        yield Case(f"npz slack {layout.__name__} {order}", ".npz",
                   lambda path, matrix=matrix: sp.save_npz(path, matrix), dense)
    for kind, layout in itertools.product(["?", "i1", "i8", "u2", "f4", "f8"], ["tocoo", "tocsr", "tocsc"]):
        double = sp.coo_array((np.array([1, 2, 4, 0], kind), ([0, 1, 0, 1], [2, 0, 2, 1])), shape=(2, 3))
        dense = wide(double.toarray())
        if layout != "tocoo":
            # Conversions add duplicates up; these arrays have them still.
            axis = double.row if layout == "tocsr" else double.col
            other = double.col if layout == "tocsr" else double.row
            order = np.argsort(axis, kind="stable")
            pointers = np.searchsorted(axis[order], np.arange((2 if layout == "tocsr" else 3) + 1))
            form = sp.csr_array if layout == "tocsr" else sp.csc_array
            double = form((double.data[order], other[order], pointers), shape=(2, 3))
        yield Case(f"npz duplicates {layout} {kind}", ".npz",
                   lambda path, double=double: sp.save_npz(path, double), dense)


def symmetric(array, symmetry):
    if symmetry == "general":
        return array
    lower = np.tril(array, -1)
    if symmetry == "skew-symmetric":
        return lower - lower.T
    return lower + lower.conj().T + np.diag(np.diag(array).real)


def mtx():
    for kind, symmetry, layout, comment, shape in itertools.product(
        ["i1", "i4", "i8", "u1", "u4", "u8", "f4", "f8", "c8", "c16", "pattern"],
        ["general", "symmetric", "skew-symmetric", "hermitian"],
        ["coordinate", "array"],
        ["", "a comment\nof two lines"],
        [(4, 4), (1, 1), (2, 5)],
    ):
        if symmetry != "general" and shape[0] != shape[1] or kind == "pattern" and layout == "array":
            continue
        if symmetry == "skew-symmetric" and (kind[0] == "u" or kind == "pattern"):
            continue
        number = "f8" if kind == "pattern" else kind
        array = values("f8" if number[0] == "c" else number, shape, False)
        if number[0] == "c":
            array = array.astype(kind) * (1 + 2j)
        array = symmetric(array, symmetry).astype(number)
        field = {"u": "unsigned-integer", "i": "integer", "f": "real", "c": "complex", "p": "pattern"}[kind[0]]
        field = "integer" if field == "unsigned-integer" and kind != "u8" else field
        matrix = sp.coo_array(array) if layout == "coordinate" else array

        def write(path, matrix=matrix, field=field, symmetry=symmetry, comment=comment):
            scipy.io.mmwrite(path, matrix, comment=comment, field=field, symmetry=symmetry)

        label = f"mtx {kind} {symmetry} {layout} {shape} comment={bool(comment)}"
        if kind == "pattern":
            expected = (array != 0).astype(np.float64)
        elif number[0] == "c":
            # scipy calls a sparse matrix without entries real.
            empty = layout == "coordinate" and not array.any()
            expected = np.zeros(shape) if empty else ["complex"]
        else:
            expected = wide(array)
        yield Case(label, ".mtx", write, expected)
    for kind, layout in itertools.product(["i1", "i4", "i8", "u1", "u4", "u8", "f8"], ["coordinate", "array"]):
        array = values(kind, (3, 3), True)
        if kind[0] == "f":
            array = np.nan_to_num(array, nan=1, posinf=2, neginf=3)
        matrix = sp.coo_array(array) if layout == "coordinate" else array
        yield Case(f"mtx edges {kind} {layout}", ".mtx",
                   lambda path, matrix=matrix: scipy.io.mmwrite(path, matrix), wide(array))
    for number, layout in itertools.product([np.nan, np.inf, -np.inf], ["coordinate", "array"]):
        array = np.array([[1, number]])
        matrix = sp.coo_array(array) if layout == "coordinate" else array
        yield Case(f"mtx {number} {layout}", ".mtx", lambda path, matrix=matrix: scipy.io.mmwrite(path, matrix),
                   ["is not finite"])


def save(path, name, shape, data):
    """One tensor of any element type that the library has."""
    data = np.ascontiguousarray(data)
    spec = TensorSpec(dtype=name, shape=list(shape), data_ptr=data.ctypes.data, data_len=data.nbytes)
    serialize_file({"w": spec}, path)


def safetensors():
    for kind, shape, edges in itertools.product(NUMBERS, [(3, 5), (1, 4), (0, 3)], [False, True]):
        array = values(kind, shape, edges)
        yield Case(f"safetensors {kind} {shape} edges={edges}", ".safetensors",
                   lambda path, array=array: save(path, array.dtype.name, array.shape, array), wide(array))
    array = values("f4", (3, 5), False)
    half = (array.view("u4") >> 16).astype("u2")
    yield Case("safetensors bfloat16", ".safetensors", lambda path: save(path, "bfloat16", half.shape, half), wide(array))
    # Types of fewer bits, and pairs.
    others = {"float8_e4m3fn": 8, "float8_e4m3fnuz": 8, "float8_e5m2": 8, "float8_e5m2fnuz": 8, "float8_e8m0fnu": 8,
              "float4_e2m1fn_x2": 8, "complex64": 64}
    for name, bits in others.items():
        data = np.zeros(bits, np.uint8)
        yield Case(f"safetensors {name}", ".safetensors", lambda path, name=name, data=data: save(path, name, (2, 4), data),
                   ["tensor w: element type"])


def check(residua, folder, number, case):
    """What is wrong, if anything."""
    source, target = folder / f"{number}{case.suffix}", folder / f"{number}-out.npy"
    case.write(source)
    command = [residua, "convert", str(source), str(target), *case.options]
    result = subprocess.run(command, capture_output=True, text=True)
    refused = isinstance(case.expected, list)
    problem = ""
    if refused:
        missing = [words for words in [*case.expected, source.name] if words not in result.stderr]
        if result.returncode != 3 or missing:
            problem = f"exit code {result.returncode}, {missing} not in {result.stderr!r}"
    elif result.returncode != 0:
        problem = f"exit code {result.returncode}: {result.stderr}"
    else:
        found = np.load(target, allow_pickle=False)
        # Adding 0 leaves every bit but the sign of a zero.
        expected = case.expected + 0.0
        same = found.shape == expected.shape and np.array_equal(found.astype("f8"), expected, equal_nan=True)
        problem = "" if same else f"{found.tolist()} instead of {expected.tolist()}"
    for path in source, target:
        path.unlink(missing_ok=True)
    return f"{case.label}: {problem}" if problem else ""


def main(residua):
    cases = list(itertools.chain(npy(), npz(), mtx(), safetensors()))
    # Files that last a moment are best written to memory.
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = list(pool.map(lambda case: check(residua, Path(folder), *case), enumerate(cases)))
    problems = [outcome for outcome in outcomes if outcome]
    for problem in problems[:40]:
        print(problem)
    print(f"{len(cases)} files, {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main(sys.argv[1])
