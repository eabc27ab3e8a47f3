//! The CPU backend: sparse products and the fused layer on AVX2, with a portable path beside it.
//!
//! [`CpuBackend`] implements [`Backend`](residua_backend::Backend). Matrices are laid out at upload in
//! slices of eight row segments, interleaved so that each vector lane follows its own chain of column gaps;
//! `layout` describes it. A row's result depends on its own entries alone, so the bits do not change
//! with the number of threads. A layer can also stay where it is, in the layout of the C API:
//! [`CpuBackend::forward_borrowed`]. The AVX2 and the portable path differ from each other in rounding.

mod backend;
mod base;
mod borrowed;
mod kernel;
mod layout;
mod pool;
mod tile;
mod vector;

pub use backend::{CpuBackend, CpuMatrix};
pub use base::CpuBase;
pub use borrowed::{BorrowedBase, BorrowedCsr};
pub use vector::CpuVector;
