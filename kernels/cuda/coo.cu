// Triplets in any order to CSR. Values at one place are summed in their original order. Atomics only count, and sorting
// decides the order of entries, so the bits repeat.

#include "operands.cuh"

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
