//! Split file in, dense checkpoint out.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use residua_format::file::{
    Checkpoint, Container, Dtype, FileError, MatrixMeta, SafetensorsWriter, TensorInfo, check_output,
};
use residua_memory::{AlignedVec, Budget};

use crate::file::{ORIGINAL_METADATA, SplitFile};
use crate::layer_reader::{LayerReader, Seen};
use crate::passed::{BLOCK, copy};
use crate::progress::check_stop;
use crate::report::reserve_report;
use crate::rows::tensor_shape;
use crate::{
    MaterializeOptions, MaterializeReport, MaterializedTensor, Output, PassedTensor, Progress, SplitError,
};

/// Bytes of the buffer of the output, and of the buffer through which tensors are copied.
const BUFFERS: u64 = (256 << 10) + BLOCK as u64;

/// Writes the dense checkpoint of a split file: `base + alpha · residual` for every layer.
///
/// The output is one safetensors file with the original element types and metadata. Tensors that passed through the
/// split are copied. At alpha 0 every layer is its base, bit for bit. The output is replaced only when the job
/// succeeds.
///
/// # Errors
/// When alpha is not finite, the output is one of the inputs, a file cannot be read or written, the base checkpoint is
/// missing or not the one that the file was made from, a result overflows its element type, the budget is too small,
/// or the caller stops the job.
pub fn materialize(
    file: impl AsRef<Path>,
    output: Output<impl AsRef<Path>>,
    options: &MaterializeOptions,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<MaterializeReport, SplitError> {
    run(file.as_ref(), output.0.as_ref(), options, budget, progress)
}

fn run(
    file: &Path,
    output: &Path,
    options: &MaterializeOptions,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<MaterializeReport, SplitError> {
    let alpha = options.alpha;
    if !alpha.is_finite() {
        return Err(SplitError::Usage(format!("alpha {alpha} is not a finite number")));
    }
    let file = SplitFile::open_at(file, &options.base, budget)?;
    let container = file.container();
    check_output(
        output,
        [file.path()].into_iter().chain(options.base.named()).chain(file.base().map(Checkpoint::path)),
    )?;
    let _buffers = budget.reserve(BUFFERS, "output buffers")?;
    // The list of tensors, and the report.
    let _lists = reserve_report::<(Tensor<'_>, MaterializedTensor)>(
        file.layers().chain(container.dense().map(|info| &*info.name)),
        budget,
    )?;
    let mut tensors = Vec::new();
    for name in file.layers() {
        let layer = LayerReader::new(file.layer(name)?)?;
        layer.require(other_bytes(&layer) + layer.row_bytes() as u64, budget)?;
        tensors.push(Tensor::Split(layer));
    }
    tensors.extend(container.dense().map(Tensor::Dense));
    // Widest elements first, so that every element is aligned.
    let key = |tensor: &Tensor<'_>| Reverse(tensor.dtype().bitsize());
    tensors.sort_unstable_by(|a, b| (key(a), a.name()).cmp(&(key(b), b.name())));

    let header = tensors.iter().map(|tensor| SafetensorsWriter::header_bytes(tensor.name(), 4)).sum::<u64>();
    let json = container.metadata(ORIGINAL_METADATA).unwrap_or_default();
    // The longest text while it is parsed, and an allocation for each key and value.
    let texts = 2 * json.matches("\",\"").count() + 2;
    let _metadata = budget.reserve_table((json.len() + 64 * texts) as u64, "the checkpoint's metadata")?;
    let metadata = original_metadata(container)?;
    let metadata_bytes: u64 =
        metadata.iter().map(|(key, value)| SafetensorsWriter::metadata_bytes(key, value)).sum();
    let header = header + metadata_bytes + 1024;
    let _header = budget.reserve_table(SafetensorsWriter::memory(header), "the header of the output")?;
    let mut writer = SafetensorsWriter::create(output, header)?;
    metadata.into_iter().for_each(|(key, value)| writer.metadata(key, value));

    progress.begin("materializing", tensors.iter().map(Tensor::bytes).sum());
    let mut report = MaterializeReport { alpha, ..MaterializeReport::default() };
    for tensor in &tensors {
        progress.tensor(tensor.name());
        match tensor {
            Tensor::Split(layer) => {
                write_layer(layer, alpha, &mut writer, budget, progress)?;
                let MatrixMeta { shape, dtype, nnz, .. } = *layer.meta();
                let (name, dtype) = (layer.name().to_owned(), dtype.to_string());
                report.tensors.push(MaterializedTensor { name, shape, dtype, nnz });
            }
            Tensor::Dense(info) => {
                writer.begin(&info.name, info.dtype, &info.shape)?;
                copy(container.file(), info, progress, |bytes| writer.write(bytes))?;
                writer.end()?;
                report.passed.push(PassedTensor::of(info));
            }
        }
    }
    check_stop(progress)?;
    report.output_bytes = writer.finish()?;
    progress.end();
    Ok(report)
}

/// The metadata of the checkpoint that was split.
pub(crate) fn original_metadata(container: &Container) -> Result<BTreeMap<String, String>, SplitError> {
    let Some(json) = container.metadata(ORIGINAL_METADATA) else { return Ok(BTreeMap::new()) };
    serde_json::from_str(json).map_err(|error| {
        FileError::malformed(container.path(), format!("metadata {ORIGINAL_METADATA:?}: {error}")).into()
    })
}

/// A tensor of the output.
enum Tensor<'a> {
    Split(LayerReader<'a>),
    Dense(&'a TensorInfo),
}

impl Tensor<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Split(layer) => layer.name(),
            Self::Dense(info) => &info.name,
        }
    }

    fn dtype(&self) -> Dtype {
        match self {
            Self::Split(layer) => layer.meta().dtype,
            Self::Dense(info) => info.dtype,
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Split(layer) => layer.rows() as u64 * layer.row_bytes() as u64,
            Self::Dense(info) => info.bytes,
        }
    }
}

/// Bytes that a layer takes beside the rows that are read: one row of f32 per thread.
fn other_bytes(layer: &LayerReader<'_>) -> u64 {
    4 * layer.cols() as u64 * rayon::current_num_threads() as u64
}

fn write_layer(
    layer: &LayerReader<'_>,
    alpha: f32,
    writer: &mut SafetensorsWriter,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<(), SplitError> {
    let (cols, row_bytes) = (layer.cols(), layer.row_bytes());
    layer.check_planes(alpha != 0.0, budget, progress)?;
    let _scratch = budget.reserve(other_bytes(layer), "a row for each thread")?;
    let mut seen = Seen::default();
    writer.begin(layer.name(), layer.meta().dtype, tensor_shape(layer.meta()))?;
    let mut first = 0;
    while first < layer.rows() {
        check_stop(progress)?;
        let range = layer.next_rows(first, row_bytes as u64, budget)?;
        let _held = budget.reserve((range.len() * row_bytes) as u64, "rows of the output")?;
        let rows = layer.read(range.clone(), alpha != 0.0, budget)?;
        seen.add(&rows);
        let mut out = AlignedVec::<u8>::zeroed(range.len() * row_bytes);
        let misfit = out
            .par_chunks_exact_mut(row_bytes)
            .enumerate()
            .map_init(
                || vec![0.0; cols],
                |weights, (row, out)| rows.rebuild(row, alpha, layer.float(), weights, out),
            )
            .find_first(Option::is_some);
        if let Some((row, col, value)) = misfit.flatten() {
            return Err(layer.misfit((range.start + row, col, value)));
        }
        writer.write(&out)?;
        progress.advance(out.len() as u64);
        first = range.end;
    }
    layer.check(&seen)?;
    Ok(writer.end()?)
}
