//! Loading kernels: the embedded PTX, or their source through NVRTC if the driver refuses the PTX.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::{Mutex, PoisonError};

use cudarc::driver::DriverError;
use cudarc::driver::sys::{CUjit_option, CUmodule, CUresult, cuModuleLoadDataEx};
use cudarc::nvrtc;
use residua_backend::BackendError;

use super::status::name;
use crate::driver::{NAME, failed};
use crate::kernels::Module;

/// PTX compiled in this process, by module and compute capability.
static COMPILED: Mutex<Option<HashMap<(Module, i32), CString>>> = Mutex::new(None);

/// Loads a module on the current device, which has the compute capability `capability`: 10·major + minor.
pub(super) fn load(module: Module, capability: i32) -> Result<CUmodule, BackendError> {
    let ptx = module.ptx().map_err(|error| failed(format!("{}.ptx.gz: {error}", module.name())))?;
    let ptx = CString::new(ptx).map_err(|_| failed("PTX holds a zero"))?;
    match load_ptx(&ptx) {
        Ok(loaded) => Ok(loaded),
        Err(refusal) if is_refusal(refusal.status.0) => {
            let why = format!("the driver refuses {}.ptx: {}", module.name(), refusal.text());
            load_ptx(&compiled(module, capability, &why)?)
                .map_err(|again| failed(format!("{why}; it also refuses the PTX of NVRTC: {}", again.text())))
        }
        Err(refusal) => Err(refusal.error(module)),
    }
}

/// Why the driver does not load PTX.
struct Refusal {
    status: DriverError,
    /// The log of the driver's compiler, in one line.
    log: String,
}

impl Refusal {
    fn text(&self) -> String {
        let log = if self.log.is_empty() { String::new() } else { format!(": {}", self.log) };
        format!("{}{log}", name(self.status))
    }

    fn error(self, module: Module) -> BackendError {
        let log = if self.log.is_empty() { String::new() } else { format!(" ({})", self.log) };
        super::status::error(&format!("cuModuleLoadDataEx {}{log}", module.name()), self.status)
    }
}

/// Whether the driver might load other PTX of the same kernels.
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

/// Bytes that the log of the driver's compiler may take.
const LOG: usize = 2048;

fn load_ptx(ptx: &CStr) -> Result<CUmodule, Refusal> {
    let (mut module, mut log) = (std::ptr::null_mut(), [0u8; LOG]);
    let mut options =
        [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    // The second value is a number in place of a pointer. The driver replaces it by the used length.
    let mut values = [log.as_mut_ptr().cast(), std::ptr::without_provenance_mut(LOG)];
    // SAFETY: the text ends with a zero; there are two options and two values; the buffer has as many bytes as the second
    // value says.
    let status = unsafe {
        cuModuleLoadDataEx(&mut module, ptx.as_ptr().cast(), 2, options.as_mut_ptr(), values.as_mut_ptr())
    };
    status.result().map(|()| module).map_err(|status| Refusal { status, log: one_line(&log) })
}

/// The text before the first zero, as one line.
fn one_line(log: &[u8]) -> String {
    let text = log.split(|&byte| byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// Compiles a module with NVRTC, once per process and capability.
fn compiled(module: Module, capability: i32, why: &str) -> Result<CString, BackendError> {
    // SAFETY: only tries to open the library.
    if !unsafe { nvrtc::sys::is_culib_present() } {
        return Err(nobody_compiles(why));
    }
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let compiled = compiled.get_or_insert_default();
    if let Some(ptx) = compiled.get(&(module, capability)) {
        return Ok(ptx.clone());
    }
    let mut options = module.options();
    options.push(format!("--gpu-architecture=compute_{capability}"));
    let options = nvrtc::CompileOptions { options, ..Default::default() };
    let ptx = nvrtc::compile_ptx_with_opts(module.source(), options)
        .map_err(|error| failed(format!("{why}; NVRTC fails on {}.cu: {error}", module.name())))?;
    let text = ptx.to_src();
    let text = CString::new(text.trim_end_matches('\0')).map_err(|_| failed("NVRTC's PTX holds a zero"))?;
    compiled.insert((module, capability), text.clone());
    Ok(text)
}

fn nobody_compiles(why: &str) -> BackendError {
    BackendError::Unavailable {
        backend: NAME,
        missing: format!("a driver that loads the kernels, or NVRTC to compile them ({why})"),
        install: "update the NVIDIA driver, or install libnvrtc of the driver's CUDA version".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_too_old_for_the_ptx_is_helped_or_named() {
        for refusal in [CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION, CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU]
        {
            assert!(is_refusal(refusal));
        }
        assert!(!is_refusal(CUresult::CUDA_ERROR_OUT_OF_MEMORY));
        let error = nobody_compiles("the driver refuses csr.ptx: CUDA_ERROR_UNSUPPORTED_PTX_VERSION (222)");
        assert!(matches!(error, BackendError::Unavailable { backend: "cuda", .. }));
        let text = error.to_string();
        assert!(text.contains("PTX_VERSION (222)") && text.contains("libnvrtc"), "{text}");
    }

    #[test]
    fn the_compilers_log_becomes_one_line() {
        assert_eq!(one_line(b"ptxas fatal : a\n\n  b\n\0rest"), "ptxas fatal : a; b");
        assert_eq!(one_line(&[0; 8]), "");
    }
}
