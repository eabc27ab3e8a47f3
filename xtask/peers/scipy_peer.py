"""scipy: COO to CSR, SpMV, SpMM."""

import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy
import scipy.sparse as sp

import protocol


@functools.cache
def matrices():
    return [sp.csr_matrix((data, indices, indptr), shape) for indptr, indices, data, shape in protocol.csr_files()]


@functools.cache
def pool(threads):
    return ThreadPoolExecutor(threads)


def coo(threads):
    if threads > 1:
        return protocol.skip("one thread only")
    row, col, data, shape = protocol.coo_file()
    # A fresh object, so that nothing is remembered from the last repetition.
    matrix = sp.coo_matrix((data, (row, col)), shape)
    seconds, result = protocol.timed(matrix.tocsr)
    return {"seconds": seconds, "check": result.nnz}


def multiply(threads, right):
    """scipy has no threads of its own: whole matrices are dealt out to Python threads."""
    if threads == 1:
        seconds, results = protocol.timed(lambda: [matrix @ right for matrix in matrices()])
    else:
        seconds, results = protocol.timed(lambda: list(pool(threads).map(lambda matrix: matrix @ right, matrices())))
    note = "" if threads == 1 else "matrices dealt out to Python threads"
    return {"seconds": seconds, "check": protocol.check(results), **({"note": note} if note else {})}


def spmv(threads):
    return multiply(threads, protocol.x(matrices()[0].shape[1]))


def spmm(threads):
    return multiply(threads, protocol.x_batch(matrices()[0].shape[1]))


protocol.serve(f"scipy {scipy.__version__}, numpy {np.__version__}", {"coo": coo, "spmv": spmv, "spmm": spmm})
