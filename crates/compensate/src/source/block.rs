//! A few samples.

use nalgebra::DMatrixView;

use super::samples;
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
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FeatureBlock {
    dim: usize,
    rows: usize,
    before: Vec<f32>,
    after: Vec<f32>,
    labels: Vec<u32>,
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
        self.after.len() == self.rows * self.dim && self.rows > 0
    }

    /// Features before the task, or the only ones: row-major `[n, d]`.
    pub fn before(&self) -> &[f32] {
        &self.before
    }

    /// Features after the task, row-major `[n, d]`.
    ///
    /// # Errors
    /// When the source has none.
    pub fn after(&self) -> Result<&[f32]> {
        if self.has_after() {
            Ok(&self.after)
        } else {
            Err(CompensateError::Missing("features after the task"))
        }
    }

    /// The features of one side, row-major `[n, d]`.
    ///
    /// # Errors
    /// When the source has none.
    pub fn side(&self, side: Side) -> Result<&[f32]> {
        match side {
            Side::Before => Ok(self.before()),
            Side::After => self.after(),
        }
    }

    /// Features before the task as columns `[d, n]`.
    pub(crate) fn columns_before(&self) -> DMatrixView<'_, f32> {
        DMatrixView::from_slice(&self.before, self.dim, self.rows)
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
        let rows = samples(before, self.dim)?;
        let fits = |what: &str, found: usize, had: usize, width: usize| {
            if (found == rows * width || found == 0) && (self.rows == 0 || (had == 0) == (found == 0)) {
                return Ok(());
            }
            let (found, expected) = ((found / width.max(1)) as u64, rows as u64);
            Err(CompensateError::Rows { what: what.into(), found, expected })
        };
        let (after, labels) = (after.unwrap_or_default(), labels.unwrap_or_default());
        if rows + after.len() + labels.len() == 0 {
            return Ok(());
        }
        fits("features after the task", after.len(), self.after.len(), self.dim)?;
        fits("labels", labels.len(), self.labels.len(), 1)?;
        self.before.extend_from_slice(before);
        self.after.extend_from_slice(after);
        self.labels.extend_from_slice(labels);
        self.rows += rows;
        Ok(())
    }

    /// Appends the features of another block, without labels.
    pub(crate) fn push_unlabelled(&mut self, other: &Self) -> Result<()> {
        self.push(&other.before, other.has_after().then_some(&other.after), None)
    }

    /// Appends samples `first..first + count` of another block.
    pub(crate) fn push_from(&mut self, other: &Self, first: usize, count: usize) -> Result<()> {
        let dim = self.dim;
        let range = first * dim..(first + count) * dim;
        let before = other.before.get(range.clone()).unwrap_or_default();
        self.push(before, other.after.get(range), other.labels.get(first..first + count))
    }
}
