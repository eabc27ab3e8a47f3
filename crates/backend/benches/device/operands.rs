//! Operands in as many copies as a sequence needs.

use residua_backend::{Backend, BackendError};
use residua_format::convert::csr_to_gap;
use residua_format::{Csr, ValueType};

use super::Result;
use super::data::base;

/// For [`copies`]: enough to exceed a cache, at most `most`.
pub(crate) fn cold(cold_bytes: usize, most: usize) -> impl Fn(usize) -> usize {
    move |bytes| cold_bytes.div_ceil(bytes.max(1)).clamp(1, most)
}

/// Copies of what `upload` makes. `count` returns their number from the bytes of one.
pub(crate) fn copies<T>(
    count: impl Fn(usize) -> usize,
    bytes: impl Fn(&T) -> usize,
    mut upload: impl FnMut() -> Result<T, BackendError>,
) -> Result<Vec<T>> {
    let mut all = vec![upload()?];
    for _ in 1..count(bytes(&all[0])) {
        all.push(upload()?);
    }
    Ok(all)
}

/// Layers with the same INT4 base and the bf16 residual `csr`. `count` returns their number from the bytes of one.
pub(crate) fn layers<B: Backend>(
    backend: &B,
    csr: &Csr<f32, u32>,
    count: impl Fn(usize) -> usize,
    bytes: impl Fn(&(B::Base, B::Matrix)) -> usize,
) -> Result<Vec<(B::Base, B::Matrix)>> {
    let (host, gap) = (base([csr.rows(), csr.cols()])?, csr_to_gap(csr, ValueType::Bf16)?);
    copies(count, bytes, || Ok((backend.upload_base(&host)?, backend.upload(&gap)?)))
}
