//! What a backend is, and what it must compute.
//!
//! A [`Backend`] holds matrices and vectors where it computes, in this machine's memory or a GPU's, and multiplies
//! them. [`AnyBackend`] is a backend chosen at run time.
//!
//! For those who write a backend: [`reference`](mod@reference) computes the results in f64 and bounds the error of an
//! f32 computation; `conformance` (feature of that name) is the suite that every backend passes; [`mod@layout`],
//! [`shape`] and [`source`] hold what backends share.

mod activations;
mod any;
mod contract;
mod device;
mod error;
pub mod layout;
pub mod reference;
pub mod shape;
pub mod source;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use activations::Activations;
pub use any::{AnyBackend, AnyBase, AnyMatrix, AnyVector, Operand, Untyped};
pub use contract::Backend;
pub use device::DeviceInfo;
pub use error::BackendError;
pub use shape::{Shaped, VectorShape};
