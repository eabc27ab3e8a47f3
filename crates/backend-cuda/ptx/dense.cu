// Written by `cargo xtask kernels` from kernels/cuda; change it there.
// Layers whose base is floats. Compiled once per value type of the residual: -DRESIDUA_VALUE=value_f32 (or f16, bf16, i8).
// b1, b8: number of vectors of the batch that a block of threads computes at once.

// The part of a row block that comes from the base, and the fused layer.

// The part of a row block that comes from the residual.

// How stored values and gaps become numbers; loads and sums of a batch.

// The operands that the host passes by value. `crates/backend-cuda/src/abi.rs` has the same structures.

// The instructions that are not plain C++, one function each. A host build (RESIDUA_HOST) has its own versions.

#ifdef RESIDUA_HOST
#include "host.h"
#else

// A kernel of blocks of 256 threads, and one that keeps many sums. The second number is the number of blocks that a
// multiprocessor must hold. Without it the assembler aims for more blocks, and registers spill.
#define RESIDUA_KERNEL(name, ...) extern "C" __global__ void __launch_bounds__(256, 4) name(__VA_ARGS__)
#define RESIDUA_WIDE_KERNEL(name, ...) extern "C" __global__ void __launch_bounds__(256, 2) name(__VA_ARGS__)

// Reads memory that is read once, without pushing x out of the first-level cache.
template <class T>
__device__ __forceinline__ T read_once(const T* from) {
    return __ldcs(from);
}

// The IEEE half in the low 16 bits, as f32.
__device__ __forceinline__ float half_bits(unsigned bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(static_cast<unsigned short>(bits)));
    return value;
}

// Adds to each value the value of the lane whose number differs in the bit `lanes`.
template <int B>
__device__ __forceinline__ void add_from_lane(float (&values)[B], unsigned lanes) {
#pragma unroll
    for (int b = 0; b < B; ++b) values[b] += __shfl_xor_sync(0xFFFFFFFFu, values[b], lanes);
}

__device__ __forceinline__ unsigned shuffle_up(unsigned value, unsigned lanes) {
    return __shfl_up_sync(0xFFFFFFFFu, value, lanes);
}

#endif

// Threads of a block, lanes of a warp, warps of a block.
constexpr unsigned THREADS = 256, LANES = 32, WARPS = THREADS / LANES;
// Rows of a row block, which one block of threads computes.
constexpr unsigned ROWS = 16;

// A residual in gap-encoded slices; `crates/backend-cuda/src/layout/mod.rs` describes it.
struct Gap {
    const unsigned* blocks;  // row blocks + 1: first slice of each
    const uint4* slices;     // per slice: first step; steps << 16 | rows << 8 | log2(lanes per row); 16 rows of 4 bits
    const unsigned* starts;  // per slice and lane: column before the lane's first entry
    const void* gaps;        // per step and lane: 4 gaps
    const void* values;      // per step and lane: 4 values
    const float* scales;     // per row, or null
};

// A base in tiles; `crates/backend-cuda/src/base/mod.rs` describes it.
struct Base {
    const uint4* codes;    // per four rows, tile and lane: a word of weights for each row
    const float4* scales;  // per four rows and group; null for floats
    unsigned tiles;        // of a row
    unsigned groups;       // of a row, with padding
    unsigned group_shift;  // log2(columns of a group); 31: one group
};

// Y = alpha·A·X + beta·Y. X is [cols + 1][stride], Y is [rows][stride]; the stride is 1 or a multiple of 8. The last row
// of X is zeros. Fillers and padding have no column and read this row, so kernels mask nothing.
struct Product {
    const float* x;
    float* y;
    unsigned rows, cols, stride;
    float alpha, beta;
};

// Plain CSR with 32-bit indices.
struct CsrArrays {
    const unsigned* row_ptr;  // rows + 1
    const unsigned* columns;
    const float* values;
};

// value_f32 etc.: a lane loads four values as `Four`; `get` is value i as f32.
struct value_f32 {
    typedef uint4 Four;
    static __device__ __forceinline__ float get(const Four& four, int i) {
        return __uint_as_float(i == 0 ? four.x : i == 1 ? four.y : i == 2 ? four.z : four.w);
    }
};

struct value_f16 {
    typedef uint2 Four;
    static __device__ __forceinline__ float get(const Four& four, int i) {
        return half_bits((i < 2 ? four.x : four.y) >> (16 * (i & 1)) & 0xFFFFu);
    }
};

struct value_bf16 {
    typedef uint2 Four;
    static __device__ __forceinline__ float get(const Four& four, int i) {
        unsigned word = i < 2 ? four.x : four.y;
        return __uint_as_float(i & 1 ? word & 0xFFFF0000u : word << 16);
    }
};

struct value_i8 {
    typedef unsigned Four;
    static __device__ __forceinline__ float get(const Four& four, int i) {
        return static_cast<float>(static_cast<signed char>(four >> (8 * i)));
    }
};

// A gap of 0 is a filler: the column grows by MOST and there is no entry.
struct gap_u8 {
    typedef unsigned Four;
    static constexpr unsigned MOST = 0xFF;
    static __device__ __forceinline__ unsigned get(const Four& four, int i) { return four >> (8 * i) & MOST; }
};

struct gap_u16 {
    typedef uint2 Four;
    static constexpr unsigned MOST = 0xFFFF;
    static __device__ __forceinline__ unsigned get(const Four& four, int i) {
        return (i < 2 ? four.x : four.y) >> (16 * (i & 1)) & MOST;
    }
};

// The B neighbouring values of one row of X.
template <int B>
struct Batch {
    float at[B];
};

template <int B>
__device__ __forceinline__ Batch<B> load_batch(const float* from) {
    Batch<B> batch;
    if (B == 1) {
        batch.at[0] = *from;
    } else {
        // Rows of X start at a multiple of 8 values.
        for (int i = 0; i < B / 4; ++i) {
            float4 four = reinterpret_cast<const float4*>(from)[i];
            batch.at[(4 * i) % B] = four.x;
            batch.at[(4 * i + 1) % B] = four.y;
            batch.at[(4 * i + 2) % B] = four.z;
            batch.at[(4 * i + 3) % B] = four.w;
        }
    }
    return batch;
}

// Sums over groups of `lanes` neighbouring lanes, always in the same order. Every lane gets the sum of its group.
template <int B>
__device__ __forceinline__ void sum_lanes(Batch<B>& sums, unsigned lanes) {
#pragma unroll 1
    for (unsigned distance = 1; distance < lanes; distance *= 2) add_from_lane(sums.at, distance);
}

// The work of a block of threads: a row block and a tile of B vectors of the batch. Tiles of one row block are
// neighbours, so that the matrix is read from memory once.
template <int B>
struct Place {
    unsigned block, tile;
    __device__ __forceinline__ Place(const Product& p) {
        unsigned tiles = B == 1 ? 1 : p.stride / B;
        block = blockIdx.x / tiles;
        tile = blockIdx.x % tiles;
    }
    __device__ __forceinline__ static unsigned stride(const Product& p) { return B == 1 ? 1 : p.stride; }
    __device__ __forceinline__ const float* x(const Product& p) const { return p.x + tile * B; }
    __device__ __forceinline__ float& y(const Product& p, unsigned row, unsigned b) const {
        return p.y[static_cast<size_t>(row) * stride(p) + tile * B + b];
    }
};

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

typedef RESIDUA_VALUE Value;

RESIDUA_KERNEL(forward_f32_b1, Base base, Gap a, Product p) { forward<base_f32, Value, gap_u8, 1>(base, a, p); }
RESIDUA_WIDE_KERNEL(forward_f32_b8, Base base, Gap a, Product p) { forward<base_f32, Value, gap_u8, 8>(base, a, p); }
RESIDUA_KERNEL(forward_f16_b1, Base base, Gap a, Product p) { forward<base_f16, Value, gap_u8, 1>(base, a, p); }
RESIDUA_WIDE_KERNEL(forward_f16_b8, Base base, Gap a, Product p) { forward<base_f16, Value, gap_u8, 8>(base, a, p); }
RESIDUA_KERNEL(forward_bf16_b1, Base base, Gap a, Product p) { forward<base_bf16, Value, gap_u8, 1>(base, a, p); }
RESIDUA_WIDE_KERNEL(forward_bf16_b8, Base base, Gap a, Product p) { forward<base_bf16, Value, gap_u8, 8>(base, a, p); }
