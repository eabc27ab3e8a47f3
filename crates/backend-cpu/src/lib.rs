//! The CPU backend: sparse products and the fused layer on AVX2 and AVX-512, and a portable path for other processors.
//!
//! [`CpuBackend`] implements [`Backend`](residua_backend::Backend); [`CpuOptions`] chooses its threads and its path.
//! An upload lays a sparse matrix out in slices of eight row segments, interleaved so that each vector lane follows its
//! own chain of column gaps; the module `layout` describes it. A row's result depends on its own entries alone, so the
//! bits do not change with the number of threads. A layer can also stay in the caller's memory, in the layout of the
//! C API: [`CpuBackend::forward_borrowed`]. The AVX2 and AVX-512 paths give the same bits; the portable path differs in
//! rounding.
//!
//! With [`Activations::I8`](residua_backend::Activations) a quantised base is multiplied with inputs rounded to 8-bit
//! integers: [`CpuOptions::activations`].

mod backend;
mod base;
mod borrowed;
mod input;
mod kernel;
mod layout;
mod options;
mod pool;
mod quantized;
mod tile;
mod vector;

pub use backend::{CpuBackend, CpuMatrix};
pub use base::CpuBase;
pub use borrowed::{BorrowedBase, BorrowedCsr};
pub use options::CpuOptions;
pub use vector::CpuVector;
