//! One matrix in every storage that a backend takes.

use residua_format::convert::{csr_to_coo, csr_to_gap};
use residua_format::{Coo, Csr, GapCsr, ValueType};

use super::data::{Data, Random};
use super::shapes::Shape;
use crate::reference::{self, Expected};
use crate::{Backend, BackendError};

/// The format of a matrix before its upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Storage {
    Gap(ValueType),
    Csr,
    Coo,
}

impl Storage {
    pub(super) const ALL: [Self; 6] = [
        Self::Gap(ValueType::F32),
        Self::Gap(ValueType::F16),
        Self::Gap(ValueType::Bf16),
        Self::Gap(ValueType::I8),
        Self::Csr,
        Self::Coo,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gap(value_type) => value_type.name(),
            Self::Csr => "csr",
            Self::Coo => "coo",
        }
    }
}

/// A matrix before its upload.
#[derive(Debug, Clone)]
pub(super) enum Operand {
    Gap(GapCsr),
    Csr(Csr<f32, u32>),
    Coo(Coo<f32, u32>),
}

impl Operand {
    pub(super) fn new(shape: &Shape, data: Data, storage: Storage) -> Result<Self, String> {
        let csr = shape.matrix(data)?;
        let operand = match storage {
            Storage::Gap(value_type) => csr_to_gap(&csr, value_type).map(Self::Gap),
            Storage::Csr => Ok(Self::Csr(csr)),
            Storage::Coo => csr_to_coo(&csr).and_then(shuffle).map(Self::Coo),
        };
        operand.map_err(|error| error.to_string())
    }

    pub(super) fn upload<B: Backend>(&self, backend: &B) -> Result<B::Matrix, BackendError> {
        match self {
            Self::Gap(gap) => backend.upload(gap),
            Self::Csr(csr) => backend.upload_csr(csr),
            Self::Coo(coo) => backend.upload_coo(coo),
        }
    }

    /// What `A·x` must be.
    pub(super) fn product(&self, x: &[f32], batch: usize) -> Vec<Expected> {
        match self {
            Self::Gap(gap) => reference::product(gap, x, batch),
            Self::Csr(csr) => reference::product(csr, x, batch),
            Self::Coo(coo) => reference::product(coo, x, batch),
        }
    }
}

/// Triplets in any order, every fifth value in two halves.
fn shuffle(coo: Coo<f32, u32>) -> Result<Coo<f32, u32>, residua_format::FormatError> {
    let (rows, cols) = (coo.rows(), coo.cols());
    let mut triplets = Vec::new();
    let (row_indices, col_indices, values) = coo.into_raw();
    for (i, value) in values.into_iter().enumerate() {
        let parts = if i % 5 == 0 { vec![value / 2.0; 2] } else { vec![value] };
        triplets.extend(parts.into_iter().map(|value| (row_indices[i], col_indices[i], value)));
    }
    let mut random = Random(5);
    for i in (1..triplets.len()).rev() {
        triplets.swap(i, random.below(i + 1));
    }
    let row_indices = triplets.iter().map(|triplet| triplet.0).collect();
    let col_indices = triplets.iter().map(|triplet| triplet.1).collect();
    Coo::new(rows, cols, row_indices, col_indices, triplets.into_iter().map(|triplet| triplet.2).collect())
}
