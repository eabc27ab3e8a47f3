// The parts of CUDA that the kernels use, for a host compiler: in tests the kernels run on the processor.
//
// The threads of a block are fibers of one OS thread. They switch where they exchange values or wait: see emulator.cpp.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <utility>

#define __device__
#define __forceinline__ inline
#define __shared__ static thread_local

struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

namespace residua {

struct Index {
    unsigned x;
};

// The place of the running thread in its block, and of the block in the grid.
struct Running {
    Index thread, block;
};
extern thread_local Running running;

// The maximum number of values that a lane exchanges at once.
constexpr unsigned MOST_VALUES = 8;

// Gives `count` values to the warp and returns those of lane `source`. All lanes of the warp must call it.
const uint32_t* exchange(const void* values, unsigned count, unsigned source);
void wait_for_warp();
void wait_for_block();

typedef void (*Body)(void** arguments);

// A kernel, in a list of all kernels.
struct Entry {
    const char *module, *kernel;
    Body body;
    const size_t* sizes;  // of its parameters
    size_t count;
    Entry* next;
    Entry(const char* module, const char* kernel, Body body, const size_t* sizes, size_t count);
};

template <class F>
struct Call;

template <class... P>
struct Call<void (*)(P...)> {
    static constexpr size_t SIZES[] = {sizeof(P)...};
    template <void (*KERNEL)(P...)>
    static void body(void** arguments) {
        unpack<KERNEL>(arguments, std::index_sequence_for<P...>());
    }
    template <void (*KERNEL)(P...), size_t... I>
    static void unpack(void** arguments, std::index_sequence<I...>) {
        KERNEL(*static_cast<P*>(arguments[I])...);
    }
};

template <class T, class U>
inline T same_bits(U from) {
    static_assert(sizeof(T) == sizeof(U));
    T to;
    memcpy(&to, &from, sizeof to);
    return to;
}

}  // namespace residua

#define threadIdx (residua::running.thread)
#define blockIdx (residua::running.block)

#define RESIDUA_TEXT2(text) #text
#define RESIDUA_TEXT(text) RESIDUA_TEXT2(text)
#define RESIDUA_KERNEL(name, ...)                                                                      \
    static void name(__VA_ARGS__);                                                                     \
    static residua::Entry name##_entry(                                                                \
        RESIDUA_TEXT(RESIDUA_MODULE), #name, residua::Call<decltype(&name)>::body<&name>,              \
        residua::Call<decltype(&name)>::SIZES,                                                         \
        sizeof residua::Call<decltype(&name)>::SIZES / sizeof(size_t));                                \
    static void name(__VA_ARGS__)

#define RESIDUA_WIDE_KERNEL RESIDUA_KERNEL

inline void __syncthreads() { residua::wait_for_block(); }
inline void __syncwarp() { residua::wait_for_warp(); }

inline float __uint_as_float(unsigned bits) { return residua::same_bits<float>(bits); }

inline unsigned min(unsigned one, unsigned other) { return one < other ? one : other; }

inline unsigned atomicAdd(unsigned* to, unsigned value) {
    return __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
}

// Only peer_coo.cu adds floats this way. The threads of a launch are fibers of one OS thread.
inline float atomicAdd(float* to, float value) {
    const float before = *to;
    *to = before + value;
    return before;
}

// The functions of device.cuh.

template <class T>
inline T read_once(const T* from) {
    return *from;
}

inline float half_bits(unsigned bits) {
    // After the shift the exponent is 112 too small. A multiplication corrects it, for subnormals too.
    const uint32_t magnitude = (bits & 0x7FFF) << 13, sign = (bits & 0x8000) << 16;
    const float scaled = residua::same_bits<float>(magnitude) * 0x1p112f;
    const uint32_t finite = residua::same_bits<uint32_t>(scaled);
    return residua::same_bits<float>((magnitude < 0x0F800000 ? finite : magnitude | 0x7F800000) | sign);
}

template <int B>
inline void add_from_lane(float (&values)[B], unsigned lanes) {
    static_assert(B <= residua::MOST_VALUES);
    const uint32_t* others = residua::exchange(values, B, (threadIdx.x % 32) ^ lanes);
    for (int b = 0; b < B; ++b) values[b] += residua::same_bits<float>(others[b]);
}

inline unsigned shuffle_up(unsigned value, unsigned lanes) {
    const unsigned lane = threadIdx.x % 32;
    return *residua::exchange(&value, 1, lane < lanes ? lane : lane - lanes);
}
