//! The CUDA backend: sparse products and the fused layer on an NVIDIA GPU.
//!
//! [`CudaBackend`] implements [`Backend`](residua_backend::Backend). Neither building nor running it needs a CUDA
//! toolkit: the kernels (`kernels/cuda`) are committed as PTX, which the driver compiles, and libcuda is opened when a
//! backend is. A driver too old for the PTX is helped by NVRTC, where that is installed.
//!
//! Matrices are laid out at upload; `layout` describes how. No sum depends on the order in which threads run, so the
//! bits repeat.

mod backend;
mod base;
mod coo;
mod driver;
mod graph;
mod kernels;
mod launch;
mod layout;
mod matrix;
#[cfg(feature = "peers")]
mod peer;
mod vector;

#[cfg(feature = "emulator")]
pub use driver::emulated::Emulator;

pub use backend::CudaBackend;
pub use base::CudaBase;
pub use graph::CudaGraph;
pub use matrix::CudaMatrix;
#[cfg(feature = "peers")]
pub use peer::{PeerCoo, PeerKernel};
pub use vector::CudaVector;
