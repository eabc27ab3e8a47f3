//! Deltas applied to tensors in memory.

use std::collections::BTreeMap;
use std::path::PathBuf;

use numpy::{PyArrayMethods, PyReadwriteArray1, PyUntypedArrayMethods};
use pyo3::prelude::*;
use residua::format::file::Dtype;
use residua::{Delta, Job, TensorMut};

use crate::arguments::{budget, report, usage_from};
use crate::error::usage;
use crate::run::run;

/// A tensor: its name, its element type as safetensors spells it, its shape, and its bytes as a writable uint8 array.
type View<'py> = (String, String, Vec<usize>, Bound<'py, PyAny>);

/// Applies a delta to tensors in memory; `residua.apply_delta` makes the views.
#[pyfunction]
#[pyo3(signature = (tensors, delta, /, *, memory_budget = None, progress = None))]
pub(crate) fn apply_views<'py>(
    py: Python<'py>,
    tensors: Vec<View<'py>>,
    delta: PathBuf,
    memory_budget: Option<&Bound<'py, PyAny>>,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let budget = budget(memory_budget)?;
    let mut borrowed: BTreeMap<usize, PyReadwriteArray1<'py, u8>> = BTreeMap::new();
    let mut dtypes = Vec::new();
    for (at, (name, dtype, _, view)) in tensors.iter().enumerate() {
        dtypes.push(dtype_of(dtype)?);
        let view = view.cast::<numpy::PyArray1<u8>>()?;
        if view.len() > 0 {
            let view = view.try_readwrite().map_err(|error| usage(format!("tensor {name}: {error}")))?;
            borrowed.insert(at, view);
        }
    }
    let mut slices: BTreeMap<usize, &mut [u8]> = BTreeMap::new();
    for (&at, view) in &mut borrowed {
        slices.insert(at, view.as_slice_mut().map_err(usage_from)?);
    }
    let mut views: Vec<TensorMut<'_>> = tensors
        .iter()
        .zip(dtypes)
        .enumerate()
        .map(|(at, ((name, _, shape, _), dtype))| TensorMut {
            name,
            dtype,
            shape,
            bytes: slices.remove(&at).unwrap_or_default(),
        })
        .collect();
    let done =
        run(py, progress, |watch| Job::new(&budget).progress(watch).apply_into(&mut views, Delta(&delta)))?;
    report(py, &done)
}

fn dtype_of(name: &str) -> PyResult<Dtype> {
    serde_json::from_value(name.into())
        .map_err(|_| usage(format!("{name:?} is no element type of safetensors")))
}
