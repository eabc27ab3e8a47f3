//! A few samples.

use nalgebra::DMatrixView;

use super::Floats;
use super::floats::extend_f64;
use crate::{CompensateError, Result};

/// Which of the two models a feature comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The model before the task.
    Before,
    /// The model after the task.
    After,
}

/// Samples in memory: features before, maybe features after, maybe labels.
///
/// Features are there as f32. Where a source has them as f64, the block has both: what computes in f64 takes
/// [`floats`](Self::floats).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FeatureBlock {
    dim: usize,
    rows: usize,
    before: Numbers,
    after: Numbers,
    labels: Vec<u32>,
}

/// Features of one side.
#[derive(Debug, Clone, Default, PartialEq)]
struct Numbers {
    single: Vec<f32>,
    /// The same before they were rounded; empty if that changes none of them.
    double: Vec<f64>,
}

impl Numbers {
    fn extend(&mut self, values: Floats<'_>) {
        match values {
            Floats::F32(values) if self.double.is_empty() => self.single.extend_from_slice(values),
            _ => {
                if self.double.is_empty() {
                    extend_f64(&mut self.double, Floats::F32(&self.single));
                }
                extend_f64(&mut self.double, values);
                match values {
                    Floats::F32(values) => self.single.extend_from_slice(values),
                    Floats::F64(values) => self.single.extend(values.iter().map(|&value| value as f32)),
                }
            }
        }
    }

    fn floats(&self) -> Floats<'_> {
        if self.double.is_empty() { Floats::F32(&self.single) } else { Floats::F64(&self.double) }
    }

    fn clear(&mut self) {
        self.single.clear();
        self.double.clear();
    }
}

impl FeatureBlock {
    /// No samples yet, of dimension `dim`.
    pub fn new(dim: usize) -> Self {
        Self { dim, ..Self::default() }
    }

    /// Number of samples.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The feature dimension d.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Whether there are features after the task.
    pub fn has_after(&self) -> bool {
        self.after.single.len() == self.rows * self.dim && self.rows > 0
    }

    /// Features before the task, or the only ones: row-major `[n, d]`, rounded to f32. A number that is too large for f32
    /// is infinite here.
    pub fn before(&self) -> &[f32] {
        &self.before.single
    }

    /// Features after the task, row-major `[n, d]`, rounded to f32 as [`before`](Self::before).
    ///
    /// # Errors
    /// When the source has none.
    pub fn after(&self) -> Result<&[f32]> {
        if self.has_after() {
            Ok(&self.after.single)
        } else {
            Err(CompensateError::Missing("features after the task"))
        }
    }

    /// The features of one side, row-major `[n, d]`, as precise as the source has them.
    ///
    /// # Errors
    /// When the source has none.
    pub fn floats(&self, side: Side) -> Result<Floats<'_>> {
        match side {
            Side::Before => Ok(self.before.floats()),
            Side::After => self.after().map(|_| self.after.floats()),
        }
    }

    /// Features before the task as columns `[d, n]`.
    pub(crate) fn columns_before(&self) -> DMatrixView<'_, f32> {
        DMatrixView::from_slice(self.before(), self.dim, self.rows)
    }

    /// Features after the task as columns `[d, n]`.
    pub(crate) fn columns_after(&self) -> Result<DMatrixView<'_, f32>> {
        Ok(DMatrixView::from_slice(self.after()?, self.dim, self.rows))
    }

    /// A label for each sample.
    ///
    /// # Errors
    /// When the source has none.
    pub fn labels(&self) -> Result<&[u32]> {
        if self.labels.len() == self.rows {
            Ok(&self.labels)
        } else {
            Err(CompensateError::Missing("labels"))
        }
    }

    /// Removes all samples, keeps the memory.
    pub fn clear(&mut self) {
        self.rows = 0;
        self.before.clear();
        self.after.clear();
        self.labels.clear();
    }

    /// Appends samples: features row-major `[n, d]` before the task, maybe after it, and maybe n labels. All samples of
    /// a block have features after the task or none has, and the same holds for labels.
    ///
    /// # Errors
    /// When lengths do not fit each other or the block.
    pub fn push(&mut self, before: &[f32], after: Option<&[f32]>, labels: Option<&[u32]>) -> Result<()> {
        self.push_floats(Floats::F32(before), after.map(Floats::F32), labels)
    }

    /// As [`push`](Self::push), for features of either precision.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_floats(
        &mut self,
        before: Floats<'_>,
        after: Option<Floats<'_>>,
        labels: Option<&[u32]>,
    ) -> Result<()> {
        let rows = before.samples(self.dim)?;
        let fits = |what: &str, found: usize, had: usize, width: usize| {
            if (found == rows * width || found == 0) && (self.rows == 0 || (had == 0) == (found == 0)) {
                return Ok(());
            }
            let (found, expected) = ((found / width.max(1)) as u64, rows as u64);
            Err(CompensateError::Rows { what: what.into(), found, expected })
        };
        let (after, labels) = (after.unwrap_or(Floats::F32(&[])), labels.unwrap_or_default());
        if rows + after.len() + labels.len() == 0 {
            return Ok(());
        }
        fits("features after the task", after.len(), self.after.single.len(), self.dim)?;
        fits("labels", labels.len(), self.labels.len(), 1)?;
        self.before.extend(before);
        self.after.extend(after);
        self.labels.extend_from_slice(labels);
        self.rows += rows;
        Ok(())
    }

    /// Appends the features of another block, without labels.
    pub(crate) fn push_unlabelled(&mut self, other: &Self) -> Result<()> {
        self.push_floats(other.before.floats(), other.has_after().then_some(other.after.floats()), None)
    }

    /// Appends samples `first..first + count` of another block.
    pub(crate) fn push_from(&mut self, other: &Self, first: usize, count: usize) -> Result<()> {
        let dim = self.dim;
        let range = first * dim..(first + count) * dim;
        let before = other.before.floats().slice(range.clone());
        let after = other.has_after().then(|| other.after.floats().slice(range));
        self.push_floats(before, after, other.labels.get(first..first + count))
    }
}
