//! The wgpu backend: sparse products and the fused layer as WGSL compute shaders, on Vulkan, Metal and
//! Direct3D 12.
//!
//! [`WgpuBackend`] implements [`Backend`](residua_backend::Backend). `layout` describes how a matrix lies on the
//! device, `kernels/wgsl` holds the shaders. Halves and brain floats are decoded from 32-bit words, so no device
//! needs 16-bit types; where it has subgroups they are used, and the bits are the same without. Nothing the
//! driver reports ends the process: it becomes a [`BackendError`](residua_backend::BackendError), and the backend
//! can be opened again.

mod backend;
mod base;
mod csr;
mod gpu;
pub mod kernels;
mod layout;
mod matrix;
mod run;
mod vector;

pub use backend::WgpuBackend;
pub use base::WgpuBase;
pub use csr::WgpuCsr;
pub use gpu::{AdapterInfo, Clock, KernelTime, Options, adapters};
pub use matrix::WgpuMatrix;
pub use vector::WgpuVector;
/// The version of wgpu that this backend is built on.
pub use wgpu;

/// What errors and [`device`](residua_backend::Backend::device) call it.
const NAME: &str = "wgpu";
