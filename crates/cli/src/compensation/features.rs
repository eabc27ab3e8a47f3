//! Features from several files, read one after the other, with a progress bar.

use std::ops::Range;
use std::path::PathBuf;

use residua::compensate::source::{ChainSource, FileSource, Fingerprint};
use residua::compensate::{CompensateError, FeatureBlock, FeatureSource, Result as SourceResult};
use residua::memory::Budget;
use residua::split::Progress;

use super::arrays::{Arrays, Files};
use crate::failure::{Failure, Kind, Result};
use crate::progress::Bar;

/// One source over several arrays of one dimension.
pub(crate) struct Features<'a> {
    source: ChainSource<'static>,
    /// The name of the first labels.
    labels: String,
    what: &'static str,
    bar: &'a Bar,
    /// Keeps the room of what the source has open.
    _files: Files,
}

impl<'a> Features<'a> {
    /// Opens all parts; `what` is a verb for the progress bar.
    pub(crate) fn open(
        parts: Vec<Arrays>,
        what: &'static str,
        budget: &Budget,
        bar: &'a Bar,
    ) -> Result<Self> {
        Self::open_rows(parts, what, budget, bar, |rows| Ok(0..rows))
    }

    /// As [`open`](Self::open), for a range of the rows of all parts; `range` tells it from their number.
    pub(crate) fn open_rows(
        parts: Vec<Arrays>,
        what: &'static str,
        budget: &Budget,
        bar: &'a Bar,
        range: impl FnOnce(u64) -> Result<Range<u64>>,
    ) -> Result<Self> {
        let mut sources = Vec::with_capacity(parts.len());
        let (mut labels, mut files) = (String::new(), Files::new(budget));
        for mut arrays in parts {
            sources.push(arrays.open(&mut files)?);
            if let (true, Some(array)) = (labels.is_empty(), &arrays.labels) {
                labels = array.to_string();
            }
        }
        let rows = sources.iter().filter_map(FeatureSource::rows).sum();
        if let (0, Some(first)) = (rows, sources.first()) {
            return Err(CompensateError::Empty(first.name()).into());
        }
        let sources = FileSource::rows_of(sources, range(rows)?);
        let boxed = |source| -> Box<dyn FeatureSource> { Box::new(source) };
        let source = ChainSource::new(sources.into_iter().map(boxed).collect())?;
        Ok(Self { source, labels, what, bar, _files: files })
    }

    /// An error unless features have the dimension of what they meet.
    pub(crate) fn expect_dim(&self, dim: usize, what: &str) -> Result {
        if self.dim() == dim {
            return Ok(());
        }
        let problem = format!("{} has features of dimension {}, {what} of {dim}", self.name(), self.dim());
        Err(Failure::new(Kind::Input, problem))
    }

    /// An error unless each label of a block is in `known` (sorted); `first` is the number of the block's first row.
    pub(crate) fn expect_known(
        known: &[u32],
        labels: &[u32],
        first: u64,
        name: &str,
        statistics: &str,
    ) -> SourceResult<()> {
        let Some(at) = labels.iter().position(|label| known.binary_search(label).is_err()) else {
            return Ok(());
        };
        let (row, label, classes) = (first + at as u64, labels[at], known.len());
        let problem =
            format!("{name}: row {row}: label {label} is not one of the {classes} classes of {statistics}");
        Err(CompensateError::Statistics { problem })
    }

    /// The name of the first labels.
    pub(crate) fn labels(&self) -> &str {
        &self.labels
    }
}

impl FeatureSource for Features<'_> {
    fn dim(&self) -> usize {
        self.source.dim()
    }

    fn rows(&self) -> Option<u64> {
        self.source.rows()
    }

    fn read(&mut self, most: usize, block: &mut FeatureBlock) -> SourceResult<usize> {
        let count = self.source.read(most, block)?;
        match count {
            0 => self.bar.end(),
            _ => self.bar.advance((count * 4 * self.dim()) as u64),
        }
        Ok(count)
    }

    fn rewind(&mut self) -> SourceResult<()> {
        let bytes = self.rows().unwrap_or(0).saturating_mul(4 * self.dim() as u64);
        self.bar.begin(self.what, bytes);
        self.source.rewind()
    }

    fn is_double(&self) -> bool {
        self.source.is_double()
    }

    fn for_each_label(&mut self, f: &mut dyn FnMut(&[u32])) -> SourceResult<bool> {
        self.source.for_each_label(f)
    }

    fn name(&self) -> String {
        self.source.name()
    }

    fn files(&self) -> Vec<PathBuf> {
        self.source.files()
    }

    fn fingerprints(&self) -> Vec<Fingerprint> {
        self.source.fingerprints()
    }
}
