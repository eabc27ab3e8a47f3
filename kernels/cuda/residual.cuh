// The part of a row block that comes from the residual.
#pragma once

#include "value.cuh"

// Adds A·X of a row block to `sums` of the calling warp: [ROWS][B].
//
// Every lane computes one run of a row's entries from a stored column. So no scan is needed, and every load of a plane is
// coalesced. The order of slices per warp is fixed and each warp has separate sums, so the bits repeat.
template <class V, class G, int B>
__device__ __forceinline__ void residual_block(
    const Gap& a, unsigned block, const float* x, unsigned cols, unsigned stride, float (*sums)[B]) {
    // Number of steps whose loads are in flight at once.
    constexpr unsigned AHEAD = B == 1 ? 4 : 1;
    const unsigned warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const unsigned end = a.blocks[block + 1];
    for (unsigned slice = a.blocks[block] + warp; slice < end; slice += WARPS) {
        const uint4 head = a.slices[slice];
        const unsigned steps = head.y >> 16, rows = head.y >> 8 & 0xFF, log2_lanes = head.y & 0xFF;
        unsigned column = a.starts[static_cast<size_t>(slice) * LANES + lane];
        const size_t first = static_cast<size_t>(head.x) * LANES + lane;
        const typename G::Four* gaps = static_cast<const typename G::Four*>(a.gaps) + first;
        const typename V::Four* values = static_cast<const typename V::Four*>(a.values) + first;

        Batch<B> sum = {};
        for (unsigned step = 0; step < steps; step += AHEAD) {
            // Load everything first: a warp needs many loads in flight. Steps past the end are fillers.
            typename G::Four four_gaps[AHEAD] = {};
            typename V::Four four_values[AHEAD] = {};
#pragma unroll
            for (unsigned ahead = 0; ahead < AHEAD; ++ahead) {
                if (step + ahead < steps) {
                    four_gaps[ahead] = read_once(gaps + static_cast<size_t>(step + ahead) * LANES);
                    four_values[ahead] = read_once(values + static_cast<size_t>(step + ahead) * LANES);
                }
            }
#pragma unroll
            for (unsigned ahead = 0; ahead < AHEAD; ++ahead) {
                Batch<B> rows[4];
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const unsigned gap = G::get(four_gaps[ahead], i);
                    column += gap ? gap : G::MOST;
                    // A filler reads the row of zeros: its own column may lie past the end, or x may be infinite there.
                    rows[i] = load_batch<B>(x + static_cast<size_t>(gap ? column : cols) * stride);
                }
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const float value = V::get(four_values[ahead], i);
#pragma unroll
                    for (int b = 0; b < B; ++b) sum.at[b] = fmaf(value, rows[i].at[b], sum.at[b]);
                }
            }
        }
        sum_lanes(sum, 1u << log2_lanes);
        const unsigned group = lane >> log2_lanes;
        if ((lane & ((1u << log2_lanes) - 1)) == 0 && group < rows) {
            const unsigned row = (group < 8 ? head.z : head.w) >> (4 * (group % 8)) & 0xF;
#pragma unroll
            for (int b = 0; b < B; ++b) sums[row][b] += sum.at[b];
        }
        // Another lane may add to the same row in the next slice.
        __syncwarp();
    }
}

// The sum over all warps for one row and vector, in the order of warps, times the scale of the row.
template <int B>
__device__ __forceinline__ float residual_sum(
    const Gap& a, const float (*sums)[ROWS][B], unsigned row, unsigned local, unsigned b) {
    float sum = 0;
#pragma unroll
    for (unsigned warp = 0; warp < WARPS; ++warp) sum += sums[warp][local][b];
    return a.scales ? sum * a.scales[row] : sum;
}

template <int B>
__device__ __forceinline__ void clear(float (*sums)[ROWS][B]) {
    float* all = &sums[0][0][0];
    for (unsigned i = threadIdx.x; i < WARPS * ROWS * B; i += THREADS) all[i] = 0;
    __syncthreads();
}

template <class V, class G, int B>
__device__ __forceinline__ void spmm(const Gap& a, const Product& p) {
    __shared__ float sums[WARPS][ROWS][B];
    const Place<B> place(p);
    clear<B>(sums);
    residual_block<V, G, B>(a, place.block, place.x(p), p.cols, place.stride(p), sums[threadIdx.x / LANES]);
    __syncthreads();
    const unsigned local = threadIdx.x / B, b = threadIdx.x % B, row = place.block * ROWS + local;
    if (local < ROWS && row < p.rows) {
        float& y = place.y(p, row, b);
        const float sum = p.alpha * residual_sum<B>(a, sums, row, local, b);
        y = p.beta == 0 ? sum : fmaf(p.beta, y, sum);
    }
}
