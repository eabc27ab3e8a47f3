//! The planes of a matrix, and their lengths and element types.

use safetensors::Dtype;

use super::MatrixMeta;
use crate::{BaseKind, ValueType};

/// One array of a matrix: the tensor `{name}.{suffix}` of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Plane {
    /// `row_ptr`, U32, rows + 1: where rows start in the value plane, in entries.
    RowPtr,
    /// `row_modes`, U8, rows: only where some row is not in gap mode.
    RowModes,
    /// `index_ptr`, U32, rows + 1: where rows start in the index plane, in bytes; goes with `row_modes`.
    IndexPtr,
    /// `gaps`, U8: the index plane.
    Gaps,
    /// `values`: F32, F16, BF16 or I8; U8, U16, U32 or U64 for raw bits.
    Values,
    /// `scales`, F32 or BF16, rows: with I8 values.
    Scales,
    /// `base`, U8: codes of the quantised base.
    Base,
    /// `base_scales`, F32 or F16, rows × groups.
    BaseScales,
    /// `base_levels`, I8: the levels of a codebook.
    BaseLevels,
}

impl Plane {
    /// Every plane, in the order in which [`ContainerWriter::write_gap`](super::ContainerWriter::write_gap)
    /// and [`write_base`](super::ContainerWriter::write_base) write them.
    pub const ALL: [Self; 9] = [
        Self::RowPtr,
        Self::RowModes,
        Self::IndexPtr,
        Self::Gaps,
        Self::Values,
        Self::Scales,
        Self::Base,
        Self::BaseScales,
        Self::BaseLevels,
    ];

    /// Whether it belongs to the quantised base.
    pub const fn of_base(self) -> bool {
        matches!(self, Self::Base | Self::BaseScales | Self::BaseLevels)
    }

    /// The suffix of its tensor's name.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::RowPtr => "row_ptr",
            Self::RowModes => "row_modes",
            Self::IndexPtr => "index_ptr",
            Self::Gaps => "gaps",
            Self::Values => "values",
            Self::Scales => "scales",
            Self::Base => "base",
            Self::BaseScales => "base_scales",
            Self::BaseLevels => "base_levels",
        }
    }

    /// The name of its tensor.
    pub fn tensor(self, matrix: &str) -> String {
        format!("{matrix}.{}", self.suffix())
    }

    /// Whether a matrix has this plane.
    pub fn belongs(self, meta: &MatrixMeta) -> bool {
        match self {
            Self::RowPtr | Self::Gaps | Self::Values => true,
            Self::RowModes | Self::IndexPtr => meta.row_modes,
            Self::Scales => meta.values == Some(ValueType::I8),
            Self::Base | Self::BaseScales => meta.base.is_some(),
            Self::BaseLevels => meta.base.is_some_and(BaseKind::is_codebook),
        }
    }

    /// The element types that it may have.
    pub(super) fn dtypes(self, meta: &MatrixMeta) -> &'static [Dtype] {
        match (self, meta.values) {
            (Self::RowPtr | Self::IndexPtr, _) => &[Dtype::U32],
            (Self::RowModes | Self::Gaps | Self::Base, _) => &[Dtype::U8],
            (Self::Scales, _) => &[Dtype::F32, Dtype::BF16],
            (Self::BaseScales, _) => &[Dtype::F32, Dtype::F16],
            (Self::BaseLevels, _) => &[Dtype::I8],
            (Self::Values, Some(ValueType::F32)) => &[Dtype::F32],
            (Self::Values, Some(ValueType::F16)) => &[Dtype::F16],
            (Self::Values, Some(ValueType::Bf16)) => &[Dtype::BF16],
            (Self::Values, Some(ValueType::I8)) => &[Dtype::I8],
            (Self::Values, None) => &[Dtype::U8, Dtype::U16, Dtype::U32, Dtype::U64],
        }
    }

    /// Elements of a matrix's plane, without padding; `None` if that is 2⁶⁴ or more.
    pub fn elements(self, meta: &MatrixMeta) -> Option<u64> {
        let [rows, cols] = meta.shape;
        let rows = rows as u64;
        match self {
            Self::RowPtr | Self::IndexPtr => rows.checked_add(1),
            Self::RowModes | Self::Scales => Some(rows),
            Self::Gaps => Some(meta.index_bytes),
            Self::Values => Some(meta.entries),
            Self::Base => meta.base.and_then(|kind| rows.checked_mul(kind.row_bytes(cols) as u64)),
            Self::BaseScales => meta.base.and_then(|kind| rows.checked_mul(kind.groups(cols) as u64)),
            Self::BaseLevels => meta.base.map(|kind| kind.levels() as u64),
        }
    }
}

/// What is wrong with a plane in a tensor of this element type and length, if anything. Up to `padding` bytes of the
/// length may be padding.
pub(super) fn check(
    plane: Plane,
    meta: &MatrixMeta,
    dtype: Dtype,
    bytes: u64,
    padding: usize,
) -> Option<String> {
    let dtypes = plane.dtypes(meta);
    if !dtypes.contains(&dtype) {
        return Some(format!("element type {dtype}, but the metadata demands {dtypes:?}"));
    }
    let size = dtype.bitsize() as u64 / 8;
    let needed = plane.elements(meta).and_then(|elements| elements.checked_mul(size));
    match needed {
        Some(needed) if (needed..=needed.saturating_add(padding as u64)).contains(&bytes) => None,
        Some(needed) => Some(format!("{bytes} bytes, but the metadata demands {needed}")),
        None => Some("the metadata demands more than 2^64 bytes".to_owned()),
    }
}

/// What is wrong with the metadata of a matrix, if anything.
pub(super) fn check_meta(meta: &MatrixMeta) -> Option<String> {
    let MatrixMeta { shape: [rows, cols], nnz, entries, index_bytes, .. } = *meta;
    let most = u64::from(u32::MAX);
    let elements =
        |shape: &[usize]| shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    if cols as u64 > most || entries > most || index_bytes > most {
        Some(format!("{cols} columns, {entries} entries, {index_bytes} index bytes: one is above {most}"))
    } else if nnz > entries {
        Some(format!("{nnz} non-zeros in {entries} entries"))
    } else if !meta.row_modes && index_bytes != entries {
        Some(format!("{index_bytes} index bytes for {entries} entries, and no row modes"))
    } else if elements(&[rows, cols]).is_none()
        || meta.tensor_shape.as_ref().is_some_and(|shape| elements(shape) != elements(&[rows, cols]))
    {
        let tensor = &meta.tensor_shape;
        Some(format!("shape [{rows}, {cols}] does not hold the elements of the tensor's shape {tensor:?}"))
    } else {
        None
    }
}
