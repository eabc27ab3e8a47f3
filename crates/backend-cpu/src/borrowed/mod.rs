//! Layers that stay in the caller's memory, in the layout of the C API.
//!
//! Nothing is copied: memory holds one copy, and a weight that the caller changes takes effect in the next product. The
//! price is one pass over the column indices per product, to check them.

mod base;
mod csr;
mod forward;

pub use base::BorrowedBase;
pub use csr::BorrowedCsr;
pub(crate) use forward::zeroed;
