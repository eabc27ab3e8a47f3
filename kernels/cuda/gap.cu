// Products with a residual, and layers whose base is quantised. Compiled once per value type of the residual:
// -DRESIDUA_VALUE=value_f32 (or f16, bf16, i8). g8, g16: bits of a gap; b1, b8: number of vectors of the batch that a block
// of threads computes at once.

#include "base.cuh"

typedef RESIDUA_VALUE Value;

RESIDUA_KERNEL(spmm_g8_b1, Gap a, Product p) { spmm<Value, gap_u8, 1>(a, p); }
RESIDUA_WIDE_KERNEL(spmm_g8_b8, Gap a, Product p) { spmm<Value, gap_u8, 8>(a, p); }
RESIDUA_KERNEL(spmm_g16_b1, Gap a, Product p) { spmm<Value, gap_u16, 1>(a, p); }
RESIDUA_WIDE_KERNEL(spmm_g16_b8, Gap a, Product p) { spmm<Value, gap_u16, 8>(a, p); }

// For residuals with gaps of 8 bits. With gaps of 16 bits the host computes the base first, then adds the product.
RESIDUA_KERNEL(forward_int4_b1, Base base, Gap a, Product p) { forward<base_int4, Value, gap_u8, 1>(base, a, p); }
RESIDUA_WIDE_KERNEL(forward_int4_b8, Base base, Gap a, Product p) { forward<base_int4, Value, gap_u8, 8>(base, a, p); }
RESIDUA_KERNEL(forward_int8_b1, Base base, Gap a, Product p) { forward<base_int8, Value, gap_u8, 1>(base, a, p); }
RESIDUA_WIDE_KERNEL(forward_int8_b8, Base base, Gap a, Product p) { forward<base_int8, Value, gap_u8, 8>(base, a, p); }
