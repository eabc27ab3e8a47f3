//! What the device programs of the GPU backends share; `crates/backend-*/benches/device` include this folder.

pub(crate) mod arguments;
pub(crate) mod check;
pub(crate) mod data;
pub(crate) mod date;
pub(crate) mod operands;
pub(crate) mod repeat;
pub(crate) mod report;
pub(crate) mod suite;
pub(crate) mod timing;

/// Any failure.
pub(crate) type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;
