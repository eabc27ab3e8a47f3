//! How a weight of a base is stored.

use residua_format::{BaseKind, ValueType};

use crate::abi::LANES;
use crate::kernels::Module;

/// The code of a weight; a word holds one or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// 4-bit integers, with scales.
    Int4,
    /// 8-bit integers, with scales.
    Int8,
    F32,
    F16,
    Bf16,
}

impl Code {
    pub(super) fn of(kind: BaseKind) -> Self {
        if kind.expanded() == BaseKind::Int8 { Self::Int8 } else { Self::Int4 }
    }

    pub(super) fn bits(self) -> usize {
        match self {
            Self::Int4 => 4,
            Self::Int8 => 8,
            Self::F16 | Self::Bf16 => 16,
            Self::F32 => 32,
        }
    }

    /// Columns of a tile: each of 32 lanes has one word.
    pub(super) fn tile(self) -> usize {
        LANES * 32 / self.bits()
    }

    /// A word of zero weights. Integers are stored without sign: half their range is added.
    pub(super) fn zeros(self) -> u32 {
        match self {
            Self::Int4 => 0x8888_8888,
            Self::Int8 => 0x8080_8080,
            Self::F32 | Self::F16 | Self::Bf16 => 0,
        }
    }

    /// The kernel of a layer whose residual has values of a type, for a single vector or a larger batch.
    pub(crate) fn forward(self, residual: ValueType, single: bool) -> (Module, &'static str) {
        let (module, kernels) = match self {
            Self::Int4 => (Module::Gap(residual), ["forward_int4_b1", "forward_int4_b8"]),
            Self::Int8 => (Module::Gap(residual), ["forward_int8_b1", "forward_int8_b8"]),
            Self::F32 => (Module::Dense(residual), ["forward_f32_b1", "forward_f32_b8"]),
            Self::F16 => (Module::Dense(residual), ["forward_f16_b1", "forward_f16_b8"]),
            Self::Bf16 => (Module::Dense(residual), ["forward_bf16_b1", "forward_bf16_b8"]),
        };
        (module, kernels[usize::from(!single)])
    }
}
