// Written by `cargo xtask kernels` from kernels/cuda; change it there.
// Two usual ways to multiply with plain triplets, Y += A·X. The backend does not use them; the device program compares with
// them. The triplets may have any order. Rows of X and Y have `stride` values; `batch` of them are used.

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
