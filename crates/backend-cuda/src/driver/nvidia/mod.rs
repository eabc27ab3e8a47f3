//! A GPU through NVIDIA's driver. The driver is loaded when it is first needed.

mod device;
mod graph;
mod module;
mod probe;
mod queue;
mod staging;
mod status;
mod stream;

use std::sync::Arc;

use residua_backend::BackendError;

use super::Driver;
use device::Device;
use stream::Stream;

/// A stream on the GPU with a number or part of a name; on GPU 0 if none is given.
pub(crate) fn open(wanted: Option<&str>) -> Result<Arc<dyn Driver>, BackendError> {
    let ordinal = probe::find(wanted)?;
    Ok(Arc::new(Stream::new(Arc::new(Device::open(ordinal)?))?))
}

/// Names of the GPUs, in the driver's order.
pub(crate) fn names() -> Result<Vec<String>, BackendError> {
    Ok((0..probe::count()?).map(probe::device_name).collect())
}
