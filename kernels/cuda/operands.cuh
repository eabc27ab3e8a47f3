// The operands that the host passes by value. `crates/backend-cuda/src/abi.rs` has the same structures.
#pragma once

#include "device.cuh"

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
