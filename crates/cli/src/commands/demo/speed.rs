//! Timing the layers: dense weights against the residual, and against base and residual together.

use std::path::Path;
use std::time::{Duration, Instant};

use residua::backend::{AnyVector, Shaped, VectorShape};
use residua::format::file::Checkpoint;
use residua::{Device, SplitFile};
use serde::Serialize;

use super::dense;
use crate::commands::bench::median;
use crate::dense_rows::read_rows;
use crate::failure::Result;

/// Duration of the repetitions of each batch size.
const SPAN: Duration = Duration::from_millis(500);

/// Seconds for all layers in turn, medians.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Speed {
    /// Columns of the dense operand.
    pub(super) batch: usize,
    /// Dense f32 weights.
    pub(super) dense: f64,
    /// The residual alone.
    pub(super) residual: f64,
    /// The whole layer from base and residual.
    pub(super) layer: f64,
    /// Largest difference of the sparse product from a dense product with the same residual, relative to the
    /// largest result.
    pub(super) difference: f64,
}

struct Layer {
    layer: residua::Layer,
    weights: Vec<f32>,
    /// The residual, dense.
    expanded: Vec<f32>,
}

/// One layer's input and result, for the dense product and for the backend's.
struct Operands {
    dense_x: Vec<f32>,
    dense_y: Vec<f32>,
    x: AnyVector,
    y: AnyVector,
}

/// Loads every layer of the split file at `path` and times it; `weights` has the dense ones.
pub(super) fn measure(
    path: &Path,
    weights: &Checkpoint,
    device: &Device,
    batches: &[usize],
) -> Result<Vec<Speed>> {
    let (file, budget) = (SplitFile::open(path)?, device.budget());
    let places: usize = file.layers().map(|layer| layer.shape[0] * layer.shape[1]).sum();
    // Weights and residual, both f32.
    let _held = budget.reserve(8 * places as u64, "dense layers")?;
    let mut layers = Vec::new();
    for info in file.layers() {
        let ([rows, cols], name) = (info.shape, &*info.name);
        let mut dense = Vec::new();
        read_rows(weights, weights.expect_tensor(name)?, 0, rows, &mut dense)?;
        let gap = file.container().read_gap(name, budget)?;
        let mut expanded = vec![0.0; rows * cols];
        for row in 0..rows {
            for (column, value) in gap.row(row) {
                expanded[row * cols + column as usize] = value;
            }
        }
        layers.push(Layer { layer: file.layer(name, device)?, weights: dense, expanded });
    }
    batches.iter().map(|&batch| speed(&layers, batch)).collect()
}

fn speed(layers: &[Layer], batch: usize) -> Result<Speed> {
    let mut operands = Vec::new();
    for layer in layers {
        let ([rows, cols], backend) = (layer.shape(), layer.layer.device().backend());
        // A plain pattern between −1 and 1, of numbers that round.
        let x: Vec<f32> = (0..cols * batch).map(|i| (i * 29 % 61) as f32 / 30.0 - 1.0).collect();
        let (held, y) = (
            backend.upload_vector(&x, VectorShape { len: cols, batch })?,
            backend.zeros(VectorShape { len: rows, batch })?,
        );
        operands.push(Operands { dense_x: x, dense_y: vec![0.0; rows * batch], x: held, y });
    }
    let mut difference = 0.0f64;
    for (layer, Operands { dense_x, dense_y, x, y }) in layers.iter().zip(&mut operands) {
        dense::multiply(&layer.expanded, layer.shape(), dense_x, batch, dense_y);
        layer.residual_alone(x, y)?;
        difference = difference.max(distance(dense_y, &layer.layer.device().backend().download(y)?));
    }
    // The three take turns, so that a temporary slowdown of the machine affects all of them.
    let mut seconds = [const { Vec::new() }; 3];
    let start = Instant::now();
    while start.elapsed() < SPAN || seconds[0].len() < 3 {
        for (work, seconds) in WORK.iter().zip(&mut seconds) {
            let one = Instant::now();
            layers.iter().zip(&mut operands).try_for_each(|(layer, operands)| work(layer, operands))?;
            seconds.push(one.elapsed().as_secs_f64());
        }
    }
    let [dense, residual, layer] = seconds.map(|seconds| median(&seconds));
    Ok(Speed { batch, dense, residual, layer, difference })
}

impl Layer {
    fn shape(&self) -> [usize; 2] {
        [self.layer.out_features(), self.layer.in_features()]
    }

    fn residual_alone(&self, x: &AnyVector, y: &mut AnyVector) -> Result {
        Ok(self.layer.device().backend().spmm(1.0, self.layer.residual(), x, 0.0, y)?)
    }
}

/// Dense product, residual alone, whole layer.
const WORK: [fn(&Layer, &mut Operands) -> Result; 3] = [
    |layer, operands| {
        let batch = operands.y.shape()[1];
        dense::multiply(&layer.weights, layer.shape(), &operands.dense_x, batch, &mut operands.dense_y);
        Ok(())
    },
    |layer, Operands { x, y, .. }| layer.residual_alone(x, y),
    |layer, Operands { x, y, .. }| Ok(layer.layer.forward_on_device(1.0, x, y)?),
];

/// Largest difference over the largest magnitude.
fn distance(expected: &[f32], found: &[f32]) -> f64 {
    let most = expected.iter().fold(0.0f32, |most, y| most.max(y.abs()));
    let difference = expected.iter().zip(found).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    if most > 0.0 { f64::from(difference) / f64::from(most) } else { f64::from(difference) }
}
