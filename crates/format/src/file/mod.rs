//! Files: one module per format. Everything read is validated before it is returned.
//!
//! | module's type | format |
//! |---|---|
//! | [`Checkpoint`] | dense safetensors: one file, an `index.json` with shards, or a directory of either |
//! | [`SafetensorsWriter`] | any safetensors file, written as a stream |
//!
//! Files are read with positioned reads, never mapped: a mapping counts as memory of the process. Every writer
//! goes through [`AtomicFile`]: the target is replaced when the new file is complete, or not at all.

mod atomic;
mod checkpoint;
mod error;
mod header;
mod index_json;
mod positioned;
mod writer;

pub use atomic::AtomicFile;
pub use checkpoint::{Checkpoint, TensorInfo};
pub use error::FileError;
/// The element types of safetensors.
pub use safetensors::Dtype;
pub use writer::SafetensorsWriter;

/// Result of this module.
pub(crate) type Result<T, E = FileError> = std::result::Result<T, E>;
