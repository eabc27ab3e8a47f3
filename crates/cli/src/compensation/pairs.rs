//! Features from several files, read one after the other, with a progress bar.

use residua::compensate::source::FileSource;
use residua::compensate::{CompensateError, FeatureBlock, FeatureSource, Result as SourceResult};
use residua::split::Progress;

use super::arrays::Arrays;
use crate::failure::{Failure, Kind, Result};
use crate::progress::Bar;

/// One source over several, of one dimension.
pub(crate) struct Pairs<'a> {
    parts: Vec<(Arrays, FileSource)>,
    /// The part that is read.
    current: usize,
    /// Whether reading has begun.
    begun: bool,
    what: &'static str,
    bar: &'a Bar,
}

impl<'a> Pairs<'a> {
    /// Opens all parts; `what` is a verb for the progress bar.
    pub(crate) fn open(parts: Vec<Arrays>, what: &'static str, bar: &'a Bar) -> Result<Self> {
        let mut opened: Vec<(Arrays, FileSource)> = Vec::new();
        for mut arrays in parts {
            let source = arrays.open()?;
            if let Some((first, other)) = opened.first()
                && other.dim() != source.dim()
            {
                let (before, dim) = (&arrays.before, source.dim());
                let problem =
                    format!("{before} has features of dimension {dim}, {} of {}", first.before, other.dim());
                return Err(Failure::new(Kind::Input, problem));
            }
            opened.push((arrays, source));
        }
        Ok(Self { parts: opened, current: 0, begun: false, what, bar })
    }

    /// The error with the name of the array that it is about, and the row in that array.
    pub(crate) fn explain(&self, mut error: CompensateError) -> Failure {
        let mut part = self.current.min(self.parts.len().saturating_sub(1));
        if let CompensateError::NotFinite { row, .. } = &mut error {
            part = 0;
            for (index, (_, source)) in self.parts.iter().enumerate() {
                part = index;
                let rows = source.rows().unwrap_or(u64::MAX);
                if *row < rows {
                    break;
                }
                *row -= rows;
            }
        }
        match self.parts.get(part) {
            Some((arrays, _)) => arrays.explain(error),
            None => error.into(),
        }
    }

    /// As [`explain`](Self::explain), where `others` are read after these have been: all of them together, or,
    /// where only the others are learned from, alone.
    pub(crate) fn explain_with(&self, others: &Self, alone: bool, mut error: CompensateError) -> Failure {
        if !others.begun {
            return self.explain(error);
        }
        // These have been read once without a complaint.
        if let (CompensateError::NotFinite { row, .. }, false) = (&mut error, alone) {
            *row -= self.rows().unwrap_or(0).min(*row);
        }
        others.explain(error)
    }

    /// An error unless features have the dimension of what they meet.
    pub(crate) fn expect_dim(&self, dim: usize, what: &str) -> Result {
        match self.parts.first() {
            Some((arrays, source)) if source.dim() != dim => Err(Failure::new(
                Kind::Input,
                format!("{} has features of dimension {}, {what} of {dim}", arrays.before, source.dim()),
            )),
            _ => Ok(()),
        }
    }

    /// What the first part's labels are called.
    pub(crate) fn labels_name(&self) -> String {
        let labels = self.parts.first().and_then(|(arrays, _)| arrays.labels.as_ref());
        labels.map(ToString::to_string).unwrap_or_default()
    }
}

impl FeatureSource for Pairs<'_> {
    fn dim(&self) -> usize {
        self.parts.first().map_or(0, |(_, source)| source.dim())
    }

    fn rows(&self) -> Option<u64> {
        self.parts.iter().map(|(_, source)| source.rows()).sum()
    }

    fn read(&mut self, most: usize, block: &mut FeatureBlock) -> SourceResult<usize> {
        while let Some((_, source)) = self.parts.get_mut(self.current) {
            let count = source.read(most, block)?;
            if count > 0 {
                self.bar.advance((count * 4 * source.dim()) as u64);
                return Ok(count);
            }
            self.current += 1;
        }
        self.bar.end();
        Ok(0)
    }

    fn rewind(&mut self) -> SourceResult<()> {
        self.parts.iter_mut().try_for_each(|(_, source)| source.rewind())?;
        (self.current, self.begun) = (0, true);
        let bytes = self.rows().unwrap_or(0).saturating_mul(4 * self.dim() as u64);
        self.bar.begin(self.what, bytes);
        Ok(())
    }
}
