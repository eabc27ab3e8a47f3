//! Gap-encoded CSR: the compact format.
//!
//! A row is a run of one-byte column gaps and a run of values. At 5 % density a column index costs one
//! byte, against four in CSR and eight in a COO pair. [`GapPattern`] holds where the entries are,
//! [`ValuePlane`] what they are, [`GapCsr`] both.

mod matrix;
mod pattern;
mod row;
mod values;

pub use matrix::GapCsr;
pub use pattern::{GapPattern, GapPatternBuilder, ModePlanes};
pub use row::{RowIter, RowMode, RowPlan};
pub use values::ValuePlane;
