//! Finds out whether there is a new enough driver with a GPU, before anything is opened.

use cudarc::driver::sys::CUresult;
use cudarc::driver::{result, sys};
use residua_backend::BackendError;

use super::status::{Named, name};
use crate::driver::NAME;

/// The oldest CUDA version that the bindings and the PTX support.
const LEAST_VERSION: i32 = 12_000;

/// The driver's number of the GPU with a number or part of a name; GPU 0 if none is given.
pub(super) fn find(wanted: Option<&str>) -> Result<i32, BackendError> {
    chosen(wanted, count()?, device_name)
}

/// The same, among `count` GPUs.
fn chosen(
    wanted: Option<&str>,
    count: i32,
    device_name: impl Fn(i32) -> String,
) -> Result<i32, BackendError> {
    let Some(wanted) = wanted else { return Ok(0) };
    let is_wanted = |index: &i32| match wanted.parse::<usize>() {
        Ok(number) => usize::try_from(*index) == Ok(number),
        Err(_) => device_name(*index).to_lowercase().contains(&wanted.to_lowercase()),
    };
    (0..count).find(is_wanted).ok_or_else(|| {
        let names = (0..count).map(|index| format!("{index} {}", device_name(index)));
        BackendError::NoSuchDevice {
            backend: NAME,
            wanted: wanted.into(),
            present: names.collect::<Vec<_>>().join(", "),
        }
    })
}

/// Refuses a driver that is too old.
fn new_enough(version: i32) -> Result<(), BackendError> {
    if version >= LEAST_VERSION {
        return Ok(());
    }
    let has = version_text(version);
    Err(unavailable(&format!("a driver for CUDA 12.0 or newer (this driver is for {has})")))
}

/// Number of GPUs, at least 1.
pub(super) fn count() -> Result<i32, BackendError> {
    // SAFETY: this only tries to load the library.
    if !unsafe { sys::is_culib_present() } {
        return Err(unavailable("the NVIDIA driver (libcuda)"));
    }
    match result::init() {
        Ok(()) => {}
        Err(status) if status.0 == CUresult::CUDA_ERROR_NO_DEVICE => {
            return Err(unavailable("an NVIDIA GPU"));
        }
        Err(status) => {
            return Err(unavailable(&format!("a working NVIDIA driver (cuInit: {})", name(status))));
        }
    }
    new_enough(version()?)?;
    let count = result::device::get_count().named("cuDeviceGetCount")?;
    if count == 0 {
        return Err(unavailable("an NVIDIA GPU"));
    }
    Ok(count)
}

/// The newest CUDA version that the driver supports: 1000·major + 10·minor.
pub(super) fn version() -> Result<i32, BackendError> {
    let mut version = 0;
    // SAFETY: the library is there, and writes one integer.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().named("cuDriverGetVersion")?;
    Ok(version)
}

/// `CUDA 12.4`.
pub(super) fn version_text(version: i32) -> String {
    format!("CUDA {}.{}", version / 1000, version % 1000 / 10)
}

pub(super) fn device_name(index: i32) -> String {
    let name = result::device::get(index).and_then(result::device::get_name);
    name.unwrap_or_else(|_| "a GPU that does not answer".into())
}

fn unavailable(missing: &str) -> BackendError {
    BackendError::Unavailable {
        backend: NAME,
        missing: missing.into(),
        install: "install a GPU with NVIDIA's driver 525 or newer, or use another backend".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_driver_is_named_with_what_is_needed() {
        let error = new_enough(11_080).unwrap_err();
        assert!(matches!(error, BackendError::Unavailable { backend: "cuda", .. }));
        let text = error.to_string();
        assert!(text.contains("CUDA 12.0") && text.contains("CUDA 11.8") && text.contains("525"), "{text}");
        assert!(new_enough(LEAST_VERSION).is_ok() && new_enough(13_000).is_ok());
    }

    #[test]
    fn a_device_is_found_by_number_or_name() {
        let name = |index| format!("H{index}00");
        for (wanted, expected) in
            [(None, 0), (Some("0"), 0), (Some("1"), 1), (Some("h1"), 1), (Some("00"), 0)]
        {
            assert_eq!(chosen(wanted, 2, name), Ok(expected), "{wanted:?}");
        }
        for wrong in ["2", "18446744073709551615", "100", "radeon"] {
            let error = chosen(Some(wrong), 2, name).unwrap_err();
            assert!(matches!(&error, BackendError::NoSuchDevice { wanted, .. } if wanted == wrong));
            assert!(error.to_string().contains("0 H000, 1 H100"), "{error}");
        }
    }
}
