//! Checkpoint in, split file out.
//!
//! | module | what |
//! |---|---|
//! | `allocate` | the kind of base and the density of each tensor, for a size |
//! | `inputs`, `choice` | which tensors are split, and from what |
//! | `room` | how the budget is divided among the buffers |
//! | `tensor` | the passes over one tensor |
//! | `levels` | the levels of a codebook, learned from a sample of rows |
//! | `source`, `residual` | what every pass reads: rows and their base, and the difference |
//! | `columns`, `score` | the first pass: mean squares of columns, and the scores that follow |
//! | `fit`, `sample` | the second pass: the scales of a quantised base |
//! | `moments`, `feedback` | second moments of inputs, and the errors that are fed back with them |
//! | `cut`, `histogram`, `sift` | the third pass: which scores are kept |
//! | `select`, `encode`, `emit`, `waiting_plane` | the last pass: rows to planes |

mod allocate;
mod choice;
mod columns;
mod cut;
mod emit;
mod encode;
mod feedback;
mod fit;
mod histogram;
mod inputs;
mod levels;
mod moments;
mod residual;
mod room;
mod sample;
mod score;
mod select;
mod sift;
mod source;
mod tensor;
mod waiting_plane;

use std::path::Path;

use residua_format::BaseKind;
use residua_format::file::{
    ContainerKind, ContainerWriter, MatrixMeta, Plane, SafetensorsWriter, TensorInfo, check_output,
};
use residua_memory::Budget;

use self::allocate::allocate;
use self::inputs::{Inputs, Job, extremes, partition};
pub(crate) use self::moments::{Calibration, UNIT, moments_bytes};
use self::room::Room;
use self::tensor::Splitter;
use crate::base_file::BASE_PATH;
use crate::file::ORIGINAL_METADATA;
use crate::passed::copy;
use crate::progress::check_stop;
use crate::report::reserve_report;
use crate::{
    BaseSpec, Output, PassReason, PassedTensor, PlaneBytes, Progress, Selection, SplitError, SplitOptions,
    SplitReport, TensorReport,
};

/// Splits the checkpoint at `input` into base and residual.
///
/// `input` is a safetensors file, the index of a sharded checkpoint, or its directory. The output is replaced only
/// when the job succeeds.
///
/// A tensor is split when it is a non-empty matrix of F32, F16 or BF16 and no pattern of the options rules it out.
/// Experts' matrices that are stacked in a tensor `[experts, rows, cols]` are split as one matrix `[experts · rows,
/// cols]`. Embeddings, output heads, norms, routers of experts and biases, known by their names, pass through unless a
/// pattern asks for them or the base is another checkpoint ([`SplitOptions::include`]). Every other tensor passes
/// through unchanged, too, and the report says why. When the base is another checkpoint, every tensor that is split
/// must be there with the same shape and element type.
///
/// The output does not depend on the budget or the number of threads.
///
/// # Errors
/// When the options contradict each other, the output is one of the inputs, a file cannot be read or written, a tensor
/// that is split holds NaN or infinity, a base or calibration tensor is missing or does not fit, the budget is too
/// small (before anything is read), or the caller stops the job.
///
/// # Example
/// ```
/// # use residua_format::file::{Dtype, SafetensorsWriter};
/// # let dir = tempfile::tempdir()?;
/// # let (model, file) = (dir.path().join("model.safetensors"), dir.path().join("split.safetensors"));
/// # let weights: Vec<u8> =
/// #     (0..64 * 256).flat_map(|i| ((i * 7919 % 513) as f32 / 256.0 - 1.0).to_le_bytes()).collect();
/// # let mut writer = SafetensorsWriter::create(&model, 256)?;
/// # writer.tensor("layer.weight", Dtype::F32, &[64, 256], &weights)?;
/// # writer.finish()?;
/// use residua_memory::Budget;
/// use residua_split::{NoProgress, Output, SplitFile, SplitOptions, split};
///
/// let budget = Budget::new(64 << 20);
/// let options = SplitOptions::default().density(0.05);
/// let report = split(&model, Output(&file), &options, &budget, &NoProgress)?;
/// assert_eq!(report.nnz(), 819); // 5 % of 64 · 256
///
/// let file = SplitFile::open(&file)?;
/// let residual = file.layer("layer.weight")?.read_residual(&budget)?;
/// assert_eq!(residual.nnz(), 819);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn split(
    input: impl AsRef<Path>,
    output: Output<impl AsRef<Path>>,
    options: &SplitOptions,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<SplitReport, SplitError> {
    let (input, output) = (input.as_ref(), output.0.as_ref());
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
    let inputs = Inputs::open(input, options, budget)?;
    let names = inputs.checkpoint.tensors().iter().map(|info| &*info.name);
    let jobs = (names.len() * size_of::<Job<'_>>()) as u64;
    let _jobs = budget.reserve_table(jobs, "the list of tensors")?;
    let (mut jobs, passed) = partition(&inputs, options)?;
    let names = jobs.iter().map(|job| &*job.rows.info.name);
    let _report = reserve_report::<(TensorReport, [PlaneBytes; 9])>(names, budget)?;
    let names = passed.iter().map(|(info, _)| &*info.name);
    let _passed = reserve_report::<PassedTensor>(names, budget)?;

    let file = &inputs.checkpoint;
    let texts = file.metadata().iter().map(|(key, value)| SafetensorsWriter::metadata_bytes(key, value));
    let _metadata = budget.reserve_table(texts.sum(), "the checkpoint's metadata")?;
    let metadata = serde_json::to_string(file.metadata()).unwrap_or_default();
    let header_bytes = header_bytes(&jobs, &passed, &metadata, options.hashes);
    let size = match options.selection {
        Selection::Bits(bits) => Some(bits * weights(&jobs) / 8.0),
        Selection::Size(bytes) => {
            let others = header_bytes + passed.iter().map(|(info, _)| info.bytes).sum::<u64>();
            // A plane ends with padding.
            let padding = jobs.len() * Plane::ALL.len() * 128;
            Some(bytes as f64 - others as f64 - padding as f64)
        }
        Selection::Density(_) | Selection::Threshold(_) => None,
    };
    if let Some(size) = size {
        allocate(&mut jobs, size, options, budget, progress)?;
    }
    let _header =
        budget.reserve_table(SafetensorsWriter::memory(header_bytes), "the header of the output")?;
    // Last, because it takes a share of what is left.
    let room = Room::take(budget, extremes(&jobs), kinds(&jobs, options), options.values)?;
    let mut writer = ContainerWriter::create(output, ContainerKind::Split, header_bytes)?;
    if options.hashes {
        writer.hash_planes();
    }
    if !file.metadata().is_empty() {
        writer.metadata(ORIGINAL_METADATA, metadata);
    }
    if let BaseSpec::Checkpoint(path) = &options.base {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        writer.metadata(BASE_PATH, path.to_string_lossy());
    }

    progress.begin("splitting", file.bytes());
    let mut report = SplitReport { input_bytes: file.bytes(), ..SplitReport::default() };
    let mut splitter = Splitter::new(options, room, writer, progress)?;
    for job in &jobs {
        progress.tensor(&job.rows.info.name);
        report.tensors.push(splitter.split(job)?);
    }
    let mut writer = splitter.into_writer();
    for (info, reason) in passed {
        progress.tensor(&info.name);
        writer.begin_dense(&info.name, info.dtype, &info.shape)?;
        copy(file, info, progress, |bytes| writer.write(bytes))?;
        writer.end_dense()?;
        report.passed.push(PassedTensor { reason: Some(reason), ..PassedTensor::of(info) });
    }
    check_stop(progress)?;
    report.output_bytes = writer.finish()?;
    progress.end();
    Ok(report)
}

/// Weights of the tensors that are split.
fn weights(jobs: &[Job<'_>]) -> f64 {
    jobs.iter().map(|job| job.rows.info.elements() as f64).sum()
}

/// The kinds of bases; none if the base is another checkpoint.
fn kinds(jobs: &[Job<'_>], options: &SplitOptions) -> Vec<BaseKind> {
    let mut kinds: Vec<BaseKind> = Vec::new();
    for kind in jobs.iter().filter_map(|job| job.kind) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    // Without a tensor to split, buffers are still made.
    if let (BaseSpec::Quantized(kind), []) = (&options.base, &*kinds) {
        kinds.push(*kind);
    }
    kinds
}

/// An estimate of the header's length, rather too long than too short.
fn header_bytes(jobs: &[Job<'_>], passed: &[(&TensorInfo, PassReason)], metadata: &str, hashes: bool) -> u64 {
    let jobs = jobs.iter().map(|Job { rows, base, .. }| {
        let mut meta = MatrixMeta::new([rows.rows, rows.cols], rows.info.dtype);
        // The most planes that a matrix can have: modes, value scales and a base.
        meta.row_modes = true;
        meta.values = Some(residua_format::ValueType::I8);
        meta.base = Some(BaseKind::Lut4G16);
        meta.tensor_shape = (rows.info.shape.len() != 2).then(|| rows.info.shape.clone());
        meta.base_hash = base.map(|_| " ".repeat(64));
        if hashes {
            meta.hashes = Plane::ALL.map(|plane| (plane.suffix().to_owned(), " ".repeat(64))).into();
        }
        ContainerWriter::matrix_header_bytes(&rows.info.name, &meta)
    });
    let passed = passed.iter().map(|(info, _)| SafetensorsWriter::header_bytes(&info.name, info.shape.len()));
    let metadata = SafetensorsWriter::metadata_bytes(ORIGINAL_METADATA, metadata);
    jobs.chain(passed).sum::<u64>() + metadata + (8 << 10)
}
