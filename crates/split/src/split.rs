//! Checkpoint in, base and residual out.

use std::path::Path;

use residua_format::file::{
    Checkpoint, ContainerWriter, Kind, MatrixMeta, SafetensorsWriter, TensorInfo, check_output,
};
use residua_memory::Budget;

use crate::file::BASE_PATH;
use crate::job::{Inputs, Job, extremes, sort};
use crate::progress::check_stop;
use crate::room::Room;
use crate::tensor::Splitter;
use crate::{BaseSpec, PassedTensor, Progress, SplitError, SplitOptions, SplitReport};

/// Metadata key for the input's own metadata, as JSON.
pub(crate) const ORIGINAL_METADATA: &str = "original_metadata";
/// Bytes copied at a time.
pub(crate) const COPY: usize = 256 << 10;

/// Splits the checkpoint at `input` (a safetensors file, a sharded checkpoint's index, or its directory) into
/// base and residual and writes both to `output`, which is replaced only when all went well.
///
/// Matrices of F32, F16 or BF16 that have an element and that no pattern of the options rules out are split;
/// every other tensor passes through. With another checkpoint as base, every tensor that is split must be
/// there with the same shape and dtype.
///
/// The file does not depend on the budget or the number of threads.
///
/// # Errors
/// When the options make no sense, a file cannot be read or written, a tensor that is split holds NaN or
/// infinity, a base or calibration tensor is missing or does not fit, or the budget is too small (before
/// anything is read).
pub fn split(
    input: &Path,
    output: &Path,
    options: &SplitOptions,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<SplitReport, SplitError> {
    // From inside the pool a parallel step costs nothing when there is one thread, and little when there are more.
    rayon::scope(|_| run(input, output, options, budget, progress))
}

fn run(
    input: &Path,
    output: &Path,
    options: &SplitOptions,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<SplitReport, SplitError> {
    let others = options.base.checkpoint().into_iter().chain(options.importance.file());
    check_output(output, [input].into_iter().chain(others))?;
    let inputs = Inputs::open(input, options)?;
    let (jobs, passed) = sort(&inputs, options)?;
    let kind = match options.base {
        BaseSpec::Quantized(kind) => Some(kind),
        BaseSpec::Checkpoint(_) => None,
    };
    let room = Room::take(budget, extremes(&jobs), kind, options.values)?;

    let file = &inputs.checkpoint;
    let metadata = serde_json::to_string(file.metadata()).unwrap_or_default();
    let mut writer = ContainerWriter::create(output, Kind::Split, header_bytes(&jobs, &passed, &metadata))?;
    if !file.metadata().is_empty() {
        writer.metadata(ORIGINAL_METADATA, metadata);
    }
    if let BaseSpec::Checkpoint(path) = &options.base {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        writer.metadata(BASE_PATH, path.to_string_lossy());
    }

    progress.begin("splitting", file.bytes());
    let mut report = SplitReport { input_bytes: file.bytes(), ..SplitReport::default() };
    let mut splitter = Splitter::new(options, kind, room, writer, progress)?;
    for job in &jobs {
        progress.tensor(&job.rows.info.name);
        report.tensors.push(splitter.split(job)?);
    }
    let mut writer = splitter.into_writer();
    for info in passed {
        progress.tensor(&info.name);
        writer.begin_dense(&info.name, info.dtype, &info.shape)?;
        copy(file, info, progress, |bytes| writer.write(bytes))?;
        writer.end_dense()?;
        report.passed.push(PassedTensor::of(info));
    }
    check_stop(progress)?;
    report.output_bytes = writer.finish()?;
    progress.end();
    Ok(report)
}

/// Hands a tensor's bytes on, piece by piece.
pub(crate) fn copy<E>(
    file: &Checkpoint,
    info: &TensorInfo,
    progress: &dyn Progress,
    mut write: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), SplitError>
where
    SplitError: From<E>,
{
    let mut buffer = vec![0; COPY.min(info.bytes as usize)];
    let mut done = 0;
    while done < info.bytes {
        check_stop(progress)?;
        let piece = &mut buffer[..(info.bytes - done).min(COPY as u64) as usize];
        file.read_at(info, done, piece)?;
        write(piece)?;
        done += piece.len() as u64;
        progress.advance(piece.len() as u64);
    }
    Ok(())
}

fn header_bytes(jobs: &[Job<'_>], passed: &[&TensorInfo], metadata: &str) -> u64 {
    let jobs = jobs.iter().map(|Job { rows, base, .. }| {
        let mut meta = MatrixMeta::new([rows.rows, rows.cols], rows.info.dtype);
        // The most planes that it may have: with modes, value scales and a base.
        meta.row_modes = true;
        meta.values = Some(residua_format::ValueType::I8);
        meta.base = Some(residua_format::BaseKind::Int4G128);
        meta.base_hash = base.map(|_| " ".repeat(64));
        ContainerWriter::matrix_header_bytes(&rows.info.name, &meta)
    });
    let passed = passed.iter().map(|info| SafetensorsWriter::header_bytes(&info.name, info.shape.len()));
    let metadata = SafetensorsWriter::metadata_bytes(ORIGINAL_METADATA, metadata);
    jobs.chain(passed).sum::<u64>() + metadata + (8 << 10)
}
