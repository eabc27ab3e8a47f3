//! Gap-encoded CSR: the compact format.
//!
//! A row is a run of one-byte column gaps and a run of values. At 5 % density a column index takes one byte. In CSR
//! it takes four, in a COO pair eight. [`GapPattern`] holds the positions of the entries, [`ValuePlane`] their
//! values, [`GapCsr`] both.

mod matrix;
mod pattern;
mod row;
mod values;

pub use matrix::GapCsr;
pub use pattern::{GapPattern, GapPatternBuilder, ModePlanes};
pub use row::{RowIter, RowMode, RowPlan};
pub use values::ValuePlane;
