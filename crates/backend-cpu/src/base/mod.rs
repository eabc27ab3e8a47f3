//! How a base lies in memory.

mod codes;
mod floats;
pub(crate) mod packed;

use half::{bf16, f16};
use residua_backend::{Activations, BackendError, Shaped};
use residua_format::{DenseMatrix, DenseValues, QuantizedBase};
use residua_memory::Budget;

use crate::pool::Pool;
pub(crate) use codes::{CodeOrder, CodesView, eight_codes, row_bytes};
pub(crate) use floats::FloatsView;
pub(crate) use packed::PackedView;

/// A dense matrix of codes or floats, laid out for vector loads.
///
/// Rows are padded with zeros to a multiple of 64 columns. Floats keep their stored type. An INT8 row is its codes. An
/// INT4 row has 32 bytes for each 64 columns: nibble `k` of the little-endian u32 `i` is the code of column `8·k + i`. So
/// a shift of all eight words by `4·k` bits leaves eight neighbouring columns in the eight lanes.
///
/// For [`Activations::I8`] codes lie in strips of 16 rows: four columns of one row, then of the next. Four-bit codes, also those
/// of a codebook, stay four bits.
#[derive(Debug)]
pub struct CpuBase(Weights);

#[derive(Debug)]
enum Weights {
    Codes(codes::Codes),
    Packed(packed::Packed),
    F32(floats::Floats<f32>),
    F16(floats::Floats<f16>),
    Bf16(floats::Floats<bf16>),
}

/// A base as the kernels read it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum BaseView<'a> {
    Codes(CodesView<'a>),
    Packed(PackedView<'a>),
    F32(FloatsView<'a, f32>),
    F16(FloatsView<'a, f16>),
    Bf16(FloatsView<'a, bf16>),
}

impl CpuBase {
    pub(crate) fn quantized(
        pool: &Pool,
        base: &QuantizedBase,
        activations: Activations,
        budget: &Budget,
    ) -> Result<Self, BackendError> {
        Ok(Self(match activations {
            Activations::I8 => Weights::Packed(packed::Packed::new(pool, base, budget)?),
            _ => Weights::Codes(codes::Codes::new(pool, base, budget)?),
        }))
    }

    pub(crate) fn dense(pool: &Pool, base: &DenseMatrix, budget: &Budget) -> Result<Self, BackendError> {
        let shape = [base.rows(), base.cols()];
        Ok(Self(match base.values() {
            DenseValues::F32(values) => Weights::F32(floats::Floats::new(pool, shape, values, budget)?),
            DenseValues::F16(values) => Weights::F16(floats::Floats::new(pool, shape, values, budget)?),
            DenseValues::Bf16(values) => Weights::Bf16(floats::Floats::new(pool, shape, values, budget)?),
        }))
    }

    pub(crate) fn view(&self) -> BaseView<'_> {
        match &self.0 {
            Weights::Codes(codes) => BaseView::Codes(codes.view()),
            Weights::Packed(packed) => BaseView::Packed(packed.view()),
            Weights::F32(floats) => BaseView::F32(floats.view()),
            Weights::F16(floats) => BaseView::F16(floats.view()),
            Weights::Bf16(floats) => BaseView::Bf16(floats.view()),
        }
    }

    /// The order of its codes, if they are packed for integer products.
    pub(crate) fn packed(&self) -> Option<packed::Order> {
        match &self.0 {
            Weights::Packed(packed) => Some(packed.view().order),
            _ => None,
        }
    }

    /// Bytes that it takes in memory.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Weights::Codes(codes) => codes.bytes(),
            Weights::Packed(packed) => packed.bytes(),
            Weights::F32(floats) => floats.bytes(),
            Weights::F16(floats) => floats.bytes(),
            Weights::Bf16(floats) => floats.bytes(),
        }
    }
}

impl Shaped for CpuBase {
    fn shape(&self) -> [usize; 2] {
        match self.view() {
            BaseView::Codes(base) => base.shape,
            BaseView::Packed(base) => base.shape,
            BaseView::F32(base) => base.shape,
            BaseView::F16(base) => base.shape,
            BaseView::Bf16(base) => base.shape,
        }
    }
}

fn too_large(shape: [usize; 2]) -> BackendError {
    BackendError::TooLarge { what: "a base", shape, limit: isize::MAX as u64, unit: "bytes" }
}
