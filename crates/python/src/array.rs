//! Arrays in and out: NumPy's, and what can be seen as such without a copy.

use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

use crate::error::usage;

/// What was passed as a NumPy array: NumPy's own, a torch tensor on the CPU, whatever exports DLPack or a buffer, or
/// lists. It shares memory with the original where the original allows that. bfloat16, which NumPy does not have, is
/// widened.
///
/// `name` is for errors.
pub(crate) fn array<'py>(value: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, PyUntypedArray>> {
    if let Ok(array) = value.cast::<PyUntypedArray>() {
        return Ok(array.clone());
    }
    let py = value.py();
    let found = if value.hasattr("detach")? && value.hasattr("numpy")? {
        // A torch tensor. Its own errors say what to do about gradients and devices.
        match is_bfloat16(value)? {
            true => value.call_method0("float").and_then(|wide| wide.call_method0("numpy")),
            false => value.call_method0("numpy"),
        }
    } else if value.hasattr("__dlpack__")? {
        py.import("numpy")?.call_method1("from_dlpack", (value,))
    } else {
        py.import("numpy")?.call_method1("asarray", (value,))
    };
    let unusable = |error: PyErr| {
        if error.is_instance_of::<PyKeyboardInterrupt>(py) {
            return error;
        }
        usage(format!("{name}: {}", error.value(py)))
    };
    Ok(found.map_err(unusable)?.cast_into::<PyUntypedArray>()?)
}

fn is_bfloat16(tensor: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(tensor.getattr("dtype")?.str()?.to_cow()?.ends_with("bfloat16"))
}

/// An array of f32 whose rows lie one after the other: the array itself, or a copy. f16 is widened.
pub(crate) fn input<'py>(value: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, PyUntypedArray>> {
    let array = array(value, name)?;
    if !is_float(&array, 4) && !is_float(&array, 2) {
        return Err(wrong_type(&array, name, "float32"));
    }
    contiguous(&array, "float32")
}

/// Whether the elements are floats of this many bytes.
pub(crate) fn is_float(array: &Bound<'_, PyUntypedArray>, bytes: usize) -> bool {
    let dtype = array.dtype();
    dtype.kind() == b'f' && dtype.itemsize() == bytes
}

/// The array in this element type, row-major; the array itself if it is that already.
pub(crate) fn contiguous<'py>(
    array: &Bound<'py, PyUntypedArray>,
    dtype: &str,
) -> PyResult<Bound<'py, PyUntypedArray>> {
    let numpy = array.py().import("numpy")?;
    let array = numpy.call_method1("require", (array, dtype, ("C", "A")))?;
    Ok(array.cast_into::<PyUntypedArray>()?)
}

pub(crate) fn wrong_type(array: &Bound<'_, PyUntypedArray>, name: &str, wanted: &str) -> PyErr {
    usage(format!(
        "{name} is {}, and {wanted} is needed: convert it, such as with {name}.astype(\"{wanted}\")",
        array.dtype()
    ))
}

/// The rows of an array `[…, features]`: the number of them.
pub(crate) fn rows(shape: &[usize], features: usize, name: &str) -> PyResult<usize> {
    match shape.split_last() {
        Some((&last, leading)) if last == features => Ok(leading.iter().product()),
        _ => Err(usage(format!("{name} has shape {shape:?}; its last dimension has to be {features}"))),
    }
}
