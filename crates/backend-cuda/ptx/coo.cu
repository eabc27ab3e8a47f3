// Written by `cargo xtask kernels` from kernels/cuda; change it there.
// Triplets in any order to CSR. Values at one place are summed in their original order. Atomics only count, and sorting
// decides the order of entries, so the bits repeat.

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

typedef unsigned long long Key;  // column << 32 | number of the triplet

// Rows with at most this many entries are sorted in shared memory.
constexpr unsigned SHARED_KEYS = 2048;

RESIDUA_KERNEL(coo_count, const unsigned* rows, unsigned long long entries, unsigned* counts) {
    const size_t i = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (i < entries) atomicAdd(counts + rows[i], 1u);
}

// The sum over the threads of the block up to this one, inclusive. `totals` has WARPS places.
__device__ __forceinline__ unsigned inclusive_scan(unsigned value, unsigned* totals) {
    const unsigned lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    for (unsigned distance = 1; distance < LANES; distance *= 2) {
        const unsigned below = shuffle_up(value, distance);
        if (lane >= distance) value += below;
    }
    if (lane == LANES - 1) totals[warp] = value;
    __syncthreads();
    for (unsigned i = 0; i < warp; ++i) value += totals[i];
    __syncthreads();
    return value;
}

// Computes row_ptr (rows + 1) from the counts of `rows` rows. The counts become a copy of it without the end. One block.
RESIDUA_KERNEL(coo_scan, unsigned* counts, unsigned rows, unsigned* row_ptr) {
    __shared__ unsigned totals[WARPS];
    __shared__ unsigned carry;
    if (threadIdx.x == 0) carry = 0;
    __syncthreads();
    for (unsigned first = 0; first < rows; first += THREADS) {
        const unsigned row = first + threadIdx.x, count = row < rows ? counts[row] : 0;
        const unsigned before = carry, end = before + inclusive_scan(count, totals);
        if (row < rows) {
            row_ptr[row] = end - count;
            counts[row] = end - count;
        }
        __syncthreads();
        if (threadIdx.x == THREADS - 1) carry = end;
        __syncthreads();
    }
    if (threadIdx.x == 0) row_ptr[rows] = carry;
}

// Moves the triplets to their rows, in any order.
RESIDUA_KERNEL(
    coo_deal, const unsigned* rows, const unsigned* columns, unsigned long long entries, unsigned* next, Key* keys) {
    const size_t i = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (i < entries) keys[atomicAdd(next + rows[i], 1u)] = static_cast<Key>(columns[i]) << 32 | i;
}

__device__ __forceinline__ void order(Key* keys, unsigned i, unsigned partner, unsigned count) {
    if (partner > i && partner < count && keys[i] > keys[partner]) {
        const Key swapped = keys[i];
        keys[i] = keys[partner];
        keys[partner] = swapped;
    }
}

// Bitonic sort of any number of keys by a block (K. E. Batcher, *Sorting networks and their applications*, 1968). This form
// mirrors the second half and sorts everything upwards.
__device__ __forceinline__ void sort(Key* keys, unsigned count) {
    for (unsigned size = 2; size / 2 < count && size != 0; size *= 2) {
        for (unsigned i = threadIdx.x; i < count; i += THREADS) order(keys, i, i ^ (size - 1), count);
        __syncthreads();
        for (unsigned distance = size / 4; distance > 0; distance /= 2) {
            for (unsigned i = threadIdx.x; i < count; i += THREADS) order(keys, i, i ^ distance, count);
            __syncthreads();
        }
    }
}

// Whether key i of a sorted row is the first of its column.
__device__ __forceinline__ bool is_first(const Key* keys, unsigned i) {
    return i == 0 || keys[i] >> 32 != keys[i - 1] >> 32;
}

// Sorts the keys of each row and counts its columns. A block per row.
RESIDUA_KERNEL(coo_sort, const unsigned* row_ptr, Key* keys, unsigned* counts) {
    __shared__ Key shared[SHARED_KEYS];
    __shared__ unsigned totals[WARPS];
    const unsigned row = blockIdx.x, start = row_ptr[row], count = row_ptr[row + 1] - start;
    Key* own = keys + start;
    if (count <= SHARED_KEYS) {
        for (unsigned i = threadIdx.x; i < count; i += THREADS) shared[i] = own[i];
        __syncthreads();
        sort(shared, count);
        for (unsigned i = threadIdx.x; i < count; i += THREADS) own[i] = shared[i];
    } else {
        sort(own, count);
    }
    __syncthreads();
    unsigned columns = 0;
    for (unsigned i = threadIdx.x; i < count; i += THREADS) columns += is_first(own, i);
    const unsigned sum = inclusive_scan(columns, totals);
    if (threadIdx.x == THREADS - 1) counts[row] = sum;
}

// Writes the columns of each row and the sums of their triplets. A block per row.
RESIDUA_KERNEL(
    coo_merge, const unsigned* row_ptr, const Key* keys, const float* values, const unsigned* merged_ptr,
    unsigned* merged_columns, float* merged_values) {
    __shared__ unsigned totals[WARPS];
    const unsigned row = blockIdx.x, count = row_ptr[row + 1] - row_ptr[row];
    const Key* own = keys + row_ptr[row];
    unsigned base = merged_ptr[row];
    for (unsigned first = 0; first < count; first += THREADS) {
        const unsigned i = first + threadIdx.x;
        const bool head = i < count && is_first(own, i);
        const unsigned place = inclusive_scan(head, totals);
        if (head) {
            float sum = values[static_cast<unsigned>(own[i])];
            for (unsigned next = i + 1; next < count && !is_first(own, next); ++next) {
                sum += values[static_cast<unsigned>(own[next])];
            }
            merged_columns[base + place - 1] = static_cast<unsigned>(own[i] >> 32);
            merged_values[base + place - 1] = sum;
        }
        // The last thread knows the total.
        if (threadIdx.x == THREADS - 1) totals[0] = place;
        __syncthreads();
        base += totals[0];
        __syncthreads();
    }
}
