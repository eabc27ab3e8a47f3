// Written by `cargo xtask kernels` from kernels/cuda; change it there.
// Products with plain CSR (32-bit indices, f32): a warp per row.

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
