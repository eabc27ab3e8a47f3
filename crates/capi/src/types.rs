//! The structs of the header, in C layout.

#![allow(non_camel_case_types)]

use std::ffi::{c_int, c_void};

/// `orth_ortho_t.format`: `indices` holds one flat index `row * in_features + col` per value.
pub const ORTH_FORMAT_COO: c_int = 0;
/// `orth_ortho_t.format`: `row_ptr` holds the start of each row in `col_indices` and `values`.
pub const ORTH_FORMAT_CSR: c_int = 1;
/// `orth_ortho_t.format`: `row_ptr` holds the row and `col_indices` the column of each value.
pub const ORTH_FORMAT_COO32: c_int = 2;

/// The dense part: codes with one scale per row, weight = code * scale.
///
/// Code number row * in_features + col. With q_bits 4 two codes share a byte, the even number in the low nibble,
/// both two's complement (-8 to 7); with q_bits 8 a code is an int8_t. Rows have no padding.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct orth_base_t {
    /// (in_features * out_features * q_bits + 7) / 8 bytes of codes.
    pub q_weight: *mut c_void,
    /// out_features floats.
    pub q_scales: *mut c_void,
    /// 4 or 8.
    pub q_bits: c_int,
    /// Columns.
    pub in_features: usize,
    /// Rows.
    pub out_features: usize,
}

/// The sparse part. `format` determines the arrays in use; the others are NULL.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct orth_ortho_t {
    /// CSR: out_features + 1 offsets, the first 0, never decreasing, the last `count`. COO32: `count` rows.
    pub row_ptr: *mut i32,
    /// CSR and COO32: `count` columns, 0 to in_features - 1.
    pub col_indices: *mut i32,
    /// `count` values; those at one place are summed.
    pub values: *mut f32,
    /// COO: `count` flat indices.
    pub indices: *mut u16,
    /// Number of values in use; with 0 the sparse part is empty, and the arrays do not matter.
    pub count: c_int,
    /// Number of values allocated.
    pub capacity: usize,
    /// ORTH_FORMAT_COO, ORTH_FORMAT_CSR or ORTH_FORMAT_COO32.
    pub format: c_int,
}

/// A layer: y = base * x + alpha * (ortho * x).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct orth_layer_t {
    /// The dense part.
    pub base: orth_base_t,
    /// The sparse part.
    pub ortho: orth_ortho_t,
    /// 1 is the whole model, 0 the dense part alone; any finite number.
    pub alpha: f32,
}

impl Default for orth_layer_t {
    /// What `orth_layer_free` leaves behind: no buffers, an empty sparse part.
    fn default() -> Self {
        let null = std::ptr::null_mut();
        Self {
            base: orth_base_t { q_weight: null, q_scales: null, q_bits: 0, in_features: 0, out_features: 0 },
            ortho: orth_ortho_t::default(),
            alpha: 0.0,
        }
    }
}

impl Default for orth_ortho_t {
    fn default() -> Self {
        let null = std::ptr::null_mut();
        Self {
            row_ptr: null,
            col_indices: null,
            values: std::ptr::null_mut(),
            indices: std::ptr::null_mut(),
            count: 0,
            capacity: 0,
            format: ORTH_FORMAT_CSR,
        }
    }
}
