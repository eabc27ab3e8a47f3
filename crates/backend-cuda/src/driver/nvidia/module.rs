//! Loading kernels: the committed PTX, or where the driver refuses that, their source through NVRTC.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::{Mutex, PoisonError};

use cudarc::driver::result;
use cudarc::driver::sys::{CUmodule, CUresult};
use cudarc::nvrtc;
use residua_backend::BackendError;

use super::device::Device;
use super::status::{Named, name};
use crate::driver::{NAME, failed};
use crate::kernels;
use crate::launch::Module;

/// PTX compiled in this process, by module and compute capability.
static COMPILED: Mutex<Option<HashMap<(Module, i32), CString>>> = Mutex::new(None);

pub(super) fn load(device: &Device, module: Module) -> Result<CUmodule, BackendError> {
    let ptx = CString::new(kernels::ptx(module)).map_err(|_| failed("PTX holds a zero"))?;
    match load_ptx(&ptx) {
        Ok(loaded) => Ok(loaded),
        Err(refusal) if is_refusal(refusal.0) => {
            let why = format!("the driver refuses {}.ptx: {}", module.name(), name(refusal));
            load_ptx(&compiled(device, module, &why)?).named(&format!("cuModuleLoadData {}", module.name()))
        }
        Err(error) => Err(super::status::error(&format!("cuModuleLoadData {}", module.name()), error)),
    }
}

/// Whether other PTX might be taken where this was not.
fn is_refusal(status: CUresult) -> bool {
    use CUresult::*;
    matches!(
        status,
        CUDA_ERROR_UNSUPPORTED_PTX_VERSION
            | CUDA_ERROR_INVALID_PTX
            | CUDA_ERROR_NO_BINARY_FOR_GPU
            | CUDA_ERROR_INVALID_IMAGE
    )
}

fn load_ptx(ptx: &CStr) -> Result<CUmodule, cudarc::driver::DriverError> {
    // SAFETY: the text ends with a zero.
    unsafe { result::module::load_data(ptx.as_ptr().cast()) }
}

/// The module compiled for the device, once per process.
fn compiled(device: &Device, module: Module, why: &str) -> Result<CString, BackendError> {
    // SAFETY: only tries to open the library.
    if !unsafe { nvrtc::sys::is_culib_present() } {
        return Err(BackendError::Unavailable {
            backend: NAME,
            missing: format!("a driver that takes the kernels, or NVRTC to compile them here ({why})"),
            install: "update the NVIDIA driver, or install libnvrtc of the driver's CUDA version".into(),
        });
    }
    let capability = device.capability();
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let compiled = compiled.get_or_insert_default();
    if let Some(ptx) = compiled.get(&(module, capability)) {
        return Ok(ptx.clone());
    }
    let mut options = kernels::options(module);
    options.push(format!("--gpu-architecture=compute_{capability}"));
    let options = nvrtc::CompileOptions { options, ..Default::default() };
    let ptx = nvrtc::compile_ptx_with_opts(kernels::source(module), options)
        .map_err(|error| failed(format!("{why}; NVRTC fails on {}.cu too: {error}", module.name())))?;
    let text = ptx.to_src();
    let text = CString::new(text.trim_end_matches('\0')).map_err(|_| failed("NVRTC's PTX holds a zero"))?;
    compiled.insert((module, capability), text.clone());
    Ok(text)
}
