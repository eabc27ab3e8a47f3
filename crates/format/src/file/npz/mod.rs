//! scipy's sparse `.npz`: the zip archive of arrays that `scipy.sparse.save_npz` writes.

mod archive;
mod blocks;
mod read;
mod write;

pub use read::read_npz;
pub use write::{write_npz_coo, write_npz_csr};
