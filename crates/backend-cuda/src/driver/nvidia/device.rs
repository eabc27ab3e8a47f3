//! A GPU's context and its loaded kernels.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Mutex, PoisonError};

use cudarc::driver::sys::{CUcontext, CUdevice, CUdevice_attribute, CUfunction, CUmodule};
use cudarc::driver::{result, sys};
use residua_backend::BackendError;

use super::probe::{device_name, version, version_text};
use super::status::Named;
use super::{module, status};
use crate::driver::failed;
use crate::kernels::Module;

/// An open GPU.
#[derive(Debug)]
pub(super) struct Device {
    device: CUdevice,
    context: CUcontext,
    description: String,
    /// Compute capability, 10·major + minor.
    capability: i32,
    loaded: Mutex<Loaded>,
}

#[derive(Debug, Default)]
struct Loaded {
    modules: HashMap<Module, CUmodule>,
    functions: HashMap<(Module, &'static str), CUfunction>,
}

// SAFETY: the driver synchronises its own handles; its interface may be called from any thread.
unsafe impl Send for Device {}
// SAFETY: as above; the fields that change are behind a mutex.
unsafe impl Sync for Device {}

impl Device {
    /// Opens the GPU of a number that [`find`](super::probe::find) returned.
    pub(super) fn open(ordinal: i32) -> Result<Self, BackendError> {
        let device = result::device::get(ordinal).named("cuDeviceGet")?;
        let attribute = |attribute| {
            // SAFETY: the driver returned the device.
            unsafe { result::device::get_attribute(device, attribute) }.named("cuDeviceGetAttribute")
        };
        use CUdevice_attribute::{
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        };
        let major = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let description = format!(
            "{ordinal} {}, sm_{major}{minor}, driver for {}",
            device_name(ordinal),
            version_text(version()?)
        );
        // SAFETY: released once, in `drop`.
        let context = unsafe { result::primary_ctx::retain(device) }.named("cuDevicePrimaryCtxRetain")?;
        let capability = 10 * major + minor;
        Ok(Self { device, context, description, capability, loaded: Mutex::default() })
    }

    pub(super) fn description(&self) -> &str {
        &self.description
    }

    /// Makes this device current in the calling thread.
    pub(super) fn enter(&self) -> Result<(), BackendError> {
        // SAFETY: `self` retains the context.
        unsafe { result::ctx::set_current(self.context) }.named("cuCtxSetCurrent")
    }

    /// A kernel. Its module is loaded the first time. The device must be [entered](Self::enter).
    pub(super) fn function(&self, from: Module, kernel: &'static str) -> Result<CUfunction, BackendError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&function) = loaded.functions.get(&(from, kernel)) {
            return Ok(function);
        }
        let module = match loaded.modules.get(&from) {
            Some(&module) => module,
            None => {
                let module = module::load(from, self.capability)?;
                loaded.modules.insert(from, module);
                module
            }
        };
        let name = CString::new(kernel).map_err(|_| failed("a kernel's name holds a zero"))?;
        // SAFETY: the module is loaded; only `drop` unloads it.
        let function = unsafe { result::module::get_function(module, name) };
        let function =
            function.map_err(|error| status::error(&format!("cuModuleGetFunction {kernel}"), error))?;
        loaded.functions.insert((from, kernel), function);
        Ok(function)
    }

    /// Free and total bytes of memory.
    pub(super) fn memory(&self) -> Result<(u64, u64), BackendError> {
        self.enter()?;
        let (free, total) = result::mem_get_info().named("cuMemGetInfo")?;
        Ok((free as u64, total as u64))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // After a failure the end of the process frees everything.
        if self.enter().is_ok() {
            let loaded = std::mem::take(self.loaded.get_mut().unwrap_or_else(PoisonError::into_inner));
            for module in loaded.modules.into_values() {
                // SAFETY: loaded once, and nothing launches any more: streams and graphs keep their device.
                unsafe { sys::cuModuleUnload(module) };
            }
        }
        // SAFETY: retained once, in `open`.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}
