//! Class statistics that are being collected.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use pyo3::prelude::*;
use residua::Progress;
use residua::compensate::source::{ArrayAt, FileSource, Fingerprinter};
use residua::compensate::statistics::Shrinkage;
use residua::compensate::{
    self, CompensateError, FeatureBlock, FeatureSource, Precision, Side, Storage, Tag,
};
use residua::format::file::Checkpoint;

use crate::arguments::{budget, choice};
use crate::error::usage;
use crate::features::{Features, labels};
use crate::run::{Watch, run};
use crate::statistics::ClassStatistics;

fn shrinkage_of(value: &Bound<'_, PyAny>) -> PyResult<Shrinkage> {
    match value.extract::<f64>() {
        Ok(share) => Ok(Shrinkage::Fixed(share)),
        Err(_) => {
            let known = [("ledoit-wolf", Shrinkage::LedoitWolf), ("oas", Shrinkage::Oas)];
            choice("shrinkage", &value.extract::<String>()?, &known)
        }
    }
}

/// Collects class statistics batch by batch; `ClassStatistics.builder` makes one.
///
/// Batches of any size give the same bits.
#[pyclass(frozen, module = "residua")]
pub(crate) struct StatisticsBuilder {
    dim: usize,
    first_leaf: u64,
    storage: Storage,
    precision: Precision,
    model: Option<String>,
    inner: Mutex<Option<Collecting>>,
}

/// The statistics so far, and the fingerprint of the features unless they came from files or other builders.
type Collecting = (compensate::StatisticsBuilder, Option<Fingerprinter>);

const FINISHED: &str = "the builder is finished; start another one";

#[pymethods]
impl StatisticsBuilder {
    /// The feature dimension d.
    #[getter]
    fn dim(&self) -> usize {
        self.dim
    }

    /// Adds samples.
    ///
    /// Args:
    ///     features: `[n, d]`, float32 or float64 (read without a copy if rows lie one after the other), float16 or integers; a
    ///         NumPy array, a torch tensor on the CPU (also bfloat16), or whatever exports DLPack or a buffer.
    ///     labels: `[n]`, integers from 0 to 2**32 - 1.
    ///
    /// Raises:
    ///     UsageError: shapes or element types do not fit.
    ///     InputError: a feature is not finite. No sample of the call counts then.
    ///     BudgetError: the budget has no room. The samples that fitted count; start again with a larger budget.
    #[pyo3(signature = (features, labels, /))]
    fn add(&self, py: Python<'_>, features: &Bound<'_, PyAny>, labels: &Bound<'_, PyAny>) -> PyResult<()> {
        let (features, labels) = (Features::new(features, "features")?, self::labels(labels)?);
        let samples = features.samples(self.dim, "features")?;
        if samples != labels.len() {
            return Err(usage(format!("there are {samples} samples and {} labels", labels.len())));
        }
        let floats = features.floats()?;
        let mut inner = self.own()?;
        let (inner, fingerprinter) = inner.as_mut().ok_or_else(|| usage(FINISHED))?;
        run(py, None, |_| -> Result<_, CompensateError> {
            inner.add_floats(floats, &labels)?;
            fingerprinter.iter_mut().for_each(|fingerprinter| fingerprinter.add(floats));
            Ok(())
        })
    }

    /// Adds samples of files, row after row over all files.
    ///
    /// Args:
    ///     files: Features `[n, d]` and labels `[n]` of each file: `.npy` files, or tensors as `FILE.safetensors:TENSOR`.
    ///     start, stop: The rows to add, counted over all files; all of them unless given.
    ///
    /// Raises:
    ///     IoError, InputError: a file cannot be read, or is not what it should be.
    ///     BudgetError: the budget has no room.
    #[pyo3(signature = (files, /, start = 0, stop = None))]
    fn add_files(
        &self,
        py: Python<'_>,
        files: Vec<(String, String)>,
        start: u64,
        stop: Option<u64>,
    ) -> PyResult<()> {
        let mut inner = self.own()?;
        let (inner, fingerprinter) = inner.as_mut().ok_or_else(|| usage(FINISHED))?;
        *fingerprinter = None;
        run(py, None, |watch| {
            let sources = FileSource::rows_of(open(&files)?, start..stop.unwrap_or(u64::MAX));
            sources
                .into_iter()
                .try_for_each(|source| inner.add_source(&mut Watched { source, watch }, Side::Before))
        })
    }

    /// Adds all that another builder collected, as if its samples came after these. The other one is finished then.
    ///
    /// If the other one starts at the leaf behind the last one here, the result has the bits of a single pass.
    ///
    /// Raises:
    ///     InputError: dimensions or leaves differ, or another leaf comes next.
    ///     BudgetError: the budget has no room. The statistics are incomplete then.
    #[pyo3(signature = (other, /))]
    fn merge(&self, py: Python<'_>, other: &Self) -> PyResult<()> {
        let mut inner = self.own()?;
        let (inner, fingerprinter) = inner.as_mut().ok_or_else(|| usage(FINISHED))?;
        *fingerprinter = None;
        let (other, _) = other.own()?.take().ok_or_else(|| usage(FINISHED))?;
        run(py, None, |_| inner.merge(other))
    }

    /// Writes the exact state to a file, which appears complete or not at all.
    ///
    /// Raises:
    ///     IoError: the file cannot be written.
    #[pyo3(signature = (path, /))]
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let inner = self.own()?;
        let (inner, _) = inner.as_ref().ok_or_else(|| usage(FINISHED))?;
        run(py, None, |_| inner.save(&path)).map(drop)
    }

    /// Opens what `save` wrote, and checks its hash. Classes stay in the file until they are merged: do not change it meanwhile.
    ///
    /// Args:
    ///     storage, precision, shrinkage, memory_budget: As in `ClassStatistics.builder`.
    ///
    /// Raises:
    ///     IoError, InputError: the file cannot be read, is damaged, or holds something else.
    ///     BudgetError: the budget has no room.
    #[staticmethod]
    #[pyo3(signature = (path, /, *, storage = "smallest", precision = "f64", shrinkage = None, memory_budget = None))]
    fn load(
        py: Python<'_>,
        path: PathBuf,
        storage: &str,
        precision: &str,
        shrinkage: Option<&Bound<'_, PyAny>>,
        memory_budget: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let budget = budget(memory_budget)?;
        let inner = run(py, None, |_| compensate::StatisticsBuilder::load(&path, &budget))?;
        let builder = Self::new(inner, storage, precision, shrinkage, None)?;
        builder.own()?.iter_mut().for_each(|(_, fingerprinter)| *fingerprinter = None);
        Ok(builder)
    }

    /// The number of the first leaf.
    #[getter]
    fn first_leaf(&self) -> u64 {
        self.first_leaf
    }

    /// Samples so far.
    ///
    /// Raises:
    ///     UsageError: the builder is finished.
    #[getter]
    fn samples(&self) -> PyResult<u64> {
        Ok(self.own()?.as_ref().ok_or_else(|| usage(FINISHED))?.0.samples())
    }

    /// The statistics of all samples. The builder takes no more then.
    ///
    /// Raises:
    ///     UsageError: it is finished already.
    ///     InputError: a part of the `total` is missing, Ledoit-Wolf lacks the samples of a class, or a number overflows its precision.
    ///     BudgetError: the budget has no room.
    fn finish(&self, py: Python<'_>) -> PyResult<ClassStatistics> {
        let (inner, fingerprinter) = self.own()?.take().ok_or_else(|| usage(FINISHED))?;
        let statistics = run(py, None, |_| inner.finish(self.storage, self.precision))?;
        let array = fingerprinter.and_then(|mut fingerprinter| {
            fingerprinter.end();
            fingerprinter.get().map(|found| found.before.clone())
        });
        let tag = Tag::collected(array.filter(|_| !statistics.is_empty())).with_model(self.model.clone());
        Ok(ClassStatistics(statistics.with_tag(tag)))
    }
}

impl StatisticsBuilder {
    /// A builder that finishes in this form.
    pub(crate) fn new(
        mut inner: compensate::StatisticsBuilder,
        storage: &str,
        precision: &str,
        shrinkage: Option<&Bound<'_, PyAny>>,
        model: Option<String>,
    ) -> PyResult<Self> {
        let known = [("f64", Precision::F64), ("f32", Precision::F32), ("bf16", Precision::Bf16)];
        let precision = choice("precision", precision, &known)?;
        let storage = match storage.strip_prefix("low-rank:").map(str::parse) {
            Some(Ok(rank)) => Storage::LowRank(rank),
            Some(Err(_)) => {
                return Err(usage(format!("storage is {storage:?}; low-rank:R takes a number R")));
            }
            None => {
                choice("storage", storage, &[("smallest", Storage::Smallest), ("packed", Storage::Packed)])?
            }
        };
        inner.shrinkage = shrinkage.map(shrinkage_of).transpose()?;
        let (dim, first_leaf) = (inner.dim(), inner.first_leaf());
        let inner = Mutex::new(Some((inner, Some(Fingerprinter::default()))));
        Ok(Self { dim, first_leaf, storage, precision, model, inner })
    }

    /// The builder, for one thread at a time. Waiting for another thread could wait forever: it may itself wait for the
    /// pool.
    fn own(&self) -> PyResult<MutexGuard<'_, Option<Collecting>>> {
        match self.inner.try_lock() {
            Ok(inner) => Ok(inner),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(usage("another thread uses this builder")),
        }
    }
}

/// An array by its name: `FILE.npy`, or `FILE.safetensors:TENSOR`.
fn array(name: &str) -> Result<ArrayAt, CompensateError> {
    match name.rsplit_once(".safetensors:") {
        Some((path, tensor)) => {
            let file = Checkpoint::open(format!("{path}.safetensors"))?;
            Ok(ArrayAt::Tensor(Arc::new(file), tensor.to_owned()))
        }
        None => Ok(ArrayAt::Npy(name.into())),
    }
}

fn open(files: &[(String, String)]) -> Result<Vec<FileSource>, CompensateError> {
    files
        .iter()
        .map(|(features, labels)| FileSource::open(&array(features)?, None, Some(&array(labels)?)))
        .collect()
}

/// The feature dimension, and the rows of each file; `files` as in `StatisticsBuilder.add_files`.
///
/// Raises:
///     IoError, InputError: a file cannot be read, or is not what it should be.
#[pyfunction]
#[pyo3(signature = (files, /))]
pub(crate) fn feature_rows(py: Python<'_>, files: Vec<(String, String)>) -> PyResult<(usize, Vec<u64>)> {
    let sources = run(py, None, |_| open(&files))?;
    let dim = sources.first().map_or(0, FeatureSource::dim);
    Ok((dim, sources.iter().filter_map(FeatureSource::rows).collect()))
}

/// A source that stops when the caller wants that.
struct Watched<'a> {
    source: FileSource,
    watch: &'a Watch,
}

impl FeatureSource for Watched<'_> {
    fn dim(&self) -> usize {
        self.source.dim()
    }

    fn rows(&self) -> Option<u64> {
        self.source.rows()
    }

    fn read(&mut self, most: usize, block: &mut FeatureBlock) -> Result<usize, CompensateError> {
        if self.watch.stop() {
            // The exception of the signal takes its place.
            return Err(CompensateError::Empty("a source that was stopped".into()));
        }
        self.source.read(most, block)
    }

    fn rewind(&mut self) -> Result<(), CompensateError> {
        self.source.rewind()
    }

    fn is_double(&self) -> bool {
        self.source.is_double()
    }

    fn name(&self) -> String {
        self.source.name()
    }
}
