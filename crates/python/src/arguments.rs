//! Arguments that several functions take, and what they return.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyBool;
use residua::Budget;
use residua::memory::ByteSize;
use serde::Serialize;

use crate::error::{ResiduaError, usage};

/// 1 GiB, as on the command line.
const DEFAULT: u64 = 1 << 30;

/// A budget of what Residua allocates: a number of bytes, or a text such as `512MiB`. What the process holds besides
/// does not count.
pub(crate) fn budget(size: Option<&Bound<'_, PyAny>>) -> PyResult<Budget> {
    size.map_or(Ok(Budget::new(DEFAULT)), |size| parse_bytes(size).map(Budget::new))
}

/// Reads a number of bytes: a number, or a text such as `512MiB`.
///
/// Raises:
///     UsageError: it is neither.
#[pyfunction]
#[pyo3(signature = (size, /))]
pub(crate) fn parse_bytes(size: &Bound<'_, PyAny>) -> PyResult<u64> {
    if let Ok(text) = size.extract::<String>() {
        Ok(text.parse::<ByteSize>().map_err(usage_from)?.0)
    } else if let Ok(bytes) = size.extract::<u64>()
        && !size.is_instance_of::<PyBool>()
    {
        Ok(bytes)
    } else {
        Err(usage(format!(
            "{} is not a size: write a number of bytes or a text such as \"512MiB\"",
            size.repr()?
        )))
    }
}

/// A serialised report, as dictionaries and lists.
pub(crate) fn report<'py>(py: Python<'py>, report: &impl Serialize) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(report).map_err(|error| ResiduaError::new_err(error.to_string()))?;
    py.import("json")?.call_method1("loads", (text,))
}

/// An error of a text that could not be parsed.
pub(crate) fn usage_from(error: impl std::fmt::Display) -> PyErr {
    usage(error.to_string())
}

/// One of several values, by its name.
pub(crate) fn choice<T: Copy>(argument: &str, name: &str, known: &[(&str, T)]) -> PyResult<T> {
    let found = known.iter().find(|(known, _)| *known == name);
    found.map(|&(_, value)| value).ok_or_else(|| {
        let known: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        usage(format!("{argument} is {name:?}; there are {}", known.join(", ")))
    })
}

/// A path as a text for an option that is a word or a path.
pub(crate) fn word_or_path(value: &Bound<'_, PyAny>) -> PyResult<String> {
    let path: PathBuf = value.extract()?;
    path.into_os_string().into_string().map_err(|path| usage(format!("{} is not UTF-8", path.display())))
}
