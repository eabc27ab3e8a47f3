// Written by `cargo xtask kernels` from kernels/cuda; change it there.
// Not part of the backend: two usual ways to multiply with triplets as they are, Y += A·X, for the device program to
// compare with. Both take any order of triplets; X and Y have `stride` values a row, of which `batch` are used.

// The operands as the host hands them over, by value. `crates/backend-cuda/src/launch.rs` mirrors them field by field.

// What the kernels take from the compiler and the processor, one function for each instruction that is not plain C++.
// A host build (RESIDUA_HOST) brings its own version of this file's functions.

#ifdef RESIDUA_HOST
#include "host.h"
#else

// A kernel of blocks of 256 threads, and one that keeps many sums. The number is that of blocks which a multiprocessor has
// to hold: left to itself the assembler goes for more, and spills.
#define RESIDUA_KERNEL(name, ...) extern "C" __global__ void __launch_bounds__(256, 4) name(__VA_ARGS__)
#define RESIDUA_WIDE_KERNEL(name, ...) extern "C" __global__ void __launch_bounds__(256, 2) name(__VA_ARGS__)

// Reads what is read once: it must not push x out of the first-level cache.
template <class T>
__device__ __forceinline__ T read_once(const T* from) {
    return __ldcs(from);
}

// IEEE half in the low 16 bits, as f32.
__device__ __forceinline__ float half_bits(unsigned bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(static_cast<unsigned short>(bits)));
    return value;
}

// Adds to each value that of the lane whose number differs in the bit `lanes`.
template <int B>
__device__ __forceinline__ void add_from_lane(float (&values)[B], unsigned lanes) {
#pragma unroll
    for (int b = 0; b < B; ++b) values[b] += __shfl_xor_sync(0xFFFFFFFFu, values[b], lanes);
}

__device__ __forceinline__ unsigned shuffle_up(unsigned value, unsigned lanes) {
    return __shfl_up_sync(0xFFFFFFFFu, value, lanes);
}

#endif

// Threads of a block, lanes of a warp, and how a block shares its work.
constexpr unsigned THREADS = 256, LANES = 32, WARPS = THREADS / LANES;
// Rows of a row block: what one block of threads computes.
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

// A quantised base in tiles; `crates/backend-cuda/src/base.rs` describes it.
struct Base {
    const uint4* codes;    // per four rows, tile and lane: a word of codes for each of the rows
    const float4* scales;  // per four rows and group
    unsigned tiles;        // of a row
    unsigned groups;       // of a row, padding counted
    unsigned group_shift;  // log2(columns of a group); 31: one group
};

// Y = alpha·A·X + beta·Y. X is [cols + 1][stride], Y [rows][stride]; a stride is 1 or a multiple of 8. The last row of X
// is zeros: what stands for no column points there, so that nothing has to be masked.
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
