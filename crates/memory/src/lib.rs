//! Memory budgets that are kept.
//!
//! A job gets a [`Budget`]. Before it allocates a large buffer it takes a [`Reservation`] from the budget. A job that
//! cannot run in what is left fails with a [`BudgetError`] before it starts. [`AlignedVec`] is the buffer that holds
//! every plane of a sparse matrix. [`process`] measures what the process really holds.

mod aligned;
mod budget;
mod chunk;
mod huge;
mod kind;
pub mod process;
mod size;

pub use aligned::{ALIGNMENT, AlignedVec};
pub use budget::{Budget, BudgetError, Reservation};
pub use chunk::ChunkPolicy;
pub use huge::prefer_huge_pages;
pub use kind::ErrorKind;
pub use size::{ByteSize, ParseByteSizeError};

/// The examples of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
