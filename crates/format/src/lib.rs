//! Sparse matrices as this project stores them, and every way in and out of them.
//!
//! | type | what it is | bytes per non-zero (16-bit values) |
//! |---|---|---|
//! | [`Coo`] | (row, column, value) triplets in any order, duplicates allowed | 10 |
//! | [`Csr`] | sorted, duplicate-free rows behind a pointer array | 6 |
//! | [`GapCsr`] | rows of one-byte column gaps and a value plane: the compact format | about 3 |
//! | [`QuantizedBase`] | the dense low-precision part of a layer (INT4, INT8) | |
//! | [`DenseMatrix`] | a dense part that is another checkpoint's tensor (f32, f16, bf16) | |
//!
//! [`convert`] has one module per direction; [`mod@file`] has one per file format. A `rows × cols` matrix is
//! `[out_features, in_features]` throughout.

mod base;
pub mod convert;
mod coo;
mod csr;
mod dense;
mod error;
pub mod file;
pub mod gap;
mod index;
#[cfg(feature = "proptest")]
pub mod strategies;
mod value;
mod vectorised;

pub use base::{BaseKind, QuantizedBase, dequantize_row, quantize_row};
pub use convert::Duplicates;
pub use coo::Coo;
pub use csr::Csr;
pub use dense::{DenseMatrix, DenseValues};
pub use error::FormatError;
pub use gap::{GapCsr, GapPattern, ValuePlane};
pub use index::Index;
pub use value::{Value, ValueType};

/// The examples of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
