//! Sparse matrices, quantised bases, and the files that hold them.
//!
//! | type | what it is | bytes per non-zero (16-bit values) |
//! |---|---|---|
//! | [`Coo`] | (row, column, value) triplets in any order, duplicates allowed | 10 |
//! | [`Csr`] | sorted, duplicate-free rows behind a pointer array | 6 |
//! | [`GapCsr`] | rows of one-byte column gaps and a value plane: the compact format | about 3 |
//! | [`QuantizedBase`] | the dense low-precision part of a layer (INT4, INT8) | |
//! | [`DenseMatrix`] | the dense part of a layer at full precision (f32, f16, bf16) | |
//!
//! [`convert`] converts between these types, [`mod@file`] reads and writes files. Everywhere a `[rows, cols]` matrix
//! is `[out_features, in_features]`.

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

pub use base::{
    BaseKind, Coder, Grid, MULTIPLIERS, QuantizedBase, code_i8, plain_multipliers, quantize_row, scale_i8,
};
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
