//! Conversions, one module per direction.
//!
//! Conversions run on the current rayon pool and take memory in proportion to their output. The result has the same
//! bits whatever the number of threads. Between types of this crate they are functions. To and from sprs and
//! nalgebra-sparse, with the features of these names, they are `From` and `TryFrom` of [`Csr`](crate::Csr) and [`Coo`](crate::Coo); they copy nothing
//! where the layout is the same.

mod coo_csr;
mod csr_coo;
mod dense;
mod from_gap;
#[cfg(feature = "nalgebra-sparse")]
mod nalgebra;
mod split;
#[cfg(feature = "sprs")]
mod sprs;
mod stored;
mod to_gap;
mod width;

pub use coo_csr::coo_to_csr;
pub use csr_coo::{csr_into_coo, csr_to_coo};
pub use dense::{coo_to_dense, csr_to_dense, dense_to_coo, dense_to_csr};
pub use from_gap::{gap_to_coo, gap_to_csr, gap_to_dense};
pub use to_gap::{coo_to_gap, csr_to_gap, dense_to_gap};
pub use width::{coo_width, csr_width};

/// What to do with several triplets at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicates {
    /// Add them up, in their order.
    Sum,
    /// Refuse them. The error names the place.
    Refuse,
}
