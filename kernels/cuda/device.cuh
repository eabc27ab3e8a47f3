// The instructions that are not plain C++, one function each. A host build (RESIDUA_HOST) has its own versions.
#pragma once

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
