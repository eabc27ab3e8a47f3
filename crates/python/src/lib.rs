//! `residua._native`: what Python sees of Residua. Everything here hands work to the facade; no algorithm lives here.

mod arguments;
mod array;
mod error;
mod file;
mod jobs;
mod layer;
mod run;
mod threads;

use pyo3::prelude::*;

/// The native part of `residua`. Import `residua` instead.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::arguments::parse_bytes;
    #[pymodule_export]
    use super::error::{BudgetError, DeviceError, InputError, IoError, ResiduaError, UsageError};
    #[pymodule_export]
    use super::file::{LayerInfo, SplitFile, TensorInfo, load_layer};
    #[pymodule_export]
    use super::jobs::{diff, materialize, patch, split, verify};
    #[pymodule_export]
    use super::layer::Layer;
    #[pymodule_export]
    use super::threads::{get_num_threads, set_num_threads};

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
