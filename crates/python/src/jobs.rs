//! Jobs on checkpoints.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyMapping;
use residua::format::{BaseKind, ValueType};
use residua::split::{BaseLocation, DeltaOp};
use residua::{
    BaseSpec, Delta, DiffOptions, Importance, Job, MaterializeOptions, New, Old, Output, SplitOptions,
    VerifyOptions,
};

use crate::arguments::{budget, choice, parse_bytes, report, usage_from, word_or_path};
use crate::error::usage;
use crate::run::run;

/// Splits a checkpoint into a low-precision base and a sparse residual.
///
/// A checkpoint is a safetensors file, an index of shards (`model.safetensors.index.json`) or a folder with either. The
/// output appears complete or not at all.
///
/// Args:
///     model: The checkpoint.
///     out: The file to write.
///     density: The share of each tensor's weights that enter the residual, 0 to 1; 0.015 if nothing else is given, 0.05 over
///         another checkpoint.
///     threshold: Instead, every weight with a score of at least this enters.
///     bits: Instead, so many bits per weight in all: kind of base and density are chosen for each tensor.
///     size: Instead, the bytes of the file: a number, or a text such as `2GiB`.
///     base: `lut2` to `lut6` (codes of a codebook that is fitted to the tensor), `lut3` to `lut5` with `-g16`
///         or `-g32` (the same with a multiplier for each block of columns), `int4`, `int4-g32`, `int4-g64`, `int4-g128`,
///         `int8`, or the path of another checkpoint; `lut4-g16` if nothing is given.
///     bases: Kinds for tensors whose names match glob patterns, such as `{"*embed*": "int8"}`; the first match counts.
///     values: How the residual's values are stored: `f32`, `f16`, `bf16` or `i8`; `i8` if nothing is given, `bf16` over another
///         checkpoint.
///     importance: `uniform`, or `column` for the mean square of the weight's column.
///     calibration: A file with mean squares or second moments of each layer's inputs; it replaces `importance`.
///     include: Glob patterns; if there are any, only tensors that match one are split.
///     exclude: Glob patterns of tensors that pass through unchanged, such as `*embed*`.
///     hashes: Whether the file holds a hash of every plane, for `verify`.
///     folder: Whether `out` is a new folder for the model: the split, its config and its other small files.
///     memory_budget: The bytes that the job may allocate: a number, or a text such as `512MiB`; 1 GiB if nothing is given.
///     progress: `True` shows a bar (tqdm if it is installed); a function is called as
///         `progress(what, tensor, done, total)`, in bytes, about 20 times a second; what it raises stops the job, if it is not done yet.
///
/// Returns:
///     A dictionary: `tensors` and `passed` (a dictionary for each tensor), `input_bytes`, `output_bytes`, `nnz`, `parameters`,
///     `error` and `base_error` (relative, of all tensors together).
///
/// Raises:
///     UsageError: arguments contradict each other or the checkpoint.
///     InputError: an input is malformed, or a weight is not finite.
///     BudgetError: the budget is too small.
///     IoError: a file cannot be read or written.
#[pyfunction]
#[pyo3(signature = (model, out, *, density = None, threshold = None, bits = None, size = None, base = None,
    bases = None, values = None, importance = None,
    calibration = None, include = Vec::new(), exclude = Vec::new(), hashes = true,
    folder = false, memory_budget = None, progress = None))]
#[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub(crate) fn split<'py>(
    py: Python<'py>,
    model: PathBuf,
    out: PathBuf,
    density: Option<f64>,
    threshold: Option<f32>,
    bits: Option<f64>,
    size: Option<&Bound<'py, PyAny>>,
    base: Option<&Bound<'py, PyAny>>,
    bases: Option<&Bound<'py, PyMapping>>,
    values: Option<&str>,
    importance: Option<&str>,
    calibration: Option<PathBuf>,
    include: Vec<String>,
    exclude: Vec<String>,
    hashes: bool,
    folder: bool,
    memory_budget: Option<&Bound<'py, PyAny>>,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let budget = budget(memory_budget)?;
    let mut options = match base {
        Some(base) => SplitOptions::for_base(word_or_path(base)?.parse::<BaseSpec>().map_err(usage_from)?),
        None => SplitOptions::default(),
    };
    options = options.include(include).exclude(exclude).hashes(hashes);
    if let Some(values) = values {
        options = options.values(choice("values", values, &ValueType::ALL.map(|kind| (kind.name(), kind)))?);
    }
    for item in bases.map(|bases| bases.items()).transpose()?.iter().flatten() {
        let (pattern, kind): (String, String) = item.extract()?;
        options = options
            .base_for(pattern, choice("bases", &kind, &BaseKind::ALL.map(|kind| (kind.name(), kind)))?);
    }
    options = match (density, threshold, bits, size) {
        (None, None, None, None) => options,
        (Some(density), None, None, None) => options.density(density),
        (None, Some(threshold), None, None) => options.threshold(threshold),
        (None, None, Some(bits), None) => options.bits(bits),
        (None, None, None, Some(size)) => options.size(parse_bytes(size)?),
        _ => return Err(usage("density, threshold, bits and size exclude each other")),
    };
    if base.is_some() && (bits.is_some() || size.is_some()) && options.base.checkpoint().is_none() {
        return Err(usage("bits and size choose the base; fix some with bases"));
    }
    let known = [("uniform", ()), ("column", ())];
    options = match (importance, calibration) {
        (Some(_), Some(_)) => return Err(usage("importance and calibration exclude each other")),
        (None, Some(file)) => options.importance(Importance::Calibration(file)),
        (Some("column"), None) => options.importance(Importance::ColumnMeanSquare),
        (Some(other), None) => {
            choice("importance", other, &known)?;
            options
        }
        (None, None) => options,
    };
    let done = run(py, progress, |watch| {
        let job = Job::new(&budget).progress(watch);
        match folder {
            true => job.split_folder(&model, Output(&out), &options).map(|folder| folder.split),
            false => job.split(&model, Output(&out), &options),
        }
    })?;
    let dictionary = report(py, &done)?;
    dictionary.set_item("nnz", done.nnz())?;
    dictionary.set_item("parameters", done.parameters())?;
    dictionary.set_item("error", done.error())?;
    dictionary.set_item("base_error", done.base_error())?;
    Ok(dictionary)
}

/// Turns a split file back into a dense checkpoint.
///
/// Args:
///     file: The split file.
///     out: The checkpoint to write.
///     alpha: 1 is the whole model, 0 the base alone.
///     base: The checkpoint that the file was split over, if it was.
///     follow_base: Follow the path to the base that the file stores, wherever it leads.
///     memory_budget, progress: As in `split`.
///
/// Returns:
///     A dictionary: `alpha`, `tensors`, `passed`, `output_bytes`.
///
/// Raises:
///     As `split`.
#[pyfunction]
#[pyo3(signature = (file, out, *, alpha = 1.0, base = None, follow_base = false, memory_budget = None, progress = None))]
#[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub(crate) fn materialize<'py>(
    py: Python<'py>,
    file: PathBuf,
    out: PathBuf,
    alpha: f32,
    base: Option<PathBuf>,
    follow_base: bool,
    memory_budget: Option<&Bound<'py, PyAny>>,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let budget = budget(memory_budget)?;
    let mut options = MaterializeOptions::default().alpha(alpha);
    options.base = location(base, follow_base)?;
    let done = run(py, progress, |watch| {
        Job::new(&budget).progress(watch).materialize(&file, Output(&out), &options)
    })?;
    report(py, &done)
}

/// Checks a split file, and measures its distance from a checkpoint.
///
/// What is wrong with a tensor is in the result; only what ends the job is raised.
///
/// Args:
///     file: The split file.
///     against: A checkpoint to compare the file with.
///     base, follow_base: As in `materialize`.
///     calibration: A calibration file, to measure the error of the layers' outputs with; needs `against`.
///     memory_budget, progress: As in `split`.
///
/// Returns:
///     A dictionary: `valid`; `matches`, `error` and `base_error` (`None` without a checkpoint); `output_error` (`None`
///     without a calibration); `tensors`.
///
/// Raises:
///     InputError: the file is no split file, a header is malformed, or the calibration does not fit the layers.
///     UsageError, BudgetError, IoError: as in `split`.
#[pyfunction]
#[pyo3(signature = (
    file, against = None, *, base = None, follow_base = false, calibration = None, memory_budget = None, progress = None
))]
#[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub(crate) fn verify<'py>(
    py: Python<'py>,
    file: PathBuf,
    against: Option<PathBuf>,
    base: Option<PathBuf>,
    follow_base: bool,
    calibration: Option<PathBuf>,
    memory_budget: Option<&Bound<'py, PyAny>>,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let budget = budget(memory_budget)?;
    if calibration.is_some() && against.is_none() {
        return Err(usage("calibration measures a distance: name a checkpoint with against"));
    }
    let mut options = VerifyOptions::default();
    options.base = location(base, follow_base)?;
    (options.against, options.calibration) = (against, calibration);
    let done = run(py, progress, |watch| Job::new(&budget).progress(watch).verify(&file, &options))?;
    let dictionary = report(py, &done)?;
    dictionary.set_item("valid", done.is_valid())?;
    dictionary.set_item("matches", options.against.is_some().then(|| done.matches()))?;
    dictionary.set_item("error", done.error())?;
    dictionary.set_item("base_error", done.base_error())?;
    dictionary.set_item("output_error", done.output_error())?;
    Ok(dictionary)
}

/// Stores what changed from one checkpoint to another.
///
/// Args:
///     old: The old checkpoint.
///     new: The new checkpoint.
///     out: The delta to write.
///     op: `overwrite` stores the new bits of a changed element, `xor` old bits xor new bits.
///     memory_budget, progress: As in `split`.
///
/// Returns:
///     A dictionary: `tensors`, `removed`, `base_hash`, `target_hash`, `target_bytes`, `delta_bytes`, `elements`, `changed`.
///
/// Raises:
///     As `split`.
#[pyfunction]
#[pyo3(signature = (old, new, out, *, op = "overwrite", memory_budget = None, progress = None))]
pub(crate) fn diff<'py>(
    py: Python<'py>,
    old: PathBuf,
    new: PathBuf,
    out: PathBuf,
    op: &str,
    memory_budget: Option<&Bound<'py, PyAny>>,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let budget = budget(memory_budget)?;
    let options = DiffOptions::default().op(choice("op", op, &DeltaOp::ALL.map(|op| (op.name(), op)))?);
    let done = run(py, progress, |watch| {
        Job::new(&budget).progress(watch).diff_with(Old(&old), New(&new), Output(&out), &options)
    })?;
    let dictionary = report(py, &done)?;
    dictionary.set_item("elements", done.elements())?;
    dictionary.set_item("changed", done.changed())?;
    Ok(dictionary)
}

/// Applies a delta to a checkpoint: the old checkpoint becomes the new one, bit for bit.
///
/// Args:
///     old: The old checkpoint.
///     delta: The delta.
///     out: The checkpoint to write; it is replaced only when every tensor has the hash that the delta holds for it.
///     memory_budget, progress: As in `split`.
///
/// Returns:
///     A dictionary: `tensors`, `removed`, `output_bytes`.
///
/// Raises:
///     InputError: `old` is not what the delta was made from (the text names the first tensor that differs), or the delta is
///         damaged.
///     UsageError, BudgetError, IoError: as in `split`.
#[pyfunction]
#[pyo3(signature = (old, delta, out, *, memory_budget = None, progress = None))]
pub(crate) fn patch<'py>(
    py: Python<'py>,
    old: PathBuf,
    delta: PathBuf,
    out: PathBuf,
    memory_budget: Option<&Bound<'py, PyAny>>,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let budget = budget(memory_budget)?;
    let done = run(py, progress, |watch| {
        Job::new(&budget).progress(watch).patch(Old(&old), Delta(&delta), Output(&out))
    })?;
    report(py, &done)
}

fn location(base: Option<PathBuf>, follow: bool) -> PyResult<BaseLocation> {
    match (base, follow) {
        (Some(_), true) => Err(usage("base and follow_base exclude each other")),
        (Some(base), false) => Ok(BaseLocation::At(base)),
        (None, true) => Ok(BaseLocation::Stored),
        (None, false) => Ok(BaseLocation::Near),
    }
}
