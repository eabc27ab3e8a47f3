"""MKL as Python programs use it: sparse_dot_mkl makes a handle for every product."""

import functools
import os

import mkl_library

os.environ["MKL_RT"] = mkl_library.path()

import scipy.sparse as sp
import sparse_dot_mkl

import protocol


@functools.cache
def matrices():
    return [sp.csr_matrix((data, indices, indptr), shape) for indptr, indices, data, shape in protocol.csr_files()]


def multiply(threads, right):
    sparse_dot_mkl.mkl_set_num_threads(threads)
    seconds, results = protocol.timed(
        lambda: [sparse_dot_mkl.dot_product_mkl(matrix, right) for matrix in matrices()]
    )
    return {"seconds": seconds, "check": protocol.check(results)}


def spmv(threads):
    return multiply(threads, protocol.x(matrices()[0].shape[1]))


def spmm(threads):
    return multiply(threads, protocol.x_batch(matrices()[0].shape[1]))


protocol.serve("sparse_dot_mkl", {"spmv": spmv, "spmm": spmm})
