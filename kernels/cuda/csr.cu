// Products with plain CSR (32-bit indices, f32): a warp per row.

#include "value.cuh"

template <int B>
__device__ __forceinline__ void csr_rows(const CsrArrays& a, const Product& p) {
    const Place<B> place(p);
    const unsigned lane = threadIdx.x % LANES, row = place.block * WARPS + threadIdx.x / LANES;
    if (row >= p.rows) return;  // The same for all lanes of a warp.
    const float* x = place.x(p);
    const unsigned stride = place.stride(p), end = a.row_ptr[row + 1];
    Batch<B> sum = {};
    for (size_t i = a.row_ptr[row] + lane; i < end; i += LANES) {
        const Batch<B> values = load_batch<B>(x + static_cast<size_t>(read_once(a.columns + i)) * stride);
        const float value = read_once(a.values + i);
#pragma unroll
        for (int b = 0; b < B; ++b) sum.at[b] = fmaf(value, values.at[b], sum.at[b]);
    }
    sum_lanes(sum, LANES);
#pragma unroll
    for (int b = 0; b < B; ++b) {
        if (lane == static_cast<unsigned>(b)) {
            float& y = place.y(p, row, b);
            y = p.beta == 0 ? p.alpha * sum.at[b] : fmaf(p.beta, y, p.alpha * sum.at[b]);
        }
    }
}

RESIDUA_KERNEL(csr_b1, CsrArrays a, Product p) { csr_rows<1>(a, p); }
RESIDUA_WIDE_KERNEL(csr_b8, CsrArrays a, Product p) { csr_rows<8>(a, p); }

// Y = beta·Y: a product with an alpha of 0.
RESIDUA_KERNEL(scale, float* y, float beta, unsigned long long values) {
    const size_t i = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (i < values) y[i] = beta == 0 ? 0 : beta * y[i];
}
