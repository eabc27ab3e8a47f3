//! Pairs of features for the methods, which compute in f32.

use nalgebra::DMatrixView;
use residua_memory::Budget;

use super::{AFTER, BEFORE, BLOCK, FeatureSource, Floats, Side, block_bytes, for_each_block};
use crate::{CompensateError, Result};

/// The largest share of a column's variance that rounding may cost.
const MOST: f64 = 1e-4;

/// Calls `f` with all pairs of a source, features before and after the task as columns `[d, n]`, in blocks of
/// [`BLOCK`]. Features that are f64 are rounded to f32.
///
/// # Errors
/// As [`for_each_block`]; also when the source has no features after the task, a number is too large for f32, or f32
/// cannot tell the values of a column apart. The last error comes after all calls of `f`.
pub(crate) fn for_each_pair(
    source: &mut dyn FeatureSource,
    budget: &Budget,
    mut f: impl FnMut(DMatrixView<'_, f32>, DMatrixView<'_, f32>) -> Result<()>,
) -> Result<()> {
    let mut rounding =
        [BEFORE, AFTER].map(|what| Rounding { what: format!("{}: {what}", source.name()), columns: vec![] });
    let (dim, mut first) = (source.dim(), 0);
    for_each_block(source, BLOCK, budget, |block| {
        let (before, after) = (block.columns_before(), block.columns_after()?);
        for (rounding, side) in rounding.iter_mut().zip([Side::Before, Side::After]) {
            rounding.add(block.floats(side)?, dim, first)?;
        }
        first += block.rows() as u64;
        f(before, after)
    })?;
    rounding.iter().try_for_each(Rounding::check)
}

/// Bytes that [`for_each_pair`] takes of a budget.
pub(crate) fn pair_bytes(source: &dyn FeatureSource) -> u64 {
    block_bytes(BLOCK, source.dim(), source.is_double())
}

/// What rounding to f32 costs each column of f64 features.
struct Rounding {
    /// The features, for errors.
    what: String,
    /// By column; empty while features are f32.
    columns: Vec<Column>,
}

#[derive(Clone, Copy)]
struct Column {
    /// The first value: the others are close to it, compared with their distance from 0.
    origin: f64,
    count: f64,
    sum: f64,
    squares: f64,
    /// Of what rounding changed.
    lost: f64,
}

impl Rounding {
    fn add(&mut self, features: Floats<'_>, dim: usize, first: u64) -> Result<()> {
        let Floats::F64(features) = features else { return Ok(()) };
        if self.columns.is_empty() {
            let column = |&origin: &f64| Column { origin, count: 0.0, sum: 0.0, squares: 0.0, lost: 0.0 };
            self.columns = features.iter().take(dim).map(column).collect();
        }
        for (row, sample) in features.chunks_exact(dim.max(1)).enumerate() {
            for (at, (column, &value)) in self.columns.iter_mut().zip(sample).enumerate() {
                let rounded = f64::from(value as f32);
                if rounded.is_infinite() {
                    let row = first + row as u64;
                    return Err(
                        self.error(&format!("row {row}, column {at}: {value:e} is too large for f32"))
                    );
                }
                let off = value - column.origin;
                column.count += 1.0;
                column.sum += off;
                column.squares += off * off;
                column.lost += (value - rounded).powi(2);
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        // A constant stays a constant.
        let lossy = |column: &Column| {
            let scatter = column.squares - column.sum * (column.sum / column.count);
            scatter > 0.0 && column.lost > MOST * scatter
        };
        let Some(at) = self.columns.iter().position(lossy) else { return Ok(()) };
        let problem = format!(
            "column {at}: its values near {:e} differ by less than f32 can hold; subtract a constant from the column, \
             or scale it",
            self.columns[at].origin
        );
        Err(self.error(&problem))
    }

    fn error(&self, problem: &str) -> CompensateError {
        CompensateError::Statistics { problem: format!("{}: {problem}; methods compute in f32", self.what) }
    }
}
