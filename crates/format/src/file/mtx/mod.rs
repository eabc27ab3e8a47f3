//! Matrix Market exchange files: <https://math.nist.gov/MatrixMarket/formats.html>.

mod banner;
mod lines;
mod number;
mod read;
mod write;

pub use read::read_mtx;
pub use write::{write_mtx_coo, write_mtx_csr};
