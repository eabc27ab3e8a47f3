//! Layers that stay in the caller's memory, in the layout of the C API.
//!
//! Nothing is laid out anew, so nothing is held twice and a caller who changes a weight between two products
//! sees it in the second. The price is a check of all column indices each time, a single pass over them.

mod base;
mod csr;
mod forward;

pub use base::BorrowedBase;
pub use csr::BorrowedCsr;
pub(crate) use forward::zeroed;
