//! How to open the backend.

use residua_backend::{Activations, BackendError};

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
    pub(crate) activations: Activations,
    instructions: Instructions,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Instructions {
    #[default]
    Best,
    Portable,
    Avx2,
    Avx512,
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

    /// The AVX-512 path, or an error where the processor lacks AVX-512 F, BW or VNNI, or what the AVX2 path needs. The
    /// default takes this path where it can. Its results have the bits of the AVX2 path.
    #[must_use]
    pub fn avx512(self) -> Self {
        Self { instructions: Instructions::Avx512, ..self }
    }

    /// How the inputs of layers take part, for quantised bases that are uploaded from now on.
    ///
    /// Such a base is packed for the integer kernels, in as many bytes as its file. With [`Activations::I8`] every path gives
    /// the same product with a base, bit for bit. An input with a value that is not finite gives NaN in every row.
    #[must_use]
    pub fn activations(self, activations: Activations) -> Self {
        Self { activations, ..self }
    }

    pub(crate) fn path(&self) -> Result<Path, BackendError> {
        let missing = |backend, missing: &str| BackendError::Unavailable {
            backend,
            missing: missing.into(),
            install: "use the portable path".into(),
        };
        match self.instructions {
            Instructions::Portable => Ok(Path::Portable),
            Instructions::Best => Ok(Path::best()),
            Instructions::Avx2 => {
                Path::avx2().ok_or_else(|| missing("cpu avx2", "a processor with AVX2, FMA and F16C"))
            }
            Instructions::Avx512 => Path::avx512()
                .ok_or_else(|| missing("cpu avx512", "a processor with AVX2 and AVX-512 F, BW and VNNI")),
        }
    }
}
