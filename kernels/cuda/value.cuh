// How stored values and gaps become numbers; loads and sums of a batch.
#pragma once

#include "operands.cuh"

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
