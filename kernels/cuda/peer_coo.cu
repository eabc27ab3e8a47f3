// Two usual ways to multiply with plain triplets, Y += A·X. The backend does not use them; the device program compares with
// them. The triplets may have any order. Rows of X and Y have `stride` values; `batch` of them are used.

#include "operands.cuh"

// A thread per triplet, sums by float atomics. The order of the sums, and so the bits, change from run to run.
RESIDUA_KERNEL(
    peer_coo_per_entry, const unsigned* rows, const unsigned* columns, const float* values, unsigned long long entries,
    const float* x, float* y, unsigned stride, unsigned batch) {
    const size_t i = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (i >= entries) return;
    const float* from = x + static_cast<size_t>(columns[i]) * stride;
    float* to = y + static_cast<size_t>(rows[i]) * stride;
    for (unsigned b = 0; b < batch; ++b) atomicAdd(to + b, values[i] * from[b]);
}

// A thread per row. Each reads all triplets of the matrix and uses those of its row.
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
