//! Files: one module per format. Everything read is validated before it is returned.
//!
//! | module's type | format |
//! |---|---|
//! | [`Checkpoint`] | dense safetensors: one file, an `index.json` with shards, or a directory of either |
//! | [`Container`], [`ContainerWriter`] | the native container: sparse matrices, bases and dense tensors |
//! | [`SafetensorsWriter`] | any safetensors file, written as a stream |
//! | [`read_npz`], [`write_npz_csr`], [`write_npz_coo`] | scipy's sparse matrices |
//! | [`read_mtx`], [`write_mtx_csr`], [`write_mtx_coo`] | Matrix Market |
//! | [`NpyFile`], [`read_npy`], [`write_npy`] | NumPy's dense arrays |
//!
//! Readers use positioned reads and never map a file, because a mapping counts as memory of the process. Writers go
//! through [`AtomicFile`]: the target is replaced when the new file is complete, or not at all.

mod atomic;
mod checkpoint;
mod container;
mod dense;
mod error;
mod folder;
mod footprint;
mod hash;
mod header;
mod header_memory;
mod held;
mod index_json;
mod matrix;
mod mtx;
mod npy;
mod npz;
mod number;
mod output;
mod positioned;
mod sizes;
mod writer;

pub use atomic::AtomicFile;
pub use checkpoint::{Checkpoint, TensorInfo};
pub use container::{Container, ContainerKind, ContainerWriter, MatrixMeta, Op, Plane};
pub use dense::{Dense, write_dense};
pub use error::FileError;
pub use hash::{CheckpointHasher, hash_bytes};
pub use header::{HeaderSizes, header_tensors};
pub use held::Held;
pub use matrix::FileMatrix;
pub use mtx::{read_mtx, write_mtx_coo, write_mtx_csr};
pub use npy::{NpyFile, NpyHeader, read_npy, write_npy};
pub use npz::{read_npz, write_npz_coo, write_npz_csr};
pub use output::{check_output, same_file};
pub use positioned::open_regular;
/// The element types of safetensors.
pub use safetensors::Dtype;
pub use sizes::CheckpointSizes;
pub use writer::SafetensorsWriter;

#[cfg(target_endian = "big")]
compile_error!("files are little-endian, and are read into memory as they are");

/// Result of this module.
pub(crate) type Result<T, E = FileError> = std::result::Result<T, E>;
