//! Container files, and their layers on any backend.

#![allow(non_camel_case_types)]

use std::ffi::{CStr, CString, OsStr, c_char, c_int};

use residua::{Budget, Device, DeviceOptions, Layer, LayerInfo, SplitFile};

use crate::failure::{Failure, guard, status};
use crate::forward::vectors;
use crate::handle;

/// An open container file.
pub struct residua_file_t {
    _opaque: [u8; 0],
}

/// A place to compute: a processor or a device.
pub struct residua_backend_t {
    _opaque: [u8; 0],
}

/// A layer of a file, on a backend.
pub struct residua_layer_t {
    _opaque: [u8; 0],
}

struct File {
    file: SplitFile,
    layers: Vec<LayerInfo>,
    names: Vec<CString>,
}

struct OpenDevice {
    device: Device,
    description: CString,
}

/// The library's version, for example "0.1.0". Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn residua_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// The same as orth_last_error.
#[unsafe(no_mangle)]
pub extern "C" fn residua_last_error() -> *const c_char {
    crate::failure::last_error()
}

/// Opens a container file. NULL on failure. Threads: any.
///
/// A file that was split over another checkpoint holds only the sparse parts. The library looks for the checkpoint at
/// the path in the file, if that lies in the file's folder or below. residua_file_open_with_base names another path.
/// residua_layer_open fails if the checkpoint was not found.
///
/// # Safety
/// `path` is NULL or a terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residua_file_open(path: *const c_char) -> *mut residua_file_t {
    guard(std::ptr::null_mut(), || {
        // SAFETY: the caller's promise.
        let path = unsafe { text("path", path) }?;
        File::open(SplitFile::open(os_str(path)?)?)
    })
}

/// Opens a file that was split over another checkpoint; `base` is that checkpoint: a safetensors file, an index of shards
/// or a folder. NULL on failure. Threads: any.
///
/// residua_layer_open compares the hash of each base tensor with the one in the file.
///
/// # Safety
/// `path` and `base` are NULL or terminated strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residua_file_open_with_base(
    path: *const c_char,
    base: *const c_char,
) -> *mut residua_file_t {
    guard(std::ptr::null_mut(), || {
        // SAFETY: the caller's promise.
        let (path, base) = unsafe { (text("path", path)?, text("base", base)?) };
        File::open(SplitFile::open_with_base(os_str(path)?, os_str(base)?)?)
    })
}

/// Closes a file; does nothing to NULL. Its loaded layers stay valid. Returns 0, or -1 if the file is not open.
///
/// Threads: any; calls in progress finish.
#[unsafe(no_mangle)]
pub extern "C" fn residua_file_close(file: *mut residua_file_t) -> c_int {
    status(|| handle::close::<_, File>("file", file))
}

/// Number of layers in a file; also 0 on failure. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn residua_file_layer_count(file: *const residua_file_t) -> usize {
    guard(0, || Ok(handle::get::<_, File>("file", file)?.names.len()))
}

/// Name of layer number `index`, valid until the file is closed. NULL on failure. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn residua_file_layer_name(file: *const residua_file_t, index: usize) -> *const c_char {
    guard(std::ptr::null(), || {
        let file = handle::get::<_, File>("file", file)?;
        let count = file.names.len();
        let name = file.names.get(index);
        let name =
            name.ok_or_else(|| Failure::refused(format!("layer {index} of a file that has {count}")))?;
        Ok(name.as_ptr())
    })
}

/// Sizes of a layer of a file: outputs, inputs and non-zeros of its sparse part. Each pointer may be NULL.
///
/// Returns 0, or -1 if there is no such layer. Threads: any.
///
/// # Safety
/// `name` is NULL or a terminated string; the other pointers are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residua_file_layer_size(
    file: *const residua_file_t,
    name: *const c_char,
    out_features: *mut usize,
    in_features: *mut usize,
    nnz: *mut u64,
) -> c_int {
    status(|| {
        let file = handle::get::<_, File>("file", file)?;
        // SAFETY: the caller's promise.
        let layer = file.layer(utf8("name", unsafe { text("name", name) }?)?)?;
        // SAFETY: the caller's promise.
        unsafe {
            out_features.as_mut().into_iter().for_each(|to| *to = layer.shape[0]);
            in_features.as_mut().into_iter().for_each(|to| *to = layer.shape[1]);
            nnz.as_mut().into_iter().for_each(|to| *to = layer.nnz);
        }
        Ok(())
    })
}

/// Opens a backend by name: "cpu", "wgpu", "cuda", one of their devices such as "cuda:1", or "auto" for the first
/// available of cuda, wgpu and cpu.
///
/// threads is for the CPU; 0 uses all threads. memory_budget is the maximum number of bytes for reading files for the
/// backend and for its layers; 0 is no limit. Returns NULL if this build or this machine does not have the backend;
/// residua_last_error states which, and what to install. Threads: any.
///
/// # Safety
/// `name` is NULL or a terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residua_backend_open(
    name: *const c_char,
    threads: c_int,
    memory_budget: u64,
) -> *mut residua_backend_t {
    guard(std::ptr::null_mut(), || {
        // SAFETY: the caller's promise.
        let name = utf8("name", unsafe { text("name", name) }?)?;
        let threads = usize::try_from(threads)
            .map_err(|_| Failure::refused(format!("{threads} threads; 0 is as many as there are")))?;
        let budget = if memory_budget == 0 { Budget::unlimited() } else { Budget::new(memory_budget) };
        let device = Device::open_with(name, &DeviceOptions::default().threads(threads), &budget)?;
        let description = CString::new(device.description()).unwrap_or_default();
        Ok(handle::open(OpenDevice { device, description }))
    })
}

/// The device of a backend, for people, for example "cpu avx2, 2 threads"; valid until the backend is closed.
///
/// NULL on failure. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn residua_backend_device(backend: *const residua_backend_t) -> *const c_char {
    guard(std::ptr::null(), || Ok(handle::get::<_, OpenDevice>("backend", backend)?.description.as_ptr()))
}

/// Closes a backend; does nothing to NULL. Its layers stay valid. Returns 0, or -1 if the backend is not open.
///
/// Threads: any; calls in progress finish.
#[unsafe(no_mangle)]
pub extern "C" fn residua_backend_close(backend: *mut residua_backend_t) -> c_int {
    status(|| handle::close::<_, OpenDevice>("backend", backend))
}

/// Loads a layer of a file onto a backend: its dense part and its sparse part.
///
/// It validates everything that it reads. NULL on failure, for example if the file was split over another checkpoint and
/// that checkpoint is missing or has other content. Threads: any.
///
/// # Safety
/// `name` is NULL or a terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residua_layer_open(
    file: *const residua_file_t,
    name: *const c_char,
    backend: *const residua_backend_t,
) -> *mut residua_layer_t {
    guard(std::ptr::null_mut(), || {
        let file = handle::get::<_, File>("file", file)?;
        let on = handle::get::<_, OpenDevice>("backend", backend)?;
        // SAFETY: the caller's promise.
        let name = utf8("name", unsafe { text("name", name) }?)?;
        Ok(handle::open(file.file.layer(name, &on.device)?))
    })
}

/// Computes output = base * input + alpha * (sparse * input), input [batch, in_features], output
/// [batch, out_features], row-major, in this process's memory. A file of single sparse matrices has only the second term.
///
/// Returns 0, or -1 with the output unchanged. Threads: any number at once, also on one layer, with different outputs.
///
/// # Safety
/// `input` and `output` are NULL or have the numbers of floats above, and nobody else writes to them during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residua_layer_forward(
    layer: *const residua_layer_t,
    alpha: f32,
    input: *const f32,
    output: *mut f32,
    batch_size: usize,
) -> c_int {
    status(|| {
        let layer = handle::get::<_, Layer>("layer", layer)?;
        let shape = [layer.out_features(), layer.in_features()];
        // SAFETY: the caller's promise.
        let (input, output) = unsafe { vectors(shape, input, output, batch_size) }?;
        Ok(layer.forward_into(alpha, input, batch_size, output)?)
    })
}

/// Frees a layer; does nothing to NULL. Returns 0, or -1 if it is not open. Threads: any; calls in progress finish.
#[unsafe(no_mangle)]
pub extern "C" fn residua_layer_close(layer: *mut residua_layer_t) -> c_int {
    status(|| handle::close::<_, Layer>("layer", layer))
}

impl File {
    /// The handle of an open file.
    fn open(file: SplitFile) -> Result<*mut residua_file_t, Failure> {
        let layers: Vec<LayerInfo> = file.layers().collect();
        let name = |layer: &LayerInfo| {
            CString::new(&*layer.name)
                .map_err(|_| Failure::refused(format!("layer {:?}: a zero byte in its name", layer.name)))
        };
        let names = layers.iter().map(name).collect::<Result<_, _>>()?;
        Ok(handle::open(Self { file, layers, names }))
    }

    fn layer(&self, name: &str) -> Result<&LayerInfo, Failure> {
        self.layers.iter().find(|layer| layer.name == name).ok_or_else(|| {
            let path = self.file.container().path().display();
            Failure::refused(format!("{path}: no layer {name:?}; residua_file_layer_name lists them"))
        })
    }
}

/// # Safety
/// `text` is NULL or a terminated string that outlives the call.
unsafe fn text<'a>(what: &'static str, text: *const c_char) -> Result<&'a CStr, Failure> {
    if text.is_null() {
        return Err(Failure::Null(what));
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { CStr::from_ptr(text) })
}

fn utf8<'a>(what: &'static str, text: &'a CStr) -> Result<&'a str, Failure> {
    text.to_str().map_err(|_| Failure::refused(format!("{what} {text:?} is not UTF-8")))
}

#[cfg(unix)]
fn os_str(path: &CStr) -> Result<&OsStr, Failure> {
    Ok(std::os::unix::ffi::OsStrExt::from_bytes(path.to_bytes()))
}

#[cfg(not(unix))]
fn os_str(path: &CStr) -> Result<&OsStr, Failure> {
    Ok(utf8("path", path)?.as_ref())
}
