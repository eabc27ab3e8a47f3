// Not part of the backend: two usual ways to multiply with triplets as they are, Y += A·X, for the device program to
// compare with. Both take any order of triplets; X and Y have `stride` values a row, of which `batch` are used.

#include "operands.cuh"

// A thread per triplet, sums by float atomics: fast for what it is, in an order that changes from run to run.
RESIDUA_KERNEL(
    peer_coo_per_entry, const unsigned* rows, const unsigned* columns, const float* values, unsigned long long entries,
    const float* x, float* y, unsigned stride, unsigned batch) {
    const size_t i = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (i >= entries) return;
    const float* from = x + static_cast<size_t>(columns[i]) * stride;
    float* to = y + static_cast<size_t>(rows[i]) * stride;
    for (unsigned b = 0; b < batch; ++b) atomicAdd(to + b, values[i] * from[b]);
}

// A thread per row, which looks at every triplet of the matrix for those of its own.
RESIDUA_KERNEL(
    peer_coo_scan, const unsigned* rows, const unsigned* columns, const float* values, unsigned long long entries,
    const float* x, float* y, unsigned stride, unsigned batch, unsigned row_count) {
    const unsigned row = blockIdx.x * THREADS + threadIdx.x;
    if (row >= row_count) return;
    for (unsigned b = 0; b < batch; ++b) {
        float sum = 0;
        for (size_t i = 0; i < entries; ++i) {
            if (rows[i] == row) sum += values[i] * x[static_cast<size_t>(columns[i]) * stride + b];
        }
        y[static_cast<size_t>(row) * stride + b] += sum;
    }
}
