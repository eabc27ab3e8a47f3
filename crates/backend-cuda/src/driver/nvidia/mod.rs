//! A GPU through NVIDIA's driver, which is opened when it is needed.

mod device;
mod graph;
mod module;
mod probe;
mod staging;
mod status;
mod stream;

use std::sync::Arc;

use residua_backend::BackendError;

use super::Driver;
use device::Device;
use stream::Stream;

/// The GPU with number `index`, with a stream.
pub(crate) fn open(index: usize) -> Result<Arc<dyn Driver>, BackendError> {
    let ordinal = probe::check(index)?;
    Ok(Arc::new(Stream::new(Arc::new(Device::open(ordinal)?))?))
}

/// Names of the GPUs, in the order of their numbers.
pub(crate) fn devices() -> Result<Vec<String>, BackendError> {
    Ok((0..probe::count()?).map(probe::device_name).collect())
}
