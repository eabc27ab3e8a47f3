//! Matrix Market exchange files, as <https://math.nist.gov/MatrixMarket/formats.html> describes them.

mod banner;
mod lines;
mod number;
mod read;
mod write;

pub use read::read_mtx;
pub use write::{write_mtx_coo, write_mtx_csr};
