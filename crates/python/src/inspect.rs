//! What a file holds.

use std::path::PathBuf;

use pyo3::prelude::*;
use residua::compensate::statistics::StatisticsReader;
use residua::format::file::{Checkpoint, Container, ContainerKind};
use residua::split::report_delta;
use serde_json::{Value, json};

use crate::arguments::{budget, report};
use crate::run::run;

/// Says what a file holds, without reading its data.
///
/// Args:
///     path: A file that Residua wrote, or a checkpoint.
///     memory_budget: The bytes that the call may allocate: a number, or a text such as `512MiB`.
///
/// Returns:
///     A dictionary with `kind`: `split` or `matrix` (with `layers` and `tensors`), `delta` (as `diff` returns),
///     `statistics` (with `dim` and `classes`, counts by label), or `checkpoint` (with `tensors`).
///
/// Raises:
///     IoError: the file cannot be read.
///     InputError: it is malformed.
///     BudgetError: the budget does not hold its header.
#[pyfunction]
#[pyo3(signature = (path, *, memory_budget = None))]
pub(crate) fn inspect<'py>(
    py: Python<'py>,
    path: PathBuf,
    memory_budget: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let budget = budget(memory_budget)?;
    let found = run(py, None, |_| -> Result<Value, residua::Error> {
        let file = Checkpoint::open_within(&path, &budget)?;
        let tensor = |info: &residua::format::file::TensorInfo| json!({ "name": info.name, "dtype": info.dtype, "shape": info.shape, "bytes": info.bytes });
        if StatisticsReader::is_in(&file) {
            let statistics = StatisticsReader::of(file, &budget)?;
            let classes: std::collections::BTreeMap<u32, u64> = statistics.counts().collect();
            return Ok(json!({ "kind": "statistics", "dim": statistics.dim(), "classes": classes }));
        }
        if !Container::is_container(&file) {
            let tensors: Vec<Value> = file.tensors().iter().map(tensor).collect();
            return Ok(json!({ "kind": "checkpoint", "tensors": tensors }));
        }
        let container = Container::from_file(file)?;
        if container.kind() == ContainerKind::Delta {
            let delta = report_delta(&container)?;
            let mut value = serde_json::to_value(&delta).unwrap_or_default();
            value["kind"] = "delta".into();
            value["elements"] = delta.elements().into();
            value["changed"] = delta.changed().into();
            return Ok(value);
        }
        let layers = container.matrices().iter().map(|(name, meta)| {
            json!({
                "name": name, "dtype": meta.dtype, "shape": meta.shape, "nnz": meta.nnz,
                "base": meta.base.map(|kind| kind.name()),
            })
        });
        let layers: Vec<Value> = layers.collect();
        let tensors: Vec<Value> = container.dense().map(tensor).collect();
        Ok(json!({ "kind": container.kind().name(), "layers": layers, "tensors": tensors }))
    })?;
    report(py, &found)
}
