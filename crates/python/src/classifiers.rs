//! Classifiers rebuilt from class statistics.

use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use residua::compensate::classify::{LdaOptions, Metric, NcmOptions, Pooling, Prior, QdaOptions, Ridge};
use residua::compensate::{self, CompensateError, Floats};

use crate::arguments::{budget, choice};
use crate::error::usage;
use crate::features::{Features, Source, labels};
use crate::run::run;
use crate::statistics::ClassStatistics;

/// A classifier that was rebuilt from class statistics: `Ncm`, `Lda`, `Qda` or `PooledQda`. It has seen no sample.
#[pyclass(frozen, subclass, module = "residua")]
pub(crate) struct Classifier(Box<dyn compensate::Classifier + Send + Sync>);

#[pymethods]
impl Classifier {
    /// The feature dimension d.
    #[getter]
    fn dim(&self) -> usize {
        self.0.dim()
    }

    /// The labels, rising.
    #[getter]
    fn labels(&self) -> Vec<u32> {
        self.0.labels().to_vec()
    }

    /// The label of the likeliest class for each of the features.
    ///
    /// Args:
    ///     features: `[n, d]`; as in `StatisticsBuilder.add`.
    ///     memory_budget: The bytes that the call may allocate: a number, or a text such as `512MiB`.
    ///
    /// Returns:
    ///     An int64 array `[n]`.
    ///
    /// Raises:
    ///     UsageError: shape or element type do not fit.
    ///     InputError: a feature is not finite, or a covariance cannot be inverted.
    ///     BudgetError: the budget has no room.
    #[pyo3(signature = (features, *, memory_budget = None))]
    fn predict<'py>(
        &self,
        py: Python<'py>,
        features: &Bound<'py, PyAny>,
        memory_budget: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let budget = budget(memory_budget)?;
        let features = Features::new(features, "features")?;
        features.samples(self.0.dim(), "features")?;
        let floats = features.floats()?;
        let labels = run(py, None, |_| self.0.predict_floats(floats, &budget))?;
        Ok(PyArray1::from_iter(py, labels.into_iter().map(i64::from)))
    }

    /// A score of each class for each of the features; the highest is the likeliest.
    ///
    /// Args:
    ///     features, memory_budget: As in `predict`.
    ///
    /// Returns:
    ///     A float64 array `[n, classes]`, classes in the order of `labels`.
    ///
    /// Raises:
    ///     As `predict`.
    #[pyo3(signature = (features, *, memory_budget = None))]
    fn scores<'py>(
        &self,
        py: Python<'py>,
        features: &Bound<'py, PyAny>,
        memory_budget: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let budget = budget(memory_budget)?;
        let features = Features::new(features, "features")?;
        let samples = features.samples(self.0.dim(), "features")?;
        let floats = features.floats()?;
        let scores = run(py, None, |_| match floats {
            Floats::F32(features) => self.0.scores(features, &budget),
            Floats::F64(features) => self.0.scores_f64(features, &budget),
        })?;
        PyArray1::from_vec(py, scores).reshape([samples, self.0.labels().len()])
    }

    fn __repr__(&self) -> String {
        format!("<residua classifier of {} classes, dimension {}>", self.0.labels().len(), self.0.dim())
    }
}

fn prior_of(name: &str) -> PyResult<Prior> {
    choice("prior", name, &[("uniform", Prior::Uniform), ("counts", Prior::Counts)])
}

/// Builds a classifier.
fn built<C: compensate::Classifier + Send + Sync + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<C, CompensateError> + Send,
) -> PyResult<Classifier> {
    Ok(Classifier(Box::new(run(py, None, |_| work())?)))
}

/// Nearest class mean.
///
/// Args:
///     statistics: Class statistics.
///     metric: `euclidean` or `cosine`.
///     prior: `uniform`, or `counts` for probabilities in proportion to the classes' samples.
///     memory_budget: The bytes that the classifier may take: a number, or a text such as `512MiB`.
///
/// Raises:
///     InputError: there is no class.
#[pyclass(frozen, extends = Classifier, module = "residua")]
pub(crate) struct Ncm;

#[pymethods]
impl Ncm {
    #[new]
    #[pyo3(signature = (statistics, *, metric = "euclidean", prior = "uniform", memory_budget = None))]
    fn new(
        py: Python<'_>,
        statistics: &ClassStatistics,
        metric: &str,
        prior: &str,
        memory_budget: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let budget = budget(memory_budget)?;
        let metric =
            choice("metric", metric, &[("euclidean", Metric::Euclidean), ("cosine", Metric::Cosine)])?;
        let options = NcmOptions::default().with_metric(metric).with_prior(prior_of(prior)?);
        let classifier = built(py, || compensate::Ncm::new(&statistics.0, options, &budget))?;
        Ok(PyClassInitializer::from(classifier).add_subclass(Self))
    }
}

/// Linear discriminant analysis: one covariance for all classes.
///
/// Args:
///     statistics: Class statistics.
///     shrink: How much of the identity is added to the average covariance, in units of its mean variance.
///     prior, memory_budget: As in `Ncm`.
///     uncertainty: Whether classes of few samples are credited with the uncertainty of their means.
///
/// Raises:
///     InputError: there is no class, or the covariance cannot be inverted.
#[pyclass(frozen, extends = Classifier, module = "residua")]
pub(crate) struct Lda;

#[pymethods]
impl Lda {
    #[new]
    #[pyo3(signature = (statistics, *, shrink = 0.1, prior = "uniform", uncertainty = true, memory_budget = None))]
    fn new(
        py: Python<'_>,
        statistics: &ClassStatistics,
        shrink: f64,
        prior: &str,
        uncertainty: bool,
        memory_budget: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let budget = budget(memory_budget)?;
        let options = LdaOptions::default()
            .with_ridge(Ridge::relative(shrink))
            .with_prior(prior_of(prior)?)
            .with_uncertainty(uncertainty);
        let classifier = built(py, || compensate::Lda::new(&statistics.0, options, &budget))?;
        Ok(PyClassInitializer::from(classifier).add_subclass(Self))
    }
}

/// Quadratic discriminant analysis: a covariance for each class.
///
/// Args:
///     statistics: Class statistics.
///     shrink: How far each covariance is pulled towards a multiple of the identity, 0 to 1.
///     pooled: The weight of the average covariance, which is added.
///     rank: Keep only this many directions of largest variance of each class.
///     prior, uncertainty, memory_budget: As in `Lda`.
///
/// Raises:
///     InputError: there is no class.
#[pyclass(frozen, extends = Classifier, module = "residua")]
pub(crate) struct Qda;

#[pymethods]
impl Qda {
    #[new]
    #[pyo3(signature = (statistics, *, shrink = 0.1, pooled = 0.0, rank = None, prior = "uniform", uncertainty = true,
        memory_budget = None))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn new(
        py: Python<'_>,
        statistics: &ClassStatistics,
        shrink: f64,
        pooled: f64,
        rank: Option<usize>,
        prior: &str,
        uncertainty: bool,
        memory_budget: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let budget = budget(memory_budget)?;
        let mut options = QdaOptions::default()
            .with_ridge(Ridge::shrink(shrink))
            .with_pooled(pooled)
            .with_prior(prior_of(prior)?)
            .with_uncertainty(uncertainty);
        options.rank = rank;
        let classifier = built(py, || compensate::Qda::new(&statistics.0, options, &budget))?;
        Ok(PyClassInitializer::from(classifier).add_subclass(Self))
    }
}

/// Quadratic discriminant analysis with covariances that are pulled towards their average: the most accurate of the
/// classifiers in most cases. Features that are all multiplied by a number get the same labels.
///
/// Args:
///     statistics: Class statistics.
///     own: The weight of a class's own covariance, 0 to 1; the average covariance has the rest. By the classes' numbers of
///         samples unless given, 0.2 at most.
///     ridge: The weight of the identity, in units of the average covariance's mean variance. By the smallest class's
///         number of samples unless given, 0.15 at least.
///     rank: Keep only this many directions of each class, such as 64: less time and memory. All unless given.
///     prior, uncertainty, memory_budget: As in `Lda`.
///
/// Raises:
///     UsageError: a weight is outside its range.
///     InputError: there is no class.
#[pyclass(frozen, extends = Classifier, module = "residua")]
pub(crate) struct PooledQda;

#[pymethods]
impl PooledQda {
    #[new]
    #[pyo3(signature = (statistics, *, own = None, ridge = None, rank = None, prior = "uniform",
        uncertainty = true, memory_budget = None))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn new(
        py: Python<'_>,
        statistics: &ClassStatistics,
        own: Option<f64>,
        ridge: Option<f64>,
        rank: Option<usize>,
        prior: &str,
        uncertainty: bool,
        memory_budget: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let budget = budget(memory_budget)?;
        let default = Pooling::of(&statistics.0);
        let (own, ridge) = (own.unwrap_or(default.own), ridge.unwrap_or(default.ridge));
        if !(0.0..=1.0).contains(&own) {
            return Err(usage(format!("own is {own}, but has to be 0 to 1")));
        }
        let options = QdaOptions::pooled(Pooling::new(own, ridge))
            .with_prior(prior_of(prior)?)
            .with_uncertainty(uncertainty);
        let whole = || compensate::Qda::new(&statistics.0, options, &budget);
        let classifier = match rank {
            Some(rank) => built(py, || whole()?.low_rank(rank, &budget))?,
            None => built(py, whole)?,
        };
        Ok(PyClassInitializer::from(classifier).add_subclass(Self))
    }

    /// Chooses `own` and `ridge` on labelled samples: the weights that classify most of them right, each left out of the
    /// statistics that classify it. Take samples that the model was not trained on, such as those of a task before it.
    ///
    /// Args:
    ///     features: `[n, d]`; as in `StatisticsBuilder.add`.
    ///     labels: `[n]`.
    ///     memory_budget: The bytes that the call may allocate: a number, or a text such as `512MiB`.
    ///
    /// Returns:
    ///     The pair `(own, ridge)`; `(None, None)` if no weights are surely better than the default ones.
    ///
    /// Raises:
    ///     UsageError: shapes or element types do not fit.
    ///     InputError: there are no samples, or a feature is not finite.
    ///     BudgetError: the budget has no room.
    #[staticmethod]
    #[pyo3(signature = (features, labels, *, memory_budget = None))]
    fn choose(
        py: Python<'_>,
        features: &Bound<'_, PyAny>,
        labels: &Bound<'_, PyAny>,
        memory_budget: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<(Option<f64>, Option<f64>)> {
        let budget = budget(memory_budget)?;
        let (features, labels) = (Features::new(features, "features")?, self::labels(labels)?);
        let dim = features.dim();
        let samples = features.samples(dim, "features")?;
        if samples != labels.len() {
            return Err(usage(format!("there are {samples} samples and {} labels", labels.len())));
        }
        let before = features.floats()?;
        let pooling = run(py, None, |watch| {
            let mut source = Source::new(dim, before, None, Some(&labels), watch);
            Pooling::choose(&mut source, &budget)
        })?;
        Ok((pooling.map(|pooling| pooling.own), pooling.map(|pooling| pooling.ridge)))
    }
}
