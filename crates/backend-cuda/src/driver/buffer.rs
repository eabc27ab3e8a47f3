//! Device memory that frees itself.

use std::sync::Arc;

use bytemuck::NoUninit;
use residua_backend::BackendError;
use residua_memory::{Budget, Reservation};

use super::Driver;
use crate::abi::Address;

/// A device allocates multiples of this many bytes.
const GRANULE: usize = 256;

/// An allocation on a device, reserved in a budget.
#[derive(Debug)]
pub(crate) struct Buffer {
    driver: Arc<dyn Driver>,
    address: Address,
    bytes: usize,
    _held: Reservation,
}

impl Buffer {
    /// Memory with unknown content.
    pub(crate) fn new(
        driver: &Arc<dyn Driver>,
        budget: &Budget,
        bytes: usize,
        what: &'static str,
    ) -> Result<Self, BackendError> {
        let held = budget.reserve(bytes.next_multiple_of(GRANULE) as u64, what)?;
        let address = if bytes == 0 { 0 } else { driver.allocate(bytes, what)? };
        Ok(Self { driver: driver.clone(), address, bytes, _held: held })
    }

    /// Memory of zeros.
    pub(crate) fn zeroed(
        driver: &Arc<dyn Driver>,
        budget: &Budget,
        bytes: usize,
        what: &'static str,
    ) -> Result<Self, BackendError> {
        let buffer = Self::new(driver, budget, bytes, what)?;
        if bytes > 0 {
            driver.clear(buffer.address, bytes)?;
        }
        Ok(buffer)
    }

    /// A copy of `values`.
    pub(crate) fn from_slice<T: NoUninit>(
        driver: &Arc<dyn Driver>,
        budget: &Budget,
        values: &[T],
        what: &'static str,
    ) -> Result<Self, BackendError> {
        let buffer = Self::new(driver, budget, size_of_val(values), what)?;
        if !values.is_empty() {
            driver.upload(buffer.address, bytemuck::cast_slice(values))?;
        }
        Ok(buffer)
    }

    pub(crate) fn address(&self) -> Address {
        self.address
    }

    /// The [identity](Driver::identity) of its device.
    pub(crate) fn device(&self) -> usize {
        self.driver.identity()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.address != 0 {
            self.driver.free(self.address);
        }
    }
}
