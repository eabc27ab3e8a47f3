// Layers whose base is floats. Compiled once per value type of the residual: -DRESIDUA_VALUE=value_f32 (or f16, bf16, i8).
// b1, b8: number of vectors of the batch that a block of threads computes at once.

#include "base.cuh"

typedef RESIDUA_VALUE Value;

RESIDUA_KERNEL(forward_f32_b1, Base base, Gap a, Product p) { forward<base_f32, Value, gap_u8, 1>(base, a, p); }
RESIDUA_WIDE_KERNEL(forward_f32_b8, Base base, Gap a, Product p) { forward<base_f32, Value, gap_u8, 8>(base, a, p); }
RESIDUA_KERNEL(forward_f16_b1, Base base, Gap a, Product p) { forward<base_f16, Value, gap_u8, 1>(base, a, p); }
RESIDUA_WIDE_KERNEL(forward_f16_b8, Base base, Gap a, Product p) { forward<base_f16, Value, gap_u8, 8>(base, a, p); }
RESIDUA_KERNEL(forward_bf16_b1, Base base, Gap a, Product p) { forward<base_bf16, Value, gap_u8, 1>(base, a, p); }
RESIDUA_WIDE_KERNEL(forward_bf16_b8, Base base, Gap a, Product p) { forward<base_bf16, Value, gap_u8, 8>(base, a, p); }
