//! Activations in, a calibration file out.
//!
//! | module | what |
//! |---|---|
//! | `activations` | arrays in files, read by rows |
//! | `plan` | which arrays belong to which tensors, and the blocks of second moments |
//! | `sums` | sums of squares and of products |

mod activations;
mod plan;
mod sums;

use std::path::{Path, PathBuf};

use residua_format::file::{Dtype, SafetensorsWriter, check_output};
use residua_memory::{Budget, BudgetError};
use serde::Serialize;

pub use self::activations::{ActivationsAt, LayerInputs};
use self::plan::Group;
use self::sums::{Moments, Squares};
use crate::report::reserve_report;
use crate::{Output, Progress, SplitError};

/// Rows that are read and added at a time. The number is fixed, so that the budget changes no bit of the result.
const ROWS: usize = 128;
/// The buffer of the output, and slack.
const OUTPUT: u64 = 1 << 20;

/// What a calibration file says about a layer's inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Statistic {
    /// The mean square of each feature.
    #[default]
    MeanSquares,
    /// Second moments, in diagonal blocks.
    SecondMoments {
        /// Features of a block: a multiple of 128, or at least the number of features. `None` takes the largest
        /// blocks that [`calibrate`] and [`split`](crate::split()) can both hold in this budget.
        block: Option<usize>,
    },
}

/// Options of [`calibrate`]. The default: mean squares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CalibrateOptions {
    /// What the file says about a layer's inputs.
    pub statistic: Statistic,
}

impl CalibrateOptions {
    /// Sets what the file says about a layer's inputs.
    pub fn statistic(mut self, statistic: Statistic) -> Self {
        self.statistic = statistic;
        self
    }
}

/// A tensor whose inputs were measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CalibratedTensor {
    /// Its name.
    pub name: String,
    /// Features of its inputs.
    pub features: usize,
    /// Inputs that were read.
    pub rows: u64,
    /// Features of a block of second moments; `None` for mean squares.
    pub block: Option<usize>,
}

/// What [`calibrate`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct CalibrateReport {
    /// The tensors, in the order of the file.
    pub tensors: Vec<CalibratedTensor>,
    /// Bytes of the file.
    pub output_bytes: u64,
}

/// Measures mean squares or second moments of the inputs of layers, from stored activations, for
/// [`Importance::Calibration`](crate::Importance::Calibration).
///
/// Several entries of one tensor count as one array after the other. Tensors with the same arrays share the work. Sums
/// are f64. The file depends on the activations and on the size of the blocks alone, not on the number of threads.
///
/// # Errors
/// When the output is one of the inputs, an array is missing or malformed, has another width than an array of the same
/// tensor before it or too few rows, holds a number that is not finite or features that make no moments, a block has a
/// size that `split` does not read, the budget is too small, or the caller stops the job.
///
/// # Example
/// ```
/// # use residua_format::file::{Dense, write_npy};
/// # let dir = tempfile::tempdir()?;
/// # let (inputs, file) = (dir.path().join("inputs.npy"), dir.path().join("calibration.safetensors"));
/// # write_npy(&inputs, &Dense::new(vec![32, 4], (0..128).map(|i| (i % 7) as f32 - 3.0).collect())?)?;
/// use residua_memory::Budget;
/// use residua_split::{ActivationsAt, LayerInputs, NoProgress, Output, calibrate};
///
/// // Inputs `[rows, in_features]` of the layer.
/// let layer = LayerInputs::new("layer.weight", ActivationsAt::Npy(inputs));
/// let report = calibrate(&[layer], Output(&file), &Default::default(), &Budget::new(64 << 20), &NoProgress)?;
/// assert_eq!((report.tensors[0].features, report.tensors[0].rows), (4, 32));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn calibrate(
    layers: &[LayerInputs],
    output: Output<impl AsRef<Path>>,
    options: &CalibrateOptions,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<CalibrateReport, SplitError> {
    run(layers, output.0.as_ref(), options, budget, progress)
}

fn run(
    layers: &[LayerInputs],
    output: &Path,
    options: &CalibrateOptions,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<CalibrateReport, SplitError> {
    let files: Vec<PathBuf> = layers.iter().map(|layer| layer.activations.path().to_owned()).collect();
    check_output(output, files.iter().map(PathBuf::as_path))?;
    if layers.is_empty() {
        return Err(SplitError::Usage("no activations are named".into()));
    }
    let names = || layers.iter().map(|layer| &*layer.tensor);
    let _report = reserve_report::<(CalibratedTensor, Group<'_>)>(names(), budget)?;
    let header = names().map(|name| SafetensorsWriter::header_bytes(name, 3)).sum::<u64>() + 1024;
    let _header = budget.reserve_table(SafetensorsWriter::memory(header), "the header of the output")?;
    let groups = plan::groups(layers, options.statistic, budget)?;
    let need = groups.iter().map(minimum).max().unwrap_or(0);
    budget.require(need, "calibrating the widest layer")?;

    let mut writer = SafetensorsWriter::create(output, header)?;
    let mut report = CalibrateReport::default();
    let bytes = |group: &Group<'_>| 8 * group.rows * group.width as u64 * passes(group, budget) as u64;
    progress.begin("calibrating", groups.iter().map(bytes).sum());
    for group in &groups {
        let shared = group.names.first().map_or("", |name| name);
        progress.tensor(shared);
        match group.block {
            None => squares(group, &mut writer, budget, progress)?,
            Some(block) => moments(group, block, &mut writer, budget, progress)?,
        }
        report.tensors.extend(group.names.iter().map(|name| CalibratedTensor {
            name: (*name).to_owned(),
            features: group.width,
            rows: group.rows,
            block: group.block,
        }));
    }
    report.output_bytes = writer.finish()?;
    progress.end();
    Ok(report)
}

/// Bytes beside the sums.
fn fixed(group: &Group<'_>) -> u64 {
    // A block of rows, and a row of the output.
    (8 * ROWS as u64 + 4).saturating_mul(group.width as u64).saturating_add(OUTPUT)
}

/// Bytes of the sums of one block.
fn sums(group: &Group<'_>) -> u64 {
    let width = group.width as u64;
    8u64.saturating_mul(group.block.map_or(width, |block| (block as u64).saturating_mul(block as u64)))
}

fn minimum(group: &Group<'_>) -> u64 {
    fixed(group).saturating_add(sums(group))
}

/// Diagonal blocks that fit in the budget together.
fn blocks_held(group: &Group<'_>, budget: &Budget) -> usize {
    let room = budget.available().saturating_sub(fixed(group)) / sums(group).max(1);
    (room as usize).clamp(1, group.blocks())
}

/// How often the activations are read.
fn passes(group: &Group<'_>, budget: &Budget) -> usize {
    match group.blocks().div_ceil(blocks_held(group, budget)) {
        1 => 1,
        // Every name again, because the sums are gone.
        passes => passes * group.names.len(),
    }
}

fn squares(
    group: &Group<'_>,
    writer: &mut SafetensorsWriter,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<(), SplitError> {
    let _held = reserve(group, 1, budget)?;
    let mut squares = Squares::new(group.width);
    group.for_each(budget, progress, |rows| squares.add(rows))?;
    let means = squares.finish(group)?;
    for name in &group.names {
        writer.tensor(name, Dtype::F32, &[group.width], bytemuck::cast_slice(&means))?;
    }
    Ok(())
}

fn moments(
    group: &Group<'_>,
    block: usize,
    writer: &mut SafetensorsWriter,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<(), SplitError> {
    let (held, blocks) = (blocks_held(group, budget), group.blocks());
    let _held = reserve(group, held, budget)?;
    let mut moments = Moments::new(group.width, block, held);
    let mut done = None;
    for name in &group.names {
        writer.begin(name, Dtype::F32, &[blocks, block, block])?;
        for first in (0..blocks).step_by(held) {
            if done != Some(first) {
                moments.start(first);
                group.for_each(budget, progress, |rows| moments.add(rows))?;
                moments.check(group)?;
                done = Some(first);
            }
            moments.write(group.rows, |bytes| writer.write(bytes))?;
        }
        writer.end()?;
    }
    Ok(())
}

fn reserve(
    group: &Group<'_>,
    blocks: usize,
    budget: &Budget,
) -> Result<residua_memory::Reservation, BudgetError> {
    let bytes = fixed(group) + blocks as u64 * sums(group);
    budget.reserve(bytes, &format!("the inputs of {}", group.names.first().map_or("", |name| name)))
}
