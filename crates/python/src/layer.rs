//! A layer that runs.

use std::path::PathBuf;
use std::sync::Arc;

use numpy::{PyArray, PyArray2, PyArrayDyn, PyArrayMethods, PyReadwriteArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::array::{array, input, is_float, rows, wrong_type};
use crate::error::{exception, usage};
use crate::file::dense;

/// Where a layer is from: the file, its base, the name; and its activations.
type Origin = (PathBuf, Option<PathBuf>, String, &'static str);

/// A linear layer `y = base·x + alpha·(residual·x)` on the processor, opaque. `SplitFile.layer` loads one.
///
/// Any number of threads may run one layer at a time. The same input gives the same bits every time. A copy is the same
/// layer, and a pickle holds the path of the file: the file is opened again where it is loaded.
#[pyclass(frozen, weakref, module = "residua")]
pub(crate) struct Layer {
    inner: residua::Layer,
    file: Arc<residua::SplitFile>,
    from: Origin,
}

impl Layer {
    pub(crate) fn new(inner: residua::Layer, file: Arc<residua::SplitFile>, from: Origin) -> Self {
        Self { inner, file, from }
    }
}

#[pymethods]
impl Layer {
    /// Its name in the file.
    #[getter]
    fn name(&self) -> &str {
        self.inner.name()
    }

    /// `(out_features, in_features)`.
    #[getter]
    fn shape(&self) -> (usize, usize) {
        (self.inner.out_features(), self.inner.in_features())
    }

    /// Values of one input.
    #[getter]
    fn in_features(&self) -> usize {
        self.inner.in_features()
    }

    /// Values of one output.
    #[getter]
    fn out_features(&self) -> usize {
        self.inner.out_features()
    }

    /// How it takes its inputs: "f32" or "i8".
    #[getter]
    fn activations(&self) -> &'static str {
        self.from.3
    }

    /// Runs the layer.
    ///
    /// Args:
    ///     x: `[…, in_features]`, float32 or float16; a NumPy array, a torch tensor on the CPU (also bfloat16), or whatever
    ///         exports DLPack or a buffer. An array that is not contiguous is copied.
    ///     alpha: 1 is the whole model's layer, 0 the base alone.
    ///
    /// Returns:
    ///     A float32 array `[…, out_features]`.
    ///
    /// Raises:
    ///     UsageError: `x` has another element type or shape, requires a gradient, or lies on another device.
    #[pyo3(signature = (x, alpha = 1.0))]
    fn forward<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        alpha: f32,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let x = input(x, "x")?;
        let batch = rows(x.shape(), self.inner.in_features(), "x")?;
        let mut shape = x.shape().to_vec();
        shape.pop();
        shape.push(self.inner.out_features());
        let x = x.extract::<numpy::PyReadonlyArrayDyn<'_, f32>>()?;
        let x = x.as_slice().map_err(|error| usage(format!("x: {error}")))?;
        let y = py.detach(|| self.inner.forward(alpha, x, batch)).map_err(exception)?;
        PyArray::from_vec(py, y).reshape(shape)
    }

    /// Runs the layer and writes into an array.
    ///
    /// Args:
    ///     x: As in `forward`.
    ///     out: `[…, out_features]`, float32, contiguous and writable: NumPy, or a torch tensor on the CPU. It must not share
    ///         memory with `x`.
    ///     alpha: 1 is the whole model's layer, 0 the base alone.
    ///
    /// Raises:
    ///     UsageError: as in `forward`, or `out` does not fit. `out` is unchanged then.
    #[pyo3(signature = (x, out, alpha = 1.0))]
    fn forward_into(
        &self,
        py: Python<'_>,
        x: &Bound<'_, PyAny>,
        out: &Bound<'_, PyAny>,
        alpha: f32,
    ) -> PyResult<()> {
        let x = input(x, "x")?;
        let batch = rows(x.shape(), self.inner.in_features(), "x")?;
        let out = array(out, "out")?;
        if !is_float(&out, 4) {
            return Err(wrong_type(&out, "out", "float32"));
        }
        let given = rows(out.shape(), self.inner.out_features(), "out")?;
        if given != batch {
            return Err(usage(format!("out has {given} rows, x has {batch}")));
        }
        let x = x.extract::<numpy::PyReadonlyArrayDyn<'_, f32>>()?;
        let out = out.cast::<PyArrayDyn<f32>>()?;
        let mut out: PyReadwriteArrayDyn<'_, f32> =
            out.try_readwrite().map_err(|error| usage(format!("out: {error}")))?;
        let x = x.as_slice().map_err(|error| usage(format!("x: {error}")))?;
        let y = out.as_slice_mut().map_err(|error| usage(format!("out: {error}")))?;
        py.detach(|| self.inner.forward_into(alpha, x, batch, y)).map_err(exception)
    }

    /// The dense matrix `base + alpha · residual`, decoded from the file: for gradients and checks. It is not kept.
    ///
    /// Returns:
    ///     A float32 array `[out_features, in_features]`.
    ///
    /// Raises:
    ///     IoError, InputError: the file was removed or changed since.
    #[pyo3(signature = (alpha = 1.0))]
    fn dense<'py>(&self, py: Python<'py>, alpha: f32) -> PyResult<Bound<'py, PyArray2<f32>>> {
        dense(py, &self.file, self.inner.name(), alpha)
    }

    fn __repr__(&self) -> String {
        let (rows, cols) = self.shape();
        format!("<residua.Layer {:?} [{rows}, {cols}] on {}>", self.inner.name(), self.inner.device())
    }

    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Origin)> {
        let load = py.import("residua")?.getattr("load_layer")?;
        Ok((load, self.from.clone()))
    }
}
