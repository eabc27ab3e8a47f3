//! Split file in, a report of its state out.

use std::path::Path;

use rayon::prelude::*;
use residua_format::file::{Checkpoint, Container, FileError, MatrixMeta, TensorInfo};
use residua_memory::{AlignedVec, Budget, ErrorKind};

use crate::file::SplitFile;
use crate::float::sum_of_squares;
use crate::layer_reader::{LayerReader, Seen};
use crate::materialize::original_metadata;
use crate::output_error::{OutputErrors, output_errors};
use crate::passed::BLOCK;
use crate::progress::check_stop;
use crate::report::reserve_report;
use crate::rows::{Rows, tensor_shape};
use crate::split::Calibration;
use crate::{Progress, SplitError, VerifiedTensor, VerifyOptions, VerifyReport};

/// Checks a split file: its structure, its counts, that every weight fits its element type, the hashes of the planes if
/// the file stores them, and the hash of a base in another file. A file that passes can be
/// [materialized](crate::materialize()) at alpha 1.
///
/// A value that changed into another valid value is found by the hash of its plane. A tensor that passed through has no
/// hash. With [`VerifyOptions::against`] the job also measures how far every tensor is from the checkpoint's, finds
/// tensors that only one of the two has, and demands that tensors that passed through are the same byte for byte. With
/// [`VerifyOptions::calibration`] it also measures the error of the outputs of every layer that the calibration knows.
///
/// # Errors
/// When a file cannot be opened or read, the metadata of the original checkpoint is malformed, a base that is another
/// checkpoint is not found, the budget is too small, or the caller stops the job. What is wrong with a single tensor is
/// in the report.
pub fn verify(
    file: impl AsRef<Path>,
    options: &VerifyOptions,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<VerifyReport, SplitError> {
    run(file.as_ref(), options, budget, progress)
}

fn run(
    file: &Path,
    options: &VerifyOptions,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<VerifyReport, SplitError> {
    let file = SplitFile::open_at(file, &options.base, budget)?;
    file.require_base()?;
    let container = file.container();
    original_metadata(container)?;
    let open = |path| Checkpoint::open_within(path, budget);
    let against = options.against.as_deref().map(open).transpose()?;
    let calibration = options.calibration.as_deref().map(open).transpose()?;
    if let Some(calibration) = &calibration {
        if against.is_none() {
            return Err(SplitError::Usage("the error of outputs needs a checkpoint to compare with".into()));
        }
        if container.matrices().iter().all(|(name, _)| calibration.tensor(name).is_none()) {
            let problem = "holds no calibration for any layer of the split file";
            return Err(FileError::malformed(calibration.path(), problem).into());
        }
    }
    let tensors = container.matrices().iter().map(|(name, _)| &**name);
    let tensors = tensors.chain(container.dense().map(|info| &*info.name));
    let others = against.iter().flat_map(Checkpoint::tensors).map(|info| &*info.name);
    let _report = reserve_report::<VerifiedTensor>(tensors.chain(others), budget)?;
    let mut report = VerifyReport::default();
    progress.begin("verifying", container.file().bytes());
    for (name, meta) in container.matrices() {
        progress.tensor(name);
        let mut verified = VerifiedTensor {
            name: name.clone(),
            shape: tensor_shape(meta).to_vec(),
            dtype: meta.dtype.to_string(),
            split: true,
            nnz: meta.nnz,
            problem: None,
            mismatch: None,
            norm: None,
            base_error: None,
            error: None,
            max_abs_error: None,
            output_error: None,
        };
        let original = against.as_ref().map(|file| original(name, meta, file)).transpose();
        let original = note(original, &mut verified.mismatch)?.flatten();
        let result = file
            .layer(name)
            .and_then(LayerReader::new)
            .and_then(|layer| check_layer(&layer, original.as_ref(), budget, progress));
        if let Some(Errors { weights, base, both, largest }) = note(result, &mut verified.problem)?.flatten()
        {
            let relative = |error: f64| (error / weights.max(f64::MIN_POSITIVE)).sqrt();
            verified.norm = Some(weights.sqrt());
            verified.base_error = Some(relative(base));
            verified.error = Some(relative(both));
            verified.max_abs_error = Some(largest);
            if let Some((original, calibration)) = original.as_ref().zip(calibration.as_ref())
                && calibration.tensor(name).is_some()
            {
                let calibration = Calibration::of(calibration, name, meta.shape[1])?;
                let layer = LayerReader::new(file.layer(name)?)?;
                let OutputErrors { weights, error } =
                    output_errors(&layer, original, &calibration, budget, progress)?;
                verified.output_error = Some((error.max(0.0) / weights.max(f64::MIN_POSITIVE)).sqrt());
            }
        }
        progress.advance(container.base_bytes(name)? + container.gap_bytes(name)?);
        report.tensors.push(verified);
    }
    for info in container.dense() {
        progress.tensor(&info.name);
        let mut verified = dense(info);
        let result = check_dense(container, info, against.as_ref(), budget, progress);
        note(result, &mut verified.mismatch)?;
        progress.advance(info.bytes);
        report.tensors.push(verified);
    }
    let known = |name: &str| container.matrix(name).is_some() || container.dense_tensor(name).is_some();
    let missing = against.iter().flat_map(Checkpoint::tensors).filter(|info| !known(&info.name));
    report.tensors.extend(missing.map(|info| {
        let mismatch = Some("is in the checkpoint and not in the file".to_owned());
        VerifiedTensor { mismatch, ..dense(info) }
    }));
    progress.end();
    Ok(report)
}

fn dense(info: &TensorInfo) -> VerifiedTensor {
    VerifiedTensor {
        name: info.name.clone(),
        shape: info.shape.clone(),
        dtype: info.dtype.to_string(),
        split: false,
        nnz: 0,
        problem: None,
        mismatch: None,
        norm: None,
        base_error: None,
        error: None,
        max_abs_error: None,
        output_error: None,
    }
}

/// Notes what is wrong with one tensor. Only errors that end the job come back.
fn note<T>(result: Result<T, SplitError>, line: &mut Option<String>) -> Result<Option<T>, SplitError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::Budget | ErrorKind::Io | ErrorKind::Interrupted) => {
            Err(error)
        }
        Err(error) => {
            *line = Some(error.to_string());
            Ok(None)
        }
    }
}

/// Sums of squares, and the largest error.
#[derive(Debug, Clone, Copy, Default)]
struct Errors {
    weights: f64,
    base: f64,
    both: f64,
    largest: f64,
}

impl Errors {
    fn add(self, other: Self) -> Self {
        Self {
            weights: self.weights + other.weights,
            base: self.base + other.base,
            both: self.both + other.both,
            largest: self.largest.max(other.largest),
        }
    }
}

fn check_layer(
    layer: &LayerReader<'_>,
    original: Option<&Rows<'_>>,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<Option<Errors>, SplitError> {
    let (cols, row_bytes) = (layer.cols(), layer.row_bytes());
    let scratch_bytes = 8 * cols as u64 * rayon::current_num_threads() as u64;
    // A row of the checkpoint, and its errors.
    let other_row = original.map_or(0, |_| row_bytes + size_of::<Errors>()) as u64;
    // Every thread rebuilds a row, too.
    let scratch_bytes = scratch_bytes + row_bytes as u64 * rayon::current_num_threads() as u64;
    layer.require(scratch_bytes + other_row, budget)?;
    layer.check_planes(true, budget, progress)?;
    let _scratch = budget.reserve(scratch_bytes, "two rows for each thread")?;
    let (mut errors, mut seen, mut first) = (Errors::default(), Seen::default(), 0);
    while first < layer.rows() {
        check_stop(progress)?;
        let range = layer.next_rows(first, other_row, budget)?;
        let rows = layer.read(range.clone(), true, budget)?;
        seen.add(&rows);
        let misfit = (0..range.len())
            .into_par_iter()
            .map_init(
                || (vec![0.0; cols], vec![0; row_bytes]),
                |(weights, out), row| rows.rebuild(row, 1.0, layer.float(), weights, out),
            )
            .find_first(Option::is_some);
        if let Some((row, col, value)) = misfit.flatten() {
            return Err(layer.misfit((range.start + row, col, value)));
        }
        if let Some(original) = original {
            let _held = budget.reserve(range.len() as u64 * other_row, "rows of the checkpoint")?;
            let mut raw = AlignedVec::<u8>::zeroed(range.len() * row_bytes);
            original.read(range.start, &mut raw)?;
            let per_row: Vec<Errors> = raw
                .par_chunks_exact(row_bytes)
                .enumerate()
                .map_init(
                    || (vec![0.0; cols], vec![0.0; cols]),
                    |(weights, rebuilt), (row, raw)| {
                        original.float.widen(raw, weights);
                        rows.base(row, rebuilt);
                        row_errors(weights, rebuilt, |rebuilt| rows.add_residual(row, 1.0, rebuilt))
                    },
                )
                .collect();
            // In the order of rows, so that the sums do not depend on blocks and threads.
            errors = per_row.into_iter().fold(errors, Errors::add);
        }
        first = range.end;
    }
    layer.check(&seen)?;
    Ok(original.map(|_| errors))
}

/// The errors of one row: of the base alone, and after `add` of base and residual.
fn row_errors(weights: &[f32], rebuilt: &mut [f32], add: impl Fn(&mut [f32])) -> Errors {
    let mut errors = Errors { weights: sum_of_squares(weights), ..Errors::default() };
    let difference = |rebuilt: &[f32]| {
        let (mut sum, mut largest) = (0.0, 0.0f64);
        for (w, r) in weights.iter().zip(rebuilt) {
            let error = f64::from(*w) - f64::from(*r);
            sum += error * error;
            largest = largest.max(error.abs());
        }
        (sum, largest)
    };
    errors.base = difference(rebuilt).0;
    add(rebuilt);
    (errors.both, errors.largest) = difference(rebuilt);
    errors
}

/// The tensor of the checkpoint that a layer was made from.
fn original<'a>(name: &str, meta: &MatrixMeta, file: &'a Checkpoint) -> Result<Rows<'a>, SplitError> {
    let (info, shape) = (file.expect_tensor(name)?, tensor_shape(meta));
    let same = (&*info.shape, info.dtype) == (shape, meta.dtype);
    Rows::of(file, info).filter(|_| same).ok_or_else(|| {
        let problem = format!("is {} {:?} there, {} {shape:?} here", info.dtype, info.shape, meta.dtype);
        SplitError::tensor(file.file_of(info), name, problem)
    })
}

fn check_dense(
    container: &Container,
    info: &TensorInfo,
    against: Option<&Checkpoint>,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<(), SplitError> {
    let Some(file) = against else { return Ok(()) };
    let error = |problem: &str| Err(SplitError::tensor(container.path(), &info.name, problem));
    let original = file.expect_tensor(&info.name)?;
    if (original.dtype, &original.shape) != (info.dtype, &info.shape) {
        return error("differs from the checkpoint in element type or shape");
    }
    let size = BLOCK.min(info.bytes as usize);
    let _held = budget.reserve(2 * size as u64, "buffers to compare tensors")?;
    let (mut ours, mut theirs) = (vec![0; size], vec![0; size]);
    let mut done = 0;
    while done < info.bytes {
        check_stop(progress)?;
        let length = (info.bytes - done).min(BLOCK as u64) as usize;
        container.file().read_at(info, done, &mut ours[..length])?;
        file.read_at(original, done, &mut theirs[..length])?;
        if ours[..length] != theirs[..length] {
            return error("differs from the checkpoint, although it passed through");
        }
        done += length as u64;
    }
    Ok(())
}
