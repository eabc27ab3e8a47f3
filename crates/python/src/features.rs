//! Features and labels as arrays.

use numpy::{PyArrayDescrMethods, PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use residua::Progress;
use residua::compensate::source::{Fingerprint, Fingerprinter};
use residua::compensate::{CompensateError, FeatureBlock, FeatureSource, Floats};

use crate::array::{array, contiguous, is_float, rows, wrong_type};
use crate::error::usage;
use crate::run::Watch;

/// Features `[n, d]`, borrowed from their array where that has f32 or f64, row after row.
pub(crate) enum Features<'py> {
    F32(PyReadonlyArrayDyn<'py, f32>),
    F64(PyReadonlyArrayDyn<'py, f64>),
}

impl<'py> Features<'py> {
    /// From f32 and f64, without a copy where rows lie one after the other; f16 and bfloat16 become f32, integers f64.
    pub(crate) fn new(value: &Bound<'py, PyAny>, name: &str) -> PyResult<Self> {
        let array = array(value, name)?;
        if array.shape().len() != 2 {
            return Err(usage(format!(
                "{name} has shape {:?}; features are [samples, dimension]",
                array.shape()
            )));
        }
        if is_float(&array, 8) || is_integer(&array) {
            return Ok(Self::F64(contiguous(&array, "float64")?.extract()?));
        }
        if is_float(&array, 4) || is_float(&array, 2) {
            return Ok(Self::F32(contiguous(&array, "float32")?.extract()?));
        }
        Err(wrong_type(&array, name, "float32"))
    }

    pub(crate) fn floats(&self) -> PyResult<Floats<'_>> {
        let failed = |error: numpy::AsSliceError| usage(error.to_string());
        Ok(match self {
            Self::F32(array) => Floats::F32(array.as_slice().map_err(failed)?),
            Self::F64(array) => Floats::F64(array.as_slice().map_err(failed)?),
        })
    }

    fn shape(&self) -> &[usize] {
        match self {
            Self::F32(array) => array.shape(),
            Self::F64(array) => array.shape(),
        }
    }

    /// The number of samples; an error unless they have this dimension.
    pub(crate) fn samples(&self, dim: usize, name: &str) -> PyResult<usize> {
        rows(self.shape(), dim, name)
    }

    pub(crate) fn dim(&self) -> usize {
        self.shape().last().copied().unwrap_or(0)
    }
}

fn is_integer(array: &Bound<'_, PyUntypedArray>) -> bool {
    matches!(array.dtype().kind(), b'i' | b'u')
}

/// Labels `[n]`: integers from 0 to 2³² − 1.
pub(crate) fn labels(value: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    let array = array(value, "labels")?;
    if array.shape().len() != 1 {
        return Err(usage(format!("labels have shape {:?}; they are [samples]", array.shape())));
    }
    if !is_integer(&array) {
        return Err(wrong_type(&array, "labels", "int64"));
    }
    let array: PyReadonlyArrayDyn<'_, i64> = contiguous(&array, "int64")?.extract()?;
    let labels = array.as_slice().map_err(|error| usage(error.to_string()))?;
    let label = |(at, &label): (usize, &i64)| {
        u32::try_from(label)
            .map_err(|_| usage(format!("label {label} of sample {at} is not from 0 to 4294967295")))
    };
    labels.iter().enumerate().map(label).collect()
}

/// Features before and after a task, or features and labels. It stops when the caller wants that.
pub(crate) struct Source<'a> {
    dim: usize,
    before: Floats<'a>,
    after: Option<Floats<'a>>,
    labels: Option<&'a [u32]>,
    next: usize,
    watch: &'a Watch,
    fingerprinter: Fingerprinter,
}

/// The samples `first..last`.
fn part(floats: Floats<'_>, dim: usize, first: usize, last: usize) -> Floats<'_> {
    match floats {
        Floats::F32(values) => Floats::F32(&values[first * dim..last * dim]),
        Floats::F64(values) => Floats::F64(&values[first * dim..last * dim]),
    }
}

impl<'a> Source<'a> {
    pub(crate) fn new(
        dim: usize,
        before: Floats<'a>,
        after: Option<Floats<'a>>,
        labels: Option<&'a [u32]>,
        watch: &'a Watch,
    ) -> Self {
        Self { dim, before, after, labels, next: 0, watch, fingerprinter: Fingerprinter::default() }
    }
}

impl FeatureSource for Source<'_> {
    fn dim(&self) -> usize {
        self.dim
    }

    fn rows(&self) -> Option<u64> {
        Some((self.before.len() / self.dim.max(1)) as u64)
    }

    fn read(&mut self, most: usize, block: &mut FeatureBlock) -> Result<usize, CompensateError> {
        if self.watch.stop() {
            // The exception of the signal takes its place.
            return Err(CompensateError::Empty("a source that was stopped".into()));
        }
        let first = self.next;
        let last = (first + most).min(self.before.len() / self.dim.max(1));
        let part = |floats| part(floats, self.dim, first, last);
        block.push_floats(
            part(self.before),
            self.after.map(part),
            self.labels.map(|labels| &labels[first..last]),
        )?;
        self.next = last;
        self.fingerprinter.read(block, last - first);
        Ok(last - first)
    }

    fn rewind(&mut self) -> Result<(), CompensateError> {
        self.next = 0;
        self.fingerprinter.rewind();
        Ok(())
    }

    fn fingerprints(&self) -> Vec<Fingerprint> {
        self.fingerprinter.get().cloned().into_iter().collect()
    }

    fn is_double(&self) -> bool {
        matches!(self.before, Floats::F64(_)) || matches!(self.after, Some(Floats::F64(_)))
    }
}
