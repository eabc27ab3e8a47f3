//! Which GPU to open.

/// How to open a [`CudaBackend`](crate::CudaBackend). By default it is GPU 0.
///
/// ```
/// # use residua_backend_cuda::CudaOptions;
/// let by_number = CudaOptions::default().device("1");
/// let by_name = CudaOptions::default().device("h100");
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CudaOptions {
    /// The number of a GPU in the driver's order, or a part of its name. `None` is GPU 0.
    pub device: Option<String>,
}

impl CudaOptions {
    /// Chooses a GPU by its number in the driver's order, or by a part of its name; case does not matter.
    #[must_use]
    pub fn device(mut self, device: impl Into<String>) -> Self {
        self.device = Some(device.into());
        self
    }
}
