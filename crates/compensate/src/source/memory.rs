//! Features that are in memory already.

use super::{FeatureBlock, FeatureSource, Fingerprint, Fingerprinter, samples};
use crate::Result;

/// A source over borrowed arrays.
#[derive(Debug, Clone)]
pub struct MemorySource<'a> {
    dim: usize,
    before: &'a [f32],
    after: Option<&'a [f32]>,
    labels: Option<&'a [u32]>,
    next: usize,
    fingerprinter: Fingerprinter,
}

impl<'a> MemorySource<'a> {
    /// Features row-major `[n, dim]` before the task or the only ones, maybe features after it, and maybe n labels.
    ///
    /// # Errors
    /// When the lengths do not fit each other.
    pub fn new(
        dim: usize,
        before: &'a [f32],
        after: Option<&'a [f32]>,
        labels: Option<&'a [u32]>,
    ) -> Result<Self> {
        let rows = samples(before.len(), dim)?;
        let check = |what: &str, len: usize, width: usize| {
            if len == rows * width {
                return Ok(());
            }
            let (what, found, expected) = (what.into(), (len / width.max(1)) as u64, rows as u64);
            Err(crate::CompensateError::Rows { what, found, expected })
        };
        after.map_or(Ok(()), |after| check("features after the task", after.len(), dim))?;
        labels.map_or(Ok(()), |labels| check("labels", labels.len(), 1))?;
        Ok(Self { dim, before, after, labels, next: 0, fingerprinter: Fingerprinter::default() })
    }

    /// Features row-major `[n, dim]` and a label for each: what statistics are collected from.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn labelled(dim: usize, features: &'a [f32], labels: &'a [u32]) -> Result<Self> {
        Self::new(dim, features, None, Some(labels))
    }

    /// Features of the same samples before and after a task, row-major `[n, dim]`: what a compensator learns from.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn pairs(dim: usize, before: &'a [f32], after: &'a [f32]) -> Result<Self> {
        Self::new(dim, before, Some(after), None)
    }
}

impl FeatureSource for MemorySource<'_> {
    fn dim(&self) -> usize {
        self.dim
    }

    fn rows(&self) -> Option<u64> {
        Some((self.before.len() / self.dim.max(1)) as u64)
    }

    fn read(&mut self, most: usize, block: &mut FeatureBlock) -> Result<usize> {
        let end = (self.next + most).min(self.before.len() / self.dim.max(1));
        let (rows, features) = (self.next..end, self.next * self.dim..end * self.dim);
        let after = self.after.map(|after| &after[features.clone()]);
        block.push(&self.before[features], after, self.labels.map(|labels| &labels[rows.clone()]))?;
        self.next = end;
        self.fingerprinter.read(block, rows.len());
        Ok(rows.len())
    }

    fn for_each_label(&mut self, f: &mut dyn FnMut(&[u32])) -> Result<bool> {
        Ok(self.labels.map(f).is_some())
    }

    fn rewind(&mut self) -> Result<()> {
        self.next = 0;
        self.fingerprinter.rewind();
        Ok(())
    }

    fn fingerprints(&self) -> Vec<Fingerprint> {
        self.fingerprinter.get().cloned().into_iter().collect()
    }
}
