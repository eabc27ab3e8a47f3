//! Residua for C and C++. cbindgen makes `include/ortho.h` from this crate; `docs/c-api.md` explains it.

mod buffer;
mod checked;
mod container;
mod device;
mod exports;
mod failure;
mod forward;
mod handle;
mod layer;
mod triplets;
mod types;

pub use container::*;
pub use device::{check_tensor_core_support, orth_layer_forward_cuda};
pub use exports::*;
pub use forward::{orth_layer_forward, orth_layer_validate, orth_set_threads};
pub use layer::{
    orth_layer_alloc_ortho, orth_layer_alloc_ortho_coo32, orth_layer_alloc_ortho_csr, orth_layer_free,
    orth_layer_free_ortho, orth_layer_init, orth_layer_set_alpha,
};
pub use types::*;
