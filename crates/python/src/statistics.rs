//! Class statistics.

use std::path::PathBuf;
use std::sync::Arc;

use numpy::{PyArray1, PyArray2, PyArrayMethods, ToPyArray};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use residua::Budget;
use residua::compensate;
use residua::compensate::statistics::Leaves;

use crate::arguments::budget;
use crate::builder::StatisticsBuilder;
use crate::error::usage;
use crate::run::run;

/// A count, a mean and a covariance for each class: what remains of samples.
///
/// `builder` collects them, `load` reads them from a file. `statistics[label]` is a class, `a | b` has the samples of
/// both, `len` counts classes, and iterating gives labels.
#[pyclass(frozen, module = "residua")]
pub(crate) struct ClassStatistics(pub(crate) compensate::ClassStatistics);

#[pymethods]
impl ClassStatistics {
    /// Starts to collect statistics of features of dimension `dim`.
    ///
    /// Args:
    ///     dim: The feature dimension d.
    ///     storage: `smallest`, `packed`, or `low-rank:R` for R directions and a diagonal.
    ///     precision: Of covariances in memory and in files: `f64`, `f32` or `bf16`. Sums are always f64.
    ///     shrinkage: `ledoit-wolf`, `oas`, or a number from 0 to 1: how far covariances are pulled towards a multiple of the
    ///         identity.
    ///     memory_budget: The bytes that the statistics and their collection may take: a number, or a text such as `512MiB`.
    ///     leaf_rows: Rows of a leaf. Parts merge to the bits of a single pass if they are cut between leaves.
    ///     first_leaf: The number of the first leaf, for a part.
    ///     total: Rows of all parts, if known. To finish without one of them is then an error.
    ///     model: A name for the model that made the features. Statistics of models with different names do not merge.
    ///
    /// Raises:
    ///     UsageError: an argument has no such value.
    #[staticmethod]
    #[pyo3(signature = (dim, *, storage = "smallest", precision = "f64", shrinkage = None, memory_budget = None,
        leaf_rows = 65536, first_leaf = 0, total = None, model = None))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn builder(
        dim: usize,
        storage: &str,
        precision: &str,
        shrinkage: Option<&Bound<'_, PyAny>>,
        memory_budget: Option<&Bound<'_, PyAny>>,
        leaf_rows: u64,
        first_leaf: u64,
        total: Option<u64>,
        model: Option<String>,
    ) -> PyResult<StatisticsBuilder> {
        if dim == 0 {
            return Err(usage("dim is 0; features have at least one number"));
        }
        if leaf_rows == 0 {
            return Err(usage("leaf_rows is 0; a leaf has at least one row"));
        }
        let leaves = Leaves::new(leaf_rows);
        let leaves = total.map_or(leaves, |total| leaves.of_total(total));
        let inner = compensate::StatisticsBuilder::part(dim, leaves, first_leaf, &budget(memory_budget)?);
        StatisticsBuilder::new(inner, storage, precision, shrinkage, model)
    }

    /// Reads statistics from a file.
    ///
    /// Raises:
    ///     IoError, InputError: the file cannot be read, or holds no statistics.
    ///     BudgetError: they do not fit the budget.
    #[staticmethod]
    #[pyo3(signature = (path, *, memory_budget = None))]
    fn load(py: Python<'_>, path: PathBuf, memory_budget: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let budget = budget(memory_budget)?;
        run(py, None, |_| compensate::ClassStatistics::load(&path, &budget)).map(Self)
    }

    /// Writes them to a file, which appears complete or not at all.
    ///
    /// Raises:
    ///     IoError: the file cannot be written.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        run(py, None, |_| self.0.save(&path, &Budget::unlimited())).map(drop)
    }

    /// The feature dimension d.
    #[getter]
    fn dim(&self) -> usize {
        self.0.dim()
    }

    /// The labels, rising.
    #[getter]
    fn labels(&self) -> Vec<u32> {
        self.0.iter().map(|(label, _)| label).collect()
    }

    /// The estimated squared errors of means, float64 `[classes]` in the order of `labels`: 0 for classes that were not moved.
    #[getter]
    fn errors<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_iter(py, self.0.iter().map(|(_, class)| class.error()))
    }

    /// What is known about the feature space: `model`, the name of the model or None; `task`, the number of tasks that they
    /// went through; `samples`, fingerprints of the arrays that they were collected from.
    #[getter]
    fn tag<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (tag, found) = (self.0.tag(), PyDict::new(py));
        found.set_item("model", tag.model())?;
        found.set_item("task", tag.task())?;
        found.set_item("samples", tag.samples().collect::<Vec<_>>())?;
        Ok(found)
    }

    /// Samples of all classes.
    #[getter]
    fn samples(&self) -> u64 {
        self.0.samples()
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __contains__(&self, label: u32) -> bool {
        self.0.get(label).is_some()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.labels().into_pyobject(py)?.call_method0("__iter__")
    }

    /// One class.
    ///
    /// Raises:
    ///     KeyError: there is no such class.
    fn __getitem__(&self, label: u32) -> PyResult<ClassGaussian> {
        match self.0.get(label) {
            Some(class) => Ok(ClassGaussian(Arc::clone(class))),
            None => Err(PyKeyError::new_err(label)),
        }
    }

    /// The statistics of both sets of samples. Classes that both have are merged.
    ///
    /// Raises:
    ///     UsageError: both have the same samples, or they are of different models.
    ///     InputError: dimensions differ.
    fn __or__(&self, py: Python<'_>, other: &Self) -> PyResult<Self> {
        run(py, None, |_| self.0.merge(&other.0, &Budget::unlimited())).map(Self)
    }

    fn __repr__(&self) -> String {
        let (classes, samples) = (self.0.len(), self.0.samples());
        format!(
            "<residua.ClassStatistics of {classes} classes, {samples} samples, dimension {}>",
            self.0.dim()
        )
    }
}

/// A class: the number of its samples, their mean and covariance.
#[pyclass(frozen, module = "residua")]
pub(crate) struct ClassGaussian(Arc<compensate::ClassGaussian>);

#[pymethods]
impl ClassGaussian {
    /// Number of samples.
    #[getter]
    fn count(&self) -> u64 {
        self.0.count()
    }

    /// The feature dimension d.
    #[getter]
    fn dim(&self) -> usize {
        self.0.dim()
    }

    /// The estimated squared error of the mean: 0 for a class that was not moved.
    #[getter]
    fn error(&self) -> f64 {
        self.0.error()
    }

    /// The mean, float64 `[d]`.
    #[getter]
    fn mean<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        self.0.mean().as_slice().to_pyarray(py)
    }

    /// The covariance (divided by n - 1), float64 `[d, d]`. A class of one sample has 1e-4 times the identity.
    fn covariance<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let dim = self.0.dim();
        let dense = run(py, None, |_| -> Result<_, residua::Error> { Ok(self.0.covariance().to_dense()) })?;
        PyArray1::from_vec(py, dense.data.into()).reshape([dim, dim])
    }

    /// Draws from the class's Gaussian. A seed gives the same numbers on every platform.
    ///
    /// Args:
    ///     n: How many.
    ///     seed: Of the random numbers.
    ///     memory_budget: The bytes that the call may allocate: a number, or a text such as `512MiB`.
    ///
    /// Returns:
    ///     A float64 array `[n, d]`.
    ///
    /// Raises:
    ///     BudgetError: the budget has no room.
    #[pyo3(signature = (n, seed = 0, *, memory_budget = None))]
    fn sample<'py>(
        &self,
        py: Python<'py>,
        n: usize,
        seed: u64,
        memory_budget: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let budget = budget(memory_budget)?;
        let draws = run(py, None, |_| self.0.sample(n, seed, &budget))?;
        PyArray1::from_vec(py, draws.data.into()).reshape([n, self.0.dim()])
    }

    fn __repr__(&self) -> String {
        format!("<residua.ClassGaussian of {} samples, dimension {}>", self.0.count(), self.0.dim())
    }
}
