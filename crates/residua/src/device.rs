//! A place to compute, chosen by name.

use std::fmt;
use std::sync::Arc;

use residua_backend::{Activations, AnyBackend, BackendError, DeviceInfo};
use residua_memory::Budget;

use crate::error::{Error, Result};

/// A processor or GPU, and the memory budget of everything that is loaded onto it. Cloning shares both.
///
/// ```
/// use residua::{Budget, Device};
///
/// # fn main() -> residua::Result<()> {
/// # if Device::list().is_empty() { return Ok(()); }
/// for device in Device::list() {
///     println!("{}: {}", device.id, device.name);
/// }
/// let device = Device::best(&Budget::new(64 << 20))?;
/// println!("computing on {device}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Device {
    backend: Arc<AnyBackend>,
    budget: Budget,
}

/// How to open a device.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct DeviceOptions {
    threads: usize,
    activations: Activations,
}

impl DeviceOptions {
    /// Threads of the processor; 0 (the default) for as many as the machine offers. GPUs ignore it.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// How the processor takes the inputs of layers with a quantised base. With [`Activations::I8`] they run several times
    /// faster, and outputs move by about 0.5 %. GPUs ignore it.
    #[must_use]
    pub fn activations(mut self, activations: Activations) -> Self {
        self.activations = activations;
        self
    }
}

/// The kinds of backend, the preferred one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BackendKind {
    Cuda,
    Wgpu,
    Cpu,
}

impl BackendKind {
    const ALL: [Self; 3] = [Self::Cuda, Self::Wgpu, Self::Cpu];

    /// Its name, and the name of the feature that builds it in.
    fn name(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Wgpu => "wgpu",
            Self::Cpu => "cpu",
        }
    }

    /// The devices that this build can use on this machine.
    fn devices(self) -> Vec<DeviceInfo> {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda => residua_backend_cuda::CudaBackend::devices(),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => residua_backend_wgpu::WgpuBackend::devices(),
            #[cfg(feature = "cpu")]
            Self::Cpu => residua_backend_cpu::CpuBackend::devices(),
            #[allow(unreachable_patterns, reason = "all features are on")]
            _ => Vec::new(),
        }
    }

    /// Opens a device of this kind: the best one, or the one with this number or part of a name.
    #[allow(unused_variables, reason = "without backends nothing is read")]
    fn open(self, device: Option<&str>, options: &DeviceOptions, budget: &Budget) -> Result<AnyBackend> {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda => {
                let mut how = residua_backend_cuda::CudaOptions::default();
                if let Some(device) = device {
                    how = how.device(device);
                }
                Ok(untyped(residua_backend_cuda::CudaBackend::open(&how, budget)?))
            }
            #[cfg(feature = "wgpu")]
            Self::Wgpu => {
                let mut how = residua_backend_wgpu::WgpuOptions::default();
                if let Some(device) = device {
                    how = how.adapter(device);
                }
                Ok(untyped(residua_backend_wgpu::WgpuBackend::open(&how, budget)?))
            }
            #[cfg(feature = "cpu")]
            Self::Cpu => {
                if let Some(device) = device.filter(|&device| device != "0") {
                    let (wanted, present) = (device.into(), "0, the processor of this machine".into());
                    return Err(BackendError::NoSuchDevice { backend: "cpu", wanted, present }.into());
                }
                let how = residua_backend_cpu::CpuOptions::default()
                    .threads(options.threads)
                    .activations(options.activations);
                Ok(untyped(residua_backend_cpu::CpuBackend::open(&how, budget)?))
            }
            #[allow(unreachable_patterns, reason = "all features are on")]
            _ => Err(BackendError::Unavailable {
                backend: self.name(),
                missing: format!("the feature `{}` of this build", self.name()),
                install: format!("build with `--features {}`", self.name()),
            }
            .into()),
        }
    }
}

#[cfg(any(feature = "cpu", feature = "cuda", feature = "wgpu"))]
fn untyped<B>(backend: B) -> AnyBackend
where
    residua_backend::Untyped<B>: residua_backend::Backend<
            Matrix = residua_backend::AnyMatrix,
            Base = residua_backend::AnyBase,
            Vector = residua_backend::AnyVector,
        > + Send
        + Sync
        + 'static,
{
    Box::new(residua_backend::Untyped(backend))
}

impl Device {
    /// Opens the best device of this machine: the first of cuda, wgpu and cpu that this build has and that is there.
    /// A software GPU does not count, because the processor is faster without it.
    ///
    /// # Errors
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) when no backend is built in or a driver fails.
    pub fn best(budget: &Budget) -> Result<Self> {
        Self::open("auto", budget)
    }

    /// Opens a device by name: `"cpu"`, `"cuda"`, `"cuda:1"`, `"wgpu:0"`, `"wgpu:"` and part of the device's name, or
    /// `"auto"` for the [best](Self::best). [`list`](Self::list) has the names.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for a name that no device can have,
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) when the device is missing or its driver fails. The text says what
    /// to install.
    pub fn open(name: &str, budget: &Budget) -> Result<Self> {
        Self::open_with(name, &DeviceOptions::default(), budget)
    }

    /// As [`open`](Self::open), with options.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(name: &str, options: &DeviceOptions, budget: &Budget) -> Result<Self> {
        let (kind, device) = match name.split_once(':') {
            Some((kind, device)) => (kind, Some(device)),
            None => (name, None),
        };
        let backend = match BackendKind::ALL.into_iter().find(|known| known.name() == kind) {
            Some(known) if device != Some("") => known.open(device, options, budget)?,
            None if name == "auto" => first(options, budget)?,
            _ => return Err(Error::DeviceName { name: name.to_owned() }),
        };
        Ok(Self { backend: Arc::new(backend), budget: budget.clone() })
    }

    /// The devices that this build can use on this machine, the preferred kind first.
    pub fn list() -> Vec<DeviceInfo> {
        BackendKind::ALL.into_iter().flat_map(BackendKind::devices).collect()
    }

    /// What it is, for people: `cpu avx2, 2 threads`.
    pub fn description(&self) -> String {
        self.backend.device()
    }

    /// The budget of everything that is loaded onto it.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The backend, for products other than those of a [`Layer`](crate::Layer).
    pub fn backend(&self) -> &AnyBackend {
        &self.backend
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description())
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Device").field(&self.description()).finish()
    }
}

/// The first backend that is there.
fn first(options: &DeviceOptions, budget: &Budget) -> Result<AnyBackend> {
    let has_processor = cfg!(feature = "cpu");
    for kind in [BackendKind::Cuda, BackendKind::Wgpu] {
        // A software GPU is only for a build that has nothing else.
        if has_processor && kind.devices().iter().all(|device| device.software) {
            continue;
        }
        match kind.open(None, options, budget) {
            Err(Error::Backend(BackendError::Unavailable { .. })) => {}
            other => return other,
        }
    }
    BackendKind::Cpu.open(None, options, budget)
}
