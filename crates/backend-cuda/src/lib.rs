//! The CUDA backend: sparse products and the fused layer on an NVIDIA GPU.
//!
//! [`CudaBackend`] implements [`Backend`](residua_backend::Backend). It needs no CUDA toolkit, neither to build nor to
//! run: the kernels are embedded as PTX, the driver compiles them, and libcuda is loaded when a backend is opened. If a
//! driver is too old for the PTX, NVRTC compiles the kernels' source where it is installed.
//!
//! Matrices are laid out at upload; the module `layout` describes how. No sum depends on the order in which threads run,
//! so results repeat bit for bit.

mod abi;
mod backend;
mod base;
mod coo;
mod driver;
#[cfg(feature = "emulator")]
mod emulator;
mod graph;
mod kernels;
mod launch;
mod layout;
mod matrix;
mod operations;
mod options;
#[cfg(feature = "peers")]
mod peer;
mod vector;

pub use backend::CudaBackend;
pub use base::CudaBase;
#[cfg(feature = "emulator")]
pub use emulator::Emulator;
pub use graph::CudaGraph;
pub use matrix::CudaMatrix;
pub use options::CudaOptions;
#[cfg(feature = "peers")]
pub use peer::{PeerCoo, PeerKernel};
pub use vector::CudaVector;
