//! Conversions, one module per pair of types. All take memory in proportion to their output.

mod coo_csr;
mod csr_gap;

pub use coo_csr::{coo_to_csr, csr_to_coo};
pub use csr_gap::{csr_to_gap, gap_to_csr};

/// What to do with several COO triplets at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicates {
    /// Add them up, in the order they come.
    Sum,
    /// Refuse them with an error that names the place.
    Refuse,
}
