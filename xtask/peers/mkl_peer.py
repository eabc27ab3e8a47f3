"""MKL's inspector-executor sparse BLAS: handles made and optimised once, only the product is timed."""

import ctypes
import functools

import numpy as np

import mkl_library
import protocol

mkl = ctypes.CDLL(mkl_library.path())
OPERATION_NON_TRANSPOSE = 10
LAYOUT_ROW_MAJOR = 101
INDEX_BASE_ZERO = 0
CALLS = 1000


class MatrixDescription(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("mode", ctypes.c_int), ("diag", ctypes.c_int)]


GENERAL = MatrixDescription(20, 0, 0)


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


def succeed(status):
    if status != 0:
        raise RuntimeError(f"MKL status {status}")


@functools.cache
def handles(case, threads):
    """Handles optimised for `case` with `threads` threads; the arrays in them stay alive with the files."""
    made = []
    for indptr, indices, data, (rows, cols) in protocol.csr_files():
        handle = ctypes.c_void_p()
        succeed(
            mkl.mkl_sparse_s_create_csr(
                ctypes.byref(handle),
                INDEX_BASE_ZERO,
                ctypes.c_int(rows),
                ctypes.c_int(cols),
                pointer(indptr),
                pointer(indptr[1:]),
                pointer(indices),
                pointer(data),
            )
        )
        if case == "spmv":
            succeed(mkl.mkl_sparse_set_mv_hint(handle, OPERATION_NON_TRANSPOSE, GENERAL, CALLS))
        else:
            succeed(
                mkl.mkl_sparse_set_mm_hint(
                    handle, OPERATION_NON_TRANSPOSE, GENERAL, LAYOUT_ROW_MAJOR, protocol.BATCH, CALLS
                )
            )
        succeed(mkl.mkl_sparse_optimize(handle))
        made.append((handle, rows, cols))
    return made


def use_threads(threads):
    mkl.MKL_Set_Num_Threads(ctypes.c_int(threads))


def spmv(threads):
    use_threads(threads)
    all_handles = handles("spmv", threads)
    x = protocol.x(all_handles[0][2])
    results = [np.zeros(rows, np.float32) for _, rows, _ in all_handles]

    def work():
        for (handle, _, _), y in zip(all_handles, results):
            succeed(
                mkl.mkl_sparse_s_mv(
                    OPERATION_NON_TRANSPOSE,
                    ctypes.c_float(1),
                    handle,
                    GENERAL,
                    pointer(x),
                    ctypes.c_float(0),
                    pointer(y),
                )
            )

    seconds, _ = protocol.timed(work)
    return {"seconds": seconds, "check": protocol.check(results)}


def spmm(threads):
    use_threads(threads)
    all_handles = handles("spmm", threads)
    batch = ctypes.c_int(protocol.BATCH)
    x = protocol.x_batch(all_handles[0][2])
    results = [np.zeros((rows, protocol.BATCH), np.float32) for _, rows, _ in all_handles]

    def work():
        for (handle, _, _), y in zip(all_handles, results):
            succeed(
                mkl.mkl_sparse_s_mm(
                    OPERATION_NON_TRANSPOSE,
                    ctypes.c_float(1),
                    handle,
                    GENERAL,
                    LAYOUT_ROW_MAJOR,
                    pointer(x),
                    batch,
                    batch,
                    ctypes.c_float(0),
                    pointer(y),
                    batch,
                )
            )

    seconds, _ = protocol.timed(work)
    return {"seconds": seconds, "check": protocol.check(results)}


def version():
    text = ctypes.create_string_buffer(200)
    mkl.MKL_Get_Version_String(text, 200)
    return text.value.decode().strip()


protocol.serve(version(), {"spmv": spmv, "spmm": spmm})
