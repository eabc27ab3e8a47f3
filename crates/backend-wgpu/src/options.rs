//! How to open the backend.

/// How to open a [`WgpuBackend`](crate::WgpuBackend). The default is the preferred adapter with all that it offers.
///
/// ```
/// use residua_backend_wgpu::WgpuOptions;
///
/// let options = WgpuOptions::default().adapter("llvmpipe").without_subgroups();
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WgpuOptions {
    pub(crate) adapter: Option<String>,
    pub(crate) without_subgroups: bool,
    pub(crate) lanes: Option<usize>,
    pub(crate) binding_limit: Option<u64>,
}

impl WgpuOptions {
    /// Opens this adapter: its number or a part of its name, see [`adapters`](crate::adapters).
    #[must_use]
    pub fn adapter(mut self, adapter: impl Into<String>) -> Self {
        self.adapter = Some(adapter.into());
        self
    }

    /// Uses no subgroup operations. Results have the same bits.
    #[must_use]
    pub fn without_subgroups(mut self) -> Self {
        self.without_subgroups = true;
        self
    }

    /// Lays matrices out for a GPU that needs `lanes` lanes to be busy. The default follows from the adapter.
    #[must_use]
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.lanes = Some(lanes);
        self
    }

    /// Binds at most `bytes` at once, even when the adapter offers more. Larger matrices are split by rows.
    #[must_use]
    pub fn binding_limit(mut self, bytes: u64) -> Self {
        self.binding_limit = Some(bytes);
        self
    }
}
