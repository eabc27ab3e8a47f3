//! What a backend is, and what it must compute.
//!
//! A [`Backend`] holds matrices and vectors where it computes (this machine's memory, a GPU's) and applies
//! one to the other. [`reference`](mod@reference) says in f64 what the results are; `conformance` (feature of
//! that name) is the suite that every backend passes. [`AnyBackend`] is a backend chosen at run time.

mod any;
mod contract;
mod error;
mod layout;
pub mod reference;
pub mod shape;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use any::{AnyBackend, AnyBase, AnyMatrix, AnyVector, Operand, Untyped};
pub use contract::Backend;
pub use error::BackendError;
pub use shape::{Shaped, VectorShape};
