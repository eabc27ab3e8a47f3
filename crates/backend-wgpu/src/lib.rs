//! The wgpu backend: sparse products and the fused layer as WGSL compute shaders, on Vulkan, Metal and
//! Direct3D 12.
//!
//! [`WgpuBackend`] implements [`Backend`](residua_backend::Backend). `layout` describes a matrix on the device, `wgsl`
//! holds the shaders. Shaders decode 16-bit floats from 32-bit words, so no device needs 16-bit types. They use
//! subgroups if the device has them; results have the same bits without. An error of the driver does not end the
//! process: it becomes a [`BackendError`](residua_backend::BackendError), and the backend can be opened again.

mod backend;
mod base;
mod csr;
mod gpu;
pub mod kernels;
mod layout;
mod matrix;
mod options;
mod run;
mod vector;

pub use backend::WgpuBackend;
pub use base::WgpuBase;
pub use csr::WgpuCsr;
pub use gpu::{AdapterInfo, Clock, KernelTime, adapters};
pub use matrix::WgpuMatrix;
pub use options::WgpuOptions;
pub use vector::WgpuVector;
/// The version of wgpu that this backend is built on.
pub use wgpu;

/// The backend's name in errors and in [`device`](residua_backend::Backend::device).
const NAME: &str = "wgpu";
