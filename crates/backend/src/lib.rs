//! What a backend is, and what it must compute.
//!
//! A [`Backend`] holds matrices and vectors where it computes (this machine's memory, a GPU's) and applies
//! one to the other. [`reference`](mod@reference) says in f64 what the results are.

mod contract;
mod error;
pub mod reference;
pub mod shape;

pub use contract::Backend;
pub use error::BackendError;
pub use shape::Shaped;
