//! Features of either precision.

use super::samples;
use crate::{CompensateError, Result};

/// Features row-major `[n, d]`, as precise as their source has them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Floats<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Double precision; also integers, which f64 holds exactly up to 2⁵³.
    F64(&'a [f64]),
}

impl<'a> Floats<'a> {
    /// Number of numbers, n·d.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    /// Whether there is no number.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers in `range`; none if it passes their end.
    pub(crate) fn slice(self, range: std::ops::Range<usize>) -> Self {
        match self {
            Self::F32(values) => Self::F32(values.get(range).unwrap_or_default()),
            Self::F64(values) => Self::F64(values.get(range).unwrap_or_default()),
        }
    }

    /// Pieces of `size` numbers; the last one may be smaller.
    pub(crate) fn chunks(self, size: usize) -> impl Iterator<Item = Self> {
        let starts = (0..self.len()).step_by(size.max(1));
        starts.map(move |first| self.slice(first..self.len().min(first.saturating_add(size))))
    }

    pub(crate) fn get(self, index: usize) -> f64 {
        match self {
            Self::F32(values) => values[index].into(),
            Self::F64(values) => values[index],
        }
    }

    /// Number of samples of dimension `dim`; an error unless they are whole samples.
    pub(crate) fn samples(self, dim: usize) -> Result<usize> {
        samples(self.len(), dim)
    }

    /// An error that names the first number that is not finite; `first` is the number of the first sample.
    pub(crate) fn check_finite(self, what: &str, dim: usize, first: u64) -> Result<()> {
        // A sum without a branch for each number: branches are what costs here.
        let finite = match self {
            Self::F32(values) => values.iter().fold(true, |all, value| all & value.is_finite()),
            Self::F64(values) => values.iter().fold(true, |all, value| all & value.is_finite()),
        };
        if finite {
            return Ok(());
        }
        let at = (0..self.len()).find(|&at| !self.get(at).is_finite()).unwrap_or(0);
        let (row, column) = (first + (at / dim.max(1)) as u64, at % dim.max(1));
        Err(CompensateError::NotFinite { what: what.into(), row, column, value: self.get(at) })
    }
}

/// Appends numbers as f64.
pub(crate) fn extend_f64(out: &mut Vec<f64>, values: Floats<'_>) {
    match values {
        Floats::F32(values) => out.extend(values.iter().map(|&value| f64::from(value))),
        Floats::F64(values) => out.extend_from_slice(values),
    }
}
