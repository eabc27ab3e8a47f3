//! Methods that learn how features move, and what they learn.

use std::ffi::CString;
use std::path::PathBuf;

use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use residua::Budget;
use residua::compensate::compensator::{Checks, Uncertainty};
use residua::compensate::{self, CompensateError, Mode};

use crate::arguments::{budget, choice};
use crate::error::{CompensationWarning, usage};
use crate::features::{Features, Source, labels};
use crate::run::run;
use crate::statistics::ClassStatistics;

/// A method that learns how features move: `Linear`, `Rff`, `WeakNonlinear` or `Attention`.
#[pyclass(frozen, subclass, module = "residua")]
pub(crate) struct Method(Box<dyn compensate::Method>);

#[pymethods]
impl Method {
    /// The method's name, as on the command line.
    #[getter]
    fn name(&self) -> &'static str {
        self.0.name()
    }

    /// Learns from features of the same samples before and after a task.
    ///
    /// Args:
    ///     before: `[n, d]`, float32 or float64; as in `StatisticsBuilder.add`.
    ///     after: `[n, d]`, the same samples as the model sees them after the task.
    ///     labels: `[n]`, the classes of the samples, if they are known: they make the estimated errors better.
    ///     memory_budget: The bytes that the fit and its result may take: a number, or a text such as `512MiB`.
    ///
    /// Raises:
    ///     UsageError: shapes do not fit, or a setting is outside its range.
    ///     InputError: there are no samples, or a feature is not finite.
    ///     BudgetError: the budget has no room.
    #[pyo3(signature = (before, after, *, labels = None, memory_budget = None))]
    fn fit(
        &self,
        py: Python<'_>,
        before: &Bound<'_, PyAny>,
        after: &Bound<'_, PyAny>,
        labels: Option<&Bound<'_, PyAny>>,
        memory_budget: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Compensator> {
        let budget = budget(memory_budget)?;
        let (before, after) = (Features::new(before, "before")?, Features::new(after, "after")?);
        let dim = before.dim();
        let (samples, others) = (before.samples(dim, "before")?, after.samples(dim, "after")?);
        if samples != others {
            return Err(usage(format!("before has {samples} samples, after has {others}")));
        }
        let labels = labels.map(self::labels).transpose()?;
        if let Some(labels) = labels.as_ref().filter(|labels| labels.len() != samples) {
            return Err(usage(format!("before has {samples} samples, labels has {}", labels.len())));
        }
        let (before, after) = (before.floats()?, after.floats()?);
        let fitted = run(py, None, |watch| {
            self.0.fit(&mut Source::new(dim, before, Some(after), labels.as_deref(), watch), &budget)
        })?;
        Ok(Compensator(fitted))
    }

    fn __repr__(&self) -> String {
        format!("<residua method {}>", self.0.name())
    }
}

/// What a method learned; `Method.fit` makes one.
#[pyclass(frozen, module = "residua")]
pub(crate) struct Compensator(Box<dyn compensate::Compensator>);

#[pymethods]
impl Compensator {
    /// The feature dimension d.
    #[getter]
    fn dim(&self) -> usize {
        self.0.dim()
    }

    /// Writes it to a file, which appears complete or not at all. It contains samples if the method is `Attention`. What it knows
    /// about errors is not in the file.
    ///
    /// Raises:
    ///     IoError: the file cannot be written.
    #[pyo3(signature = (path, /))]
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        run(py, None, |_| self.0.save(&path)).map(drop)
    }

    /// Reads what `save` wrote. It moves statistics to the same bits as the compensator that was saved.
    ///
    /// Args:
    ///     memory_budget: The bytes that it may take: a number, or a text such as `512MiB`.
    ///
    /// Raises:
    ///     IoError, InputError: the file cannot be read, is damaged, or holds something else.
    ///     BudgetError: the budget has no room.
    #[staticmethod]
    #[pyo3(signature = (path, /, *, memory_budget = None))]
    fn load(py: Python<'_>, path: PathBuf, memory_budget: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let budget = budget(memory_budget)?;
        run(py, None, |_| compensate::compensator::load(&path, &budget)).map(|(_, fitted)| Self(fitted))
    }

    /// An estimate of the statistics that the same samples have after the task. It warns (`CompensationWarning`) where they
    /// may be wrong.
    ///
    /// Args:
    ///     statistics: Class statistics of dimension d.
    ///     memory_budget: The bytes that the result may take: a number, or a text such as `512MiB`.
    ///
    /// Raises:
    ///     UsageError: the pairs are of another model than the statistics.
    ///     InputError: the dimension differs.
    ///     BudgetError: the budget has no room.
    #[pyo3(signature = (statistics, *, memory_budget = None))]
    fn apply(
        &self,
        py: Python<'_>,
        statistics: &ClassStatistics,
        memory_budget: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<ClassStatistics> {
        let budget = budget(memory_budget)?;
        let (moved, warnings) = run(py, None, |_| -> Result<_, CompensateError> {
            let moved = self.0.apply(&statistics.0, &budget)?;
            let Some(known) = self.0.uncertainty() else { return Ok((moved, Vec::new())) };
            let mut checks = Checks::new(known, false, &budget)?;
            let pairs = statistics.0.iter().zip(moved.iter());
            pairs.for_each(|((label, old), (_, new))| checks.add(label, old, new));
            let spread = match statistics.0.spread(&budget) {
                Err(CompensateError::Budget(_)) => None,
                other => Some(other?),
            };
            let warnings = checks.finish(spread.as_ref(), &budget)?;
            Ok((moved, warnings))
        })?;
        for warning in warnings {
            let text = CString::new(warning.message).unwrap_or_default();
            PyErr::warn(py, &py.get_type::<CompensationWarning>(), &text, 1)?;
        }
        Ok(ClassStatistics(moved))
    }

    /// The squared error of pairs or classes that are left out, as a share of what it would be without a move; nan if it is
    /// unknown. From 1 on, moved statistics are no better than stale ones.
    #[getter]
    fn held_out_error(&self) -> f64 {
        self.0.uncertainty().map_or(f64::NAN, Uncertainty::held_out_error)
    }

    /// The estimated squared error of a moved mean for each unit of its leverage; nan if it is unknown.
    #[getter]
    fn level(&self) -> f64 {
        self.0.uncertainty().map_or(f64::NAN, Uncertainty::level)
    }

    /// The leverage that 95 % of the pairs' classes do not exceed when they are left out; nan if it is unknown.
    #[getter]
    fn usual_leverage(&self) -> f64 {
        self.0.uncertainty().map_or(f64::NAN, Uncertainty::usual_leverage)
    }

    /// How far class means lie from the pairs: the squared Mahalanobis distance to all pairs.
    ///
    /// Args:
    ///     statistics: Class statistics of dimension d, as they are before they are moved.
    ///
    /// Returns:
    ///     A float64 array `[classes]`, in the order of `statistics.labels`.
    ///
    /// Raises:
    ///     UsageError: the dimension differs, or the pairs are unknown.
    fn leverages<'py>(
        &self,
        py: Python<'py>,
        statistics: &ClassStatistics,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let known = self.0.uncertainty().ok_or_else(|| usage("the pairs of this map are unknown"))?;
        if statistics.0.dim() != known.dim() {
            return Err(usage(format!(
                "statistics have dimension {}, not {}",
                statistics.0.dim(),
                known.dim()
            )));
        }
        let found = run(py, None, |_| known.leverages_of(&statistics.0, &Budget::unlimited()))?;
        Ok(PyArray1::from_vec(py, found))
    }

    /// An estimate of features after the task, from features before it.
    ///
    /// Args:
    ///     features: `[n, d]`; computed in float32.
    ///     memory_budget: As in `apply`.
    ///
    /// Returns:
    ///     A float32 array `[n, d]`.
    #[pyo3(signature = (features, *, memory_budget = None))]
    fn apply_features<'py>(
        &self,
        py: Python<'py>,
        features: &Bound<'py, PyAny>,
        memory_budget: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let budget = budget(memory_budget)?;
        let features = Features::new(features, "features")?;
        let (dim, samples) = (self.0.dim(), features.samples(self.0.dim(), "features")?);
        let floats = features.floats()?;
        let moved = run(py, None, |_| -> Result<_, CompensateError> {
            match floats {
                compensate::Floats::F32(features) => self.0.apply_features(features, &budget),
                compensate::Floats::F64(features) => {
                    let _held = budget.reserve(4 * features.len() as u64, "features in single precision")?;
                    let single: Vec<f32> = features.iter().map(|&value| value as f32).collect();
                    self.0.apply_features(&single, &budget)
                }
            }
        })?;
        PyArray1::from_vec(py, moved).reshape([samples, dim])
    }
}

fn mode_of(name: &str) -> PyResult<Mode> {
    choice("mode", name, &[("exact", Mode::Exact), ("compat", Mode::Compat)])
}

/// Sets a field where the argument was given.
macro_rules! set {
    ($settings:ident: $($field:ident $(as $wrap:ident)?),*) => {
        $(if let Some($field) = $field { $settings.$field = set!(@ $field $($wrap)?); })*
    };
    (@ $field:ident) => { $field };
    (@ $field:ident $wrap:ident) => { $wrap($field) };
}

fn method(method: impl compensate::Method + 'static) -> Method {
    Method(Box::new(method))
}

/// Drift as an affine function of the feature, by ridge regression.
///
/// Args:
///     mode: `exact`, or `compat` to reproduce the reference implementation.
///     ridge: Relative to the features' mean variance in exact mode, chosen by cross-validation unless given.
///     temperature: How slowly the blend with the identity fades; compat mode.
///     noise: The share of the unexplained covariance that moved covariances are stretched to hold, 0 to 1; exact mode.
#[pyclass(frozen, extends = Method, module = "residua")]
pub(crate) struct Linear;

#[pymethods]
impl Linear {
    #[new]
    #[pyo3(signature = (mode = "exact", *, ridge = None, temperature = None, noise = None))]
    fn new(
        mode: &str,
        ridge: Option<f64>,
        temperature: Option<f64>,
        noise: Option<f64>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let mut settings = compensate::Linear::new(mode_of(mode)?);
        set!(settings: ridge as Some, temperature, noise);
        Ok(PyClassInitializer::from(method(settings)).add_subclass(Self))
    }
}

/// Drift as a ridge regression on random Fourier features.
///
/// Args:
///     mode: `exact`, or `compat` to reproduce the reference implementation.
///     features: The number of random features.
///     ridge: As in `Linear`.
///     bandwidth: The kernel's width, relative to the features' spread; exact mode.
///     points: Points that represent a class.
///     seed: Of the random features, and of the draws of compat mode.
///     noise: As in `Linear`.
#[pyclass(frozen, extends = Method, module = "residua")]
pub(crate) struct Rff;

#[pymethods]
impl Rff {
    #[new]
    #[pyo3(signature = (mode = "exact", *, features = None, ridge = None, bandwidth = None, points = None, seed = None,
        noise = None))]
    fn new(
        mode: &str,
        features: Option<usize>,
        ridge: Option<f64>,
        bandwidth: Option<f64>,
        points: Option<usize>,
        seed: Option<u64>,
        noise: Option<f64>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let mut settings = compensate::Rff::new(mode_of(mode)?);
        set!(settings: features, ridge as Some, bandwidth, points, seed, noise);
        Ok(PyClassInitializer::from(method(settings)).add_subclass(Self))
    }
}

/// Drift as a linear function of the feature plus a small non-linear one.
///
/// Args:
///     mode: `exact` has a closed form; `compat` trains a network, as the reference implementation does.
///     hidden: Hidden units.
///     ridge: Of the hidden units, relative to their mean variance; exact mode.
///     steps, batch, rate, decay: Of the training; compat mode.
///     points, seed, noise: As in `Rff`.
#[pyclass(frozen, extends = Method, module = "residua")]
pub(crate) struct WeakNonlinear;

#[pymethods]
impl WeakNonlinear {
    #[new]
    #[pyo3(signature = (mode = "exact", *, hidden = None, ridge = None, steps = None, batch = None, rate = None,
        decay = None, points = None, seed = None, noise = None))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn new(
        mode: &str,
        hidden: Option<usize>,
        ridge: Option<f64>,
        steps: Option<usize>,
        batch: Option<usize>,
        rate: Option<f64>,
        decay: Option<f64>,
        points: Option<usize>,
        seed: Option<u64>,
        noise: Option<f64>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let mut settings = compensate::WeakNonlinear::new(mode_of(mode)?);
        set!(settings: hidden as Some, ridge as Some, steps, batch, rate, decay, points, seed, noise);
        Ok(PyClassInitializer::from(method(settings)).add_subclass(Self))
    }
}

/// Drift as attention over the task's samples: a feature drifts like the samples nearest to it.
///
/// Args:
///     mode: `exact`, or `compat` to reproduce the reference implementation.
///     temperature: Of the softmax over cosines.
///     nearest: Samples that count.
///     points: Points that represent a class.
///     seed: Of the draws of compat mode.
#[pyclass(frozen, extends = Method, module = "residua")]
pub(crate) struct Attention;

#[pymethods]
impl Attention {
    #[new]
    #[pyo3(signature = (mode = "exact", *, temperature = None, nearest = None, points = None, seed = None))]
    fn new(
        mode: &str,
        temperature: Option<f64>,
        nearest: Option<usize>,
        points: Option<usize>,
        seed: Option<u64>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let mut settings = compensate::Attention::new(mode_of(mode)?);
        set!(settings: temperature, nearest, points, seed);
        Ok(PyClassInitializer::from(method(settings)).add_subclass(Self))
    }
}
