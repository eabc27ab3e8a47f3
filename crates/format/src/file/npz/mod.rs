//! scipy's sparse `.npz`: a zip archive of arrays, as `scipy.sparse.save_npz` writes it.

mod archive;
mod blocks;
mod read;
mod write;

pub use read::read_npz;
pub use write::{write_npz_coo, write_npz_csr};
