//! `residua._native`: what Python sees of Residua. Everything here hands work to the facade; no algorithm lives here.

mod arguments;
mod array;
mod builder;
mod classifiers;
mod command;
mod delta;
mod error;
mod features;
mod file;
mod inspect;
mod jobs;
mod layer;
mod methods;
mod run;
mod statistics;
mod threads;

use pyo3::prelude::*;

/// The native part of `residua`. Import `residua` instead.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::arguments::parse_bytes;
    #[pymodule_export]
    use super::builder::{StatisticsBuilder, feature_rows};
    #[pymodule_export]
    use super::classifiers::{Classifier, Lda, Ncm, PooledQda, Qda};
    #[pymodule_export]
    use super::command::command;
    #[pymodule_export]
    use super::delta::apply_views;
    #[pymodule_export]
    use super::error::{
        BudgetError, CompensationWarning, DeviceError, InputError, IoError, ResiduaError, UsageError,
    };
    #[pymodule_export]
    use super::file::{LayerInfo, SplitFile, TensorInfo, load_layer};
    #[pymodule_export]
    use super::inspect::inspect;
    #[pymodule_export]
    use super::jobs::{diff, materialize, patch, split, verify};
    #[pymodule_export]
    use super::layer::Layer;
    #[pymodule_export]
    use super::methods::{Attention, Compensator, Linear, Method, Rff, WeakNonlinear};
    #[pymodule_export]
    use super::statistics::{ClassGaussian, ClassStatistics};
    #[pymodule_export]
    use super::threads::{get_num_threads, set_num_threads};

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
