// The part of a row block that comes from the base, and the fused layer.
#pragma once

#include "residual.cuh"

// How a word holds weights: weight i of lane l is column 32·i + l of a tile, so that neighbouring lanes read neighbouring
// x. SCALED: a weight is a code times the scale of its group, and codes are stored without sign, plus half their range.
// AHEAD: the number of tiles that a lane loads at once for a single vector.
struct base_int4 {
    static constexpr int PER_WORD = 8, AHEAD = 2;
    static constexpr bool SCALED = true;
    static __device__ __forceinline__ float get(unsigned word, int i) {
        // The bits of 2²³ + code as f32. A conversion from integer would be much slower.
        return __uint_as_float((word >> (4 * i) & 0xFu) | 0x4B000000u) - 8388616.0f;
    }
};

struct base_int8 {
    static constexpr int PER_WORD = 4, AHEAD = 2;
    static constexpr bool SCALED = true;
    static __device__ __forceinline__ float get(unsigned word, int i) {
        return __uint_as_float((word >> (8 * i) & 0xFFu) | 0x4B000000u) - 8388736.0f;
    }
};

struct base_f32 {
    static constexpr int PER_WORD = 1, AHEAD = 4;
    static constexpr bool SCALED = false;
    static __device__ __forceinline__ float get(unsigned word, int) { return __uint_as_float(word); }
};

struct base_f16 {
    static constexpr int PER_WORD = 2, AHEAD = 4;
    static constexpr bool SCALED = false;
    static __device__ __forceinline__ float get(unsigned word, int i) { return half_bits(word >> (16 * i) & 0xFFFFu); }
};

struct base_bf16 {
    static constexpr int PER_WORD = 2, AHEAD = 4;
    static constexpr bool SCALED = false;
    static __device__ __forceinline__ float get(unsigned word, int i) {
        return __uint_as_float(i ? word & 0xFFFF0000u : word << 16);
    }
};

// Adds base·X of four rows to the sums of the calling lane, for every second tile. A lane multiplies each value of x that
// it loads with all four rows. Without GROUPED no scale is applied.
template <class K, int B, bool GROUPED>
__device__ __forceinline__ void base_tiles(
    const Base& base, unsigned four, unsigned half, const float* x, unsigned cols, unsigned stride, Batch<B> (&sum)[4]) {
    const unsigned lane = threadIdx.x % LANES;
    const uint4* codes = base.codes + static_cast<size_t>(four) * base.tiles * LANES + lane;
    const float4* scales = base.scales + static_cast<size_t>(four) * base.groups;
#pragma unroll (B == 1 ? K::AHEAD : K::AHEAD / 2)
    for (unsigned tile = half; tile < base.tiles; tile += 2) {
        const uint4 words = read_once(codes + static_cast<size_t>(tile) * LANES);
#pragma unroll
        for (int i = 0; i < K::PER_WORD; ++i) {
            const unsigned first = (tile * K::PER_WORD + i) * LANES;
            // Padding reads the row of zeros.
            const unsigned column = min(first + lane, cols);
            const Batch<B> row = load_batch<B>(x + static_cast<size_t>(column) * stride);
            float weights[4] = {K::get(words.x, i), K::get(words.y, i), K::get(words.z, i), K::get(words.w, i)};
            if (GROUPED) {
                const float4 scale = scales[first >> base.group_shift];
                weights[0] *= scale.x;
                weights[1] *= scale.y;
                weights[2] *= scale.z;
                weights[3] *= scale.w;
            }
#pragma unroll
            for (int r = 0; r < 4; ++r) {
#pragma unroll
                for (int b = 0; b < B; ++b) sum[r].at[b] = fmaf(weights[r], row.at[b], sum[r].at[b]);
            }
        }
    }
}

// Writes base·X of four rows, for every second tile, to `sums`: [4][B].
template <class K, int B>
__device__ __forceinline__ void base_rows(
    const Base& base, unsigned four, unsigned half, const float* x, unsigned cols, unsigned stride, float (*sums)[B]) {
    Batch<B> sum[4] = {};
    float4 scale = {1, 1, 1, 1};
    if (K::SCALED && base.group_shift != 31) {
        base_tiles<K, B, true>(base, four, half, x, cols, stride, sum);
    } else {
        base_tiles<K, B, false>(base, four, half, x, cols, stride, sum);
        if (K::SCALED) scale = base.scales[four];
    }
    const float scales[4] = {scale.x, scale.y, scale.z, scale.w};
#pragma unroll
    for (int r = 0; r < 4; ++r) {
        sum_lanes(sum[r], LANES);
#pragma unroll
        for (int b = 0; b < B; ++b) {
            if (threadIdx.x % LANES == 0) sums[r][b] = sum[r].at[b] * scales[r];
        }
    }
}

// Y = base·X + alpha·(residual·X) in one pass over Y. If alpha is 0, the residual is not read.
template <class K, class V, class G, int B>
__device__ __forceinline__ void forward(const Base& base, const Gap& a, const Product& p) {
    __shared__ float sums[WARPS][ROWS][B];
    __shared__ float base_sums[2][ROWS][B];
    const Place<B> place(p);
    const unsigned warp = threadIdx.x / LANES, stride = place.stride(p);
    const float* x = place.x(p);
    clear<B>(sums);
    if (p.alpha != 0) residual_block<V, G, B>(a, place.block, x, p.cols, stride, sums[warp]);
    // A warp computes four rows, for every second tile.
    const unsigned four = warp % 4, half = warp / 4;
    base_rows<K, B>(base, place.block * 4 + four, half, x, p.cols, stride, &base_sums[half][4 * four]);
    __syncthreads();
    const unsigned local = threadIdx.x / B, b = threadIdx.x % B, row = place.block * ROWS + local;
    if (local < ROWS && row < p.rows) {
        const float dense = base_sums[0][local][b] + base_sums[1][local][b];
        place.y(p, row, b) =
            p.alpha == 0 ? dense : fmaf(p.alpha, residual_sum<B>(a, sums, row, local, b), dense);
    }
}
