//! How to open the backend.

use residua_backend::BackendError;

use crate::kernel::Path;

/// How to open a [`CpuBackend`](crate::CpuBackend). The default is the fastest path on all threads of the machine.
///
/// ```
/// use residua_backend_cpu::{CpuBackend, CpuOptions};
/// use residua_memory::Budget;
///
/// let cpu = CpuBackend::open(&CpuOptions::default().threads(2), &Budget::new(64 << 20))?;
/// assert_eq!(cpu.threads(), 2);
/// # Ok::<(), residua_backend::BackendError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuOptions {
    pub(crate) threads: usize,
    instructions: Instructions,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Instructions {
    #[default]
    Best,
    Portable,
    Avx2,
}

impl CpuOptions {
    /// Number of threads; 0 is as many as the machine offers. One thread is the caller's.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// The portable path: no processor-specific instructions.
    #[must_use]
    pub fn portable(self) -> Self {
        Self { instructions: Instructions::Portable, ..self }
    }

    /// The AVX2 path, or an error where the processor lacks AVX2, FMA or F16C. The default takes this path where it can.
    #[must_use]
    pub fn avx2(self) -> Self {
        Self { instructions: Instructions::Avx2, ..self }
    }

    pub(crate) fn path(&self) -> Result<Path, BackendError> {
        match self.instructions {
            Instructions::Portable => Ok(Path::Portable),
            Instructions::Best => Ok(Path::best().unwrap_or(Path::Portable)),
            Instructions::Avx2 => Path::best().ok_or_else(|| BackendError::Unavailable {
                backend: "cpu avx2",
                missing: "a processor with AVX2, FMA and F16C".into(),
                install: "use the portable path".into(),
            }),
        }
    }
}
