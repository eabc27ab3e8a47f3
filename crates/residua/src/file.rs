//! A file whose layers run.

use std::path::Path;

use residua_format::file::{Container, ContainerKind};
use residua_memory::BudgetError;
use residua_split::{BaseLocation, LayerBase};

use crate::error::Result;
use crate::{Base, Budget, Device, Layer};

/// A file with layers, open: what [`Job::split`](crate::Job::split) writes, or a container of single sparse matrices.
///
/// Opening reads the header alone. Everything that [`layer`](Self::layer) reads is validated first.
#[derive(Debug)]
pub struct SplitFile(Inner);

#[derive(Debug)]
enum Inner {
    Split(residua_split::SplitFile),
    Matrices(Container),
}

/// What a file says about one of its layers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerInfo {
    /// Its name: the name of the tensor that was split.
    pub name: String,
    /// `[out_features, in_features]`.
    pub shape: [usize; 2],
    /// Non-zeros of the residual.
    pub nnz: u64,
}

impl SplitFile {
    /// Opens a file.
    ///
    /// The base of a file that was split over another checkpoint is looked for at the path that the file stores, if
    /// that lies in the file's folder or below. If it is not found, [`layer`](Self::layer) fails and says so; open the
    /// file [with its base](Self::open_with_base) then.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when the file cannot be read,
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) when it is malformed or holds no layers, such as a delta.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let container = Container::open(path)?;
        Ok(Self(match container.kind() {
            ContainerKind::Matrix => Inner::Matrices(container),
            _ => Inner::Split(residua_split::SplitFile::from_container(container, &BaseLocation::Near)?),
        }))
    }

    /// Opens a file that was split over another checkpoint, `base`: a safetensors file, an index of shards or a folder.
    ///
    /// # Errors
    /// As [`open`](Self::open); also when `base` cannot be opened. Whether it is the right one is checked layer by
    /// layer.
    pub fn open_with_base(path: impl AsRef<Path>, base: impl AsRef<Path>) -> Result<Self> {
        Ok(Self(Inner::Split(residua_split::SplitFile::open_with_base(path, base)?)))
    }

    /// The container inside: metadata, planes, tensors that passed through.
    pub fn container(&self) -> &Container {
        match &self.0 {
            Inner::Split(file) => file.container(),
            Inner::Matrices(container) => container,
        }
    }

    /// The layers, in the order of the file.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = LayerInfo> {
        let matrices = self.container().matrices().iter();
        matrices.map(|(name, meta)| LayerInfo { name: name.clone(), shape: meta.shape, nnz: meta.nnz })
    }

    /// Loads a layer onto a device, within the device's budget.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) when there is no such layer, a part of it is malformed, or the
    /// base checkpoint is not the one that the file was made from; [`ErrorKind::Usage`](crate::ErrorKind::Usage) when
    /// the base checkpoint is missing; [`ErrorKind::Budget`](crate::ErrorKind::Budget) or
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) when there is no room.
    pub fn layer(&self, name: &str, device: &Device) -> Result<Layer> {
        let budget = device.budget();
        match &self.0 {
            Inner::Matrices(container) => {
                Layer::new(device, name, Base::None, &*container.read_gap(name, budget)?)
            }
            Inner::Split(file) => {
                let layer = file.layer(name)?;
                // One part at a time: what was read is dropped as soon as the device has it.
                let base = match layer.read_base(budget)? {
                    LayerBase::Quantized(base) => device.backend().upload_base(&base)?,
                    LayerBase::Dense(base) => device.backend().upload_dense(&base)?,
                };
                let residual = device.backend().upload(&*layer.read_residual(budget)?)?;
                Layer::of_parts(device, name, Some(base), residual)
            }
        }
    }

    /// The dense matrix of a layer, `base + alpha · residual`, row-major `[out_features, in_features]`.
    ///
    /// # Errors
    /// As [`layer`](Self::layer).
    pub fn dense(&self, name: &str, alpha: f32, budget: &Budget) -> Result<Vec<f32>> {
        let (base, residual) = match &self.0 {
            Inner::Matrices(container) => (None, container.read_gap(name, budget)?),
            Inner::Split(file) => {
                let layer = file.layer(name)?;
                (Some(layer.read_base(budget)?), layer.read_residual(budget)?)
            }
        };
        let (rows, cols) = (residual.rows(), residual.cols());
        let what = format!("the dense matrix of layer {name}");
        let count = rows.saturating_mul(cols);
        let bytes = (count as u64).saturating_mul(4);
        let _held = budget.reserve(bytes, &what)?;
        let mut dense = Vec::new();
        let refused = |_| BudgetError { what, requested: bytes, available: 0, limit: 0, minimum: bytes };
        dense.try_reserve_exact(count).map_err(refused)?;
        dense.resize(count, 0.0);
        for (row, weights) in dense.chunks_exact_mut(cols.max(1)).enumerate() {
            match &base {
                Some(LayerBase::Quantized(base)) => base.dequantize_row(row, weights),
                Some(LayerBase::Dense(base)) => {
                    weights
                        .iter_mut()
                        .enumerate()
                        .for_each(|(col, w)| *w = base.values().get(row * cols + col));
                }
                None => {}
            }
            // With alpha 0 the base alone, bit for bit: also its negative zeros.
            if alpha != 0.0 {
                residual.row(row).for_each(|(column, value)| weights[column as usize] += alpha * value);
            }
        }
        Ok(dense)
    }
}
