//! A layer that runs.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use residua_backend::{AnyBase, AnyMatrix, AnyVector, Shaped, VectorShape};
use residua_format::{DenseMatrix, GapCsr, QuantizedBase};

use crate::Device;
use crate::error::{Error, Result};

/// A linear layer `y = base·x + alpha·(residual·x)` on a device. The dense matrix `base + alpha·residual` is never
/// built.
///
/// Inputs and outputs are row-major in ordinary memory: `[batch, in_features]` and `[batch, out_features]`, one vector
/// after the other. Any number of threads may run one layer at a time. The same input gives the same bits every time.
///
/// [`SplitFile::layer`](crate::SplitFile::layer) loads one from a file.
pub struct Layer {
    device: Device,
    name: String,
    base: Option<AnyBase>,
    residual: AnyMatrix,
    /// Vectors of the last call, kept for the next call with the same batch.
    spare: Mutex<Option<Vectors>>,
}

/// Input and output on the device.
struct Vectors {
    batch: usize,
    x: AnyVector,
    y: AnyVector,
}

/// The dense part of a layer.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Base<'a> {
    /// Codes and scales. Devices expand codes of a codebook to INT8.
    Quantized(&'a QuantizedBase),
    /// Weights in f32, f16 or bf16.
    Dense(&'a DenseMatrix),
    /// No dense part: the layer is `alpha·(residual·x)`.
    None,
}

impl Layer {
    /// Puts a layer onto a device. `name` is for error messages.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) when the shapes of base and residual differ,
    /// [`ErrorKind::Budget`](crate::ErrorKind::Budget) or [`ErrorKind::Device`](crate::ErrorKind::Device) when the
    /// device has no room.
    pub fn new(device: &Device, name: &str, base: Base<'_>, residual: &GapCsr) -> Result<Self> {
        let backend = device.backend();
        let base = match base {
            Base::Quantized(base) => Some(backend.upload_base(base)?),
            Base::Dense(base) => Some(backend.upload_dense(base)?),
            Base::None => None,
        };
        Self::of_parts(device, name, base, backend.upload(residual)?)
    }

    /// A layer whose parts are on the device already.
    pub(crate) fn of_parts(
        device: &Device,
        name: &str,
        base: Option<AnyBase>,
        residual: AnyMatrix,
    ) -> Result<Self> {
        if let Some(base) = &base {
            residua_backend::shape::check_layer("a layer", base, &residual)?;
        }
        Ok(Self { device: device.clone(), name: name.to_owned(), base, residual, spare: Mutex::new(None) })
    }

    /// Its name in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Values of one input.
    pub fn in_features(&self) -> usize {
        self.residual.shape()[1]
    }

    /// Values of one output.
    pub fn out_features(&self) -> usize {
        self.residual.shape()[0]
    }

    /// The device that it is on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The dense part on the device; `None` for a layer without one.
    pub fn base(&self) -> Option<&AnyBase> {
        self.base.as_ref()
    }

    /// The sparse part on the device.
    pub fn residual(&self) -> &AnyMatrix {
        &self.residual
    }

    /// Runs the layer: `x` is `[batch, in_features]`, the result `[batch, out_features]`, both row-major. With
    /// `alpha = 1` it is the whole model's layer, with `alpha = 0` the base alone.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) when `x` does not have `batch · in_features` values,
    /// [`ErrorKind::Budget`](crate::ErrorKind::Budget) or [`ErrorKind::Device`](crate::ErrorKind::Device) when the
    /// device has no room or fails.
    pub fn forward(&self, alpha: f32, x: &[f32], batch: usize) -> Result<Vec<f32>> {
        self.check("x", x.len(), batch, self.in_features())?;
        let mut y = vec![0.0; batch.saturating_mul(self.out_features())];
        self.forward_into(alpha, x, batch, &mut y)?;
        Ok(y)
    }

    /// As [`forward`](Self::forward), into a slice of `batch · out_features` values. For hot loops: calls with the same
    /// batch reuse their vectors on the device, which the layer keeps.
    ///
    /// # Errors
    /// As [`forward`](Self::forward); `y` is unchanged then.
    pub fn forward_into(&self, alpha: f32, x: &[f32], batch: usize, y: &mut [f32]) -> Result<()> {
        self.check("x", x.len(), batch, self.in_features())?;
        self.check("y", y.len(), batch, self.out_features())?;
        if batch == 0 {
            return Ok(());
        }
        let backend = self.device.backend();
        let mut vectors = match self.take_spare(batch) {
            Some(mut vectors) => {
                backend.write_rows(x, &mut vectors.x)?;
                vectors
            }
            None => Vectors {
                batch,
                x: backend.upload_rows(x, VectorShape { len: self.in_features(), batch })?,
                y: backend.zeros(VectorShape { len: self.out_features(), batch })?,
            },
        };
        self.forward_on_device(alpha, &vectors.x, &mut vectors.y)?;
        backend.read_rows(&vectors.y, y)?;
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(vectors);
        Ok(())
    }

    /// Runs the layer on vectors that are on the device already, in the device's [own layout](VectorShape): for chains
    /// of layers. Returns before the device is done.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_on_device(&self, alpha: f32, x: &AnyVector, y: &mut AnyVector) -> Result<()> {
        let backend = self.device.backend();
        match &self.base {
            Some(base) => backend.forward(base, &self.residual, alpha, x, y)?,
            None => backend.spmm(alpha, &self.residual, x, 0.0, y)?,
        }
        Ok(())
    }

    fn take_spare(&self, batch: usize) -> Option<Vectors> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        spare.filter(|vectors| vectors.batch == batch)
    }

    fn check(&self, operand: &'static str, found: usize, batch: usize, features: usize) -> Result<()> {
        let expected = batch.saturating_mul(features);
        if found == expected {
            return Ok(());
        }
        Err(Error::Operand { layer: self.name.clone(), operand, found, batch, features, expected })
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer")
            .field("name", &self.name)
            .field("shape", &self.residual.shape())
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}
