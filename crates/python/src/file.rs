//! Files with layers.

use std::path::PathBuf;
use std::sync::Arc;

use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use residua::memory::BudgetError;
use residua::{Activations, Budget};

use crate::error::{exception, usage};
use crate::layer::Layer;
use crate::run::run;
use crate::threads::device;

/// What a file says about one of its layers.
#[pyclass(frozen, get_all, module = "residua")]
pub(crate) struct LayerInfo {
    /// Its name: the name of the tensor that was split.
    name: String,
    /// `(out_features, in_features)`.
    shape: (usize, usize),
    /// The element type of the tensor that was split, as safetensors spells it: `BF16`.
    dtype: String,
    /// How the base is quantised, such as `int4`; `None` when the base is another checkpoint, or there is none.
    base: Option<String>,
    /// Non-zeros of the residual.
    nnz: u64,
}

#[pymethods]
impl LayerInfo {
    fn __repr__(&self) -> String {
        let Self { name, shape, dtype, base, nnz } = self;
        let base = base.as_deref().map_or_else(|| "None".to_owned(), |base| format!("{base:?}"));
        format!("LayerInfo(name={name:?}, shape={shape:?}, dtype={dtype:?}, base={base}, nnz={nnz})")
    }
}

/// A tensor that passed through unchanged.
#[pyclass(frozen, get_all, module = "residua")]
pub(crate) struct TensorInfo {
    /// Its name.
    name: String,
    /// Its shape.
    shape: Vec<usize>,
    /// Its element type, as safetensors spells it: `BF16`.
    dtype: String,
    /// Bytes of its data.
    bytes: u64,
}

#[pymethods]
impl TensorInfo {
    fn __repr__(&self) -> String {
        let Self { name, shape, dtype, bytes } = self;
        format!("TensorInfo(name={name:?}, shape={shape:?}, dtype={dtype:?}, bytes={bytes})")
    }
}

/// A file that `split` wrote, or a file of single sparse matrices, open for reading.
///
/// Opening reads the header alone.
///
/// Args:
///     path: The file.
///     base: The checkpoint that the file was split over. Only a file split over another checkpoint needs it, and only
///         when that is not where the file says, in the file's folder or below.
///
/// Raises:
///     IoError: the file cannot be read.
///     InputError: the file is malformed or holds no layers, such as a delta.
#[pyclass(frozen, module = "residua")]
pub(crate) struct SplitFile {
    inner: Arc<residua::SplitFile>,
    path: PathBuf,
    base: Option<PathBuf>,
}

impl SplitFile {
    fn info(&self, layer: residua::LayerInfo) -> LayerInfo {
        let meta = self.inner.container().matrix(&layer.name);
        LayerInfo {
            shape: layer.shape.into(),
            dtype: meta.map_or_else(String::new, |meta| meta.dtype.to_string()),
            base: meta.and_then(|meta| meta.base).map(|kind| kind.name().to_owned()),
            nnz: layer.nnz,
            name: layer.name,
        }
    }
}

#[pymethods]
impl SplitFile {
    #[new]
    #[pyo3(signature = (path, base = None))]
    fn new(py: Python<'_>, path: PathBuf, base: Option<PathBuf>) -> PyResult<Self> {
        let opened = py.detach(|| match &base {
            Some(base) => residua::SplitFile::open_with_base(&path, base),
            None => residua::SplitFile::open(&path),
        });
        Ok(Self { inner: Arc::new(opened.map_err(exception)?), path, base })
    }

    /// The path that was opened.
    #[getter]
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// The metadata of the file: texts by key.
    #[getter]
    fn metadata(&self) -> std::collections::BTreeMap<String, String> {
        self.inner.container().file().metadata().clone()
    }

    /// The names of the layers, in the order of the file.
    fn names(&self) -> Vec<String> {
        self.inner.layers().map(|layer| layer.name).collect()
    }

    /// The layers, in the order of the file.
    fn layers(&self) -> Vec<LayerInfo> {
        self.inner.layers().map(|layer| self.info(layer)).collect()
    }

    /// Loads a layer onto the processor. Everything that is read is validated first.
    ///
    /// Args:
    ///     name: The layer's name.
    ///     activations: "f32" takes inputs as they are. "i8" rounds them to 8-bit integers for the product with a quantised base:
    ///         several times faster, and outputs move by about 0.5 %.
    ///
    /// Raises:
    ///     InputError: there is no such layer, a part of it is malformed, or the base is not the one that the file was made
    ///         from.
    ///     UsageError: the base checkpoint is missing; open the file with `base`. Or there are no such activations.
    #[pyo3(signature = (name, activations = "f32"))]
    fn layer(&self, py: Python<'_>, name: String, activations: &str) -> PyResult<Layer> {
        let Some(activations) = Activations::from_name(activations) else {
            return Err(usage(format!("activations {activations:?}; \"f32\" and \"i8\" work")));
        };
        let device = device(py, activations)?;
        let layer = run(py, None, |_| self.inner.layer(&name, &device))?;
        let from = (self.path.clone(), self.base.clone(), name, activations.name());
        Ok(Layer::new(layer, Arc::clone(&self.inner), from))
    }

    /// The dense matrix of a layer, `base + alpha · residual`.
    ///
    /// Returns:
    ///     A float32 array `[out_features, in_features]`.
    ///
    /// Raises:
    ///     As `layer`.
    #[pyo3(signature = (name, alpha = 1.0))]
    fn dense<'py>(&self, py: Python<'py>, name: String, alpha: f32) -> PyResult<Bound<'py, PyArray2<f32>>> {
        dense(py, &self.inner, &name, alpha)
    }

    /// The tensors that passed through unchanged, such as embeddings, norms and biases, in the order of the file.
    fn tensors(&self) -> Vec<TensorInfo> {
        let tensors = self.inner.container().dense();
        let info = |info: &residua::format::file::TensorInfo| TensorInfo {
            name: info.name.clone(),
            shape: info.shape.clone(),
            dtype: info.dtype.to_string(),
            bytes: info.bytes,
        };
        tensors.map(info).collect()
    }

    /// The bytes of a tensor that passed through, row-major and little-endian.
    ///
    /// Returns:
    ///     A uint8 array `[bytes]`; `tensors` has element type and shape. `data.view("float32").reshape(shape)` is an F32
    ///     tensor.
    ///
    /// Raises:
    ///     InputError: there is no such tensor.
    ///     IoError: the file cannot be read.
    fn tensor<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyArray1<u8>>> {
        let read = || -> Result<Vec<u8>, residua::Error> {
            let file = self.inner.container().file();
            let info = match self.inner.container().dense_tensor(name) {
                Some(info) => info,
                None => {
                    let known = self.inner.container().dense().map(|info| &*info.name);
                    return Err(residua::format::file::FileError::missing(file.path(), name, known).into());
                }
            };
            let length = usize::try_from(info.bytes).unwrap_or(usize::MAX);
            let mut data = Vec::new();
            data.try_reserve_exact(length).map_err(|_| no_room(info.bytes))?;
            data.resize(length, 0);
            file.read_at(info, 0, &mut data)?;
            Ok(data)
        };
        Ok(PyArray1::from_vec(py, py.detach(read).map_err(exception)?))
    }

    fn __len__(&self) -> usize {
        self.inner.layers().len()
    }

    fn __repr__(&self) -> String {
        format!(
            "<residua.SplitFile {:?}, {} layers>",
            self.path.display().to_string(),
            self.inner.layers().len()
        )
    }
}

/// The dense matrix of a layer, `[out_features, in_features]`.
pub(crate) fn dense<'py>(
    py: Python<'py>,
    file: &residua::SplitFile,
    name: &str,
    alpha: f32,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let matrix = run(py, None, |_| file.dense(name, alpha, &Budget::unlimited()))?;
    let shape = file.layers().find(|layer| layer.name == name).map_or([0, 0], |layer| layer.shape);
    PyArray1::from_vec(py, matrix).reshape(shape)
}

fn no_room(bytes: u64) -> residua::Error {
    let what = "a tensor".to_owned();
    BudgetError { what, requested: bytes, available: 0, limit: 0, minimum: bytes }.into()
}

/// Loads one layer of a file, as a pickle of a layer does.
#[pyfunction]
#[pyo3(signature = (path, base, name, activations = "f32", /))]
pub(crate) fn load_layer(
    py: Python<'_>,
    path: PathBuf,
    base: Option<PathBuf>,
    name: String,
    activations: &str,
) -> PyResult<Layer> {
    SplitFile::new(py, path, base)?.layer(py, name, activations)
}
