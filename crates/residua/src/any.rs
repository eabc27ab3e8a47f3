//! A backend chosen at run time.
//!
//! ```
//! use residua::any::{Kind, Options, open};
//! use residua::backend::{Backend, BackendError};
//! use residua::memory::Budget;
//!
//! # fn main() -> Result<(), BackendError> {
//! # if !Kind::Cpu.is_built_in() { return Ok(()); }
//! let backend = open(Kind::Auto, &Options::default(), &Budget::new(64 << 20))?;
//! println!("computing on {}", backend.device());
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::str::FromStr;

use residua_backend::BackendError;
use residua_memory::Budget;

pub use residua_backend::{AnyBackend, AnyBase, AnyMatrix, AnyVector, Untyped};

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// The first of cuda, wgpu and cpu that is built in and has a device here. Software that plays a GPU does
    /// not count: this machine's processor is faster without it.
    #[default]
    Auto,
    /// NVIDIA GPUs.
    Cuda,
    /// Any Vulkan, Metal or DX12 device.
    Wgpu,
    /// This machine's processor.
    Cpu,
}

impl Kind {
    /// All kinds, built in or not.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Cuda, Self::Wgpu, Self::Cpu];

    /// The name, as on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cuda => "cuda",
            Self::Wgpu => "wgpu",
            Self::Cpu => "cpu",
        }
    }

    /// Whether this build has it (which says nothing about the machine).
    pub fn is_built_in(self) -> bool {
        match self {
            Self::Auto => [Self::Cuda, Self::Wgpu, Self::Cpu].into_iter().any(Self::is_built_in),
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Cpu => cfg!(feature = "cpu"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no backend's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no backend {0:?}; there are auto, cuda, wgpu and cpu")]
pub struct UnknownKind(pub String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| UnknownKind(name.into()))
    }
}

/// How to open a backend.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Threads of the cpu backend; 0 for as many as the machine offers.
    pub threads: usize,
    /// Which device of the kind, by number or by a part of its name; the best one when not said.
    pub device: Option<String>,
}

/// Opens a backend that takes its memory from `budget`.
///
/// # Errors
/// [`BackendError::Unavailable`] when the kind is not built in or has no device here;
/// [`BackendError::NoSuchDevice`] when the device that was asked for is not there; whatever the driver says.
/// [`Kind::Auto`] goes on to the next kind where one is unavailable.
pub fn open(kind: Kind, options: &Options, budget: &Budget) -> Result<AnyBackend, BackendError> {
    match kind {
        Kind::Auto => first(options, budget),
        Kind::Cpu => cpu(options, budget),
        Kind::Wgpu => wgpu(options, budget),
        Kind::Cuda => cuda(options, budget),
    }
}

fn first(options: &Options, budget: &Budget) -> Result<AnyBackend, BackendError> {
    for kind in [Kind::Cuda, Kind::Wgpu] {
        // Software is for those who ask for it, or have nothing else.
        let asked = options.device.is_some() || !Kind::Cpu.is_built_in();
        if kind == Kind::Wgpu && !asked && !has_gpu() {
            continue;
        }
        match open(kind, options, budget) {
            Err(BackendError::Unavailable { .. }) => {}
            other => return other,
        }
    }
    open(Kind::Cpu, options, budget)
}

#[cfg(feature = "cpu")]
fn cpu(options: &Options, budget: &Budget) -> Result<AnyBackend, BackendError> {
    if let Some(device) = options.device.as_deref().filter(|device| *device != "0") {
        return Err(BackendError::NoSuchDevice {
            backend: "cpu",
            wanted: device.into(),
            present: "0, this machine's processor".into(),
        });
    }
    let how = residua_backend_cpu::CpuOptions::default().threads(options.threads);
    Ok(Box::new(Untyped(residua_backend_cpu::CpuBackend::open(&how, budget)?)))
}

#[cfg(not(feature = "cpu"))]
fn cpu(_: &Options, _: &Budget) -> Result<AnyBackend, BackendError> {
    Err(not_built_in(Kind::Cpu))
}

#[cfg(feature = "cuda")]
fn cuda(options: &Options, budget: &Budget) -> Result<AnyBackend, BackendError> {
    let backend = residua_backend_cuda::CudaBackend::find(options.device.as_deref())?;
    Ok(Box::new(Untyped(backend.with_budget(budget.clone()))))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: &Options, _: &Budget) -> Result<AnyBackend, BackendError> {
    Err(not_built_in(Kind::Cuda))
}

#[cfg(feature = "wgpu")]
fn wgpu(options: &Options, budget: &Budget) -> Result<AnyBackend, BackendError> {
    let mut how = residua_backend_wgpu::WgpuOptions::default();
    if let Some(device) = &options.device {
        how = how.adapter(device);
    }
    Ok(Box::new(Untyped(residua_backend_wgpu::WgpuBackend::open(&how, budget)?)))
}

#[cfg(not(feature = "wgpu"))]
fn wgpu(_: &Options, _: &Budget) -> Result<AnyBackend, BackendError> {
    Err(not_built_in(Kind::Wgpu))
}

/// Whether wgpu would open a GPU, and not software that plays one.
fn has_gpu() -> bool {
    #[cfg(feature = "wgpu")]
    return residua_backend_wgpu::adapters().first().is_some_and(|adapter| !adapter.is_software());
    #[cfg(not(feature = "wgpu"))]
    false
}

#[cfg(not(all(feature = "cpu", feature = "cuda", feature = "wgpu")))]
fn not_built_in(kind: Kind) -> BackendError {
    BackendError::Unavailable {
        backend: kind.name(),
        missing: format!("the feature `{kind}` of this build"),
        install: format!("build with `--features {kind}`"),
    }
}
