//! Kinds of quantised bases.

use serde::{Deserialize, Serialize};

/// How a base is quantised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BaseKind {
    /// 4-bit codes, one scale per row.
    Int4,
    /// 4-bit codes, one scale per 32 columns of a row.
    Int4G32,
    /// 4-bit codes, one scale per 64 columns of a row.
    Int4G64,
    /// 4-bit codes, one scale per 128 columns of a row.
    Int4G128,
    /// 8-bit codes, one scale per row.
    Int8,
}

impl BaseKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Int4, Self::Int4G32, Self::Int4G64, Self::Int4G128, Self::Int8];

    /// Its name, as files spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int4 => "int4",
            Self::Int4G32 => "int4-g32",
            Self::Int4G64 => "int4-g64",
            Self::Int4G128 => "int4-g128",
            Self::Int8 => "int8",
        }
    }

    /// Columns that share a scale, for rows of `cols` columns (at least 1).
    pub const fn group(self, cols: usize) -> usize {
        match self {
            Self::Int4 | Self::Int8 => {
                if cols == 0 {
                    1
                } else {
                    cols
                }
            }
            Self::Int4G32 => 32,
            Self::Int4G64 => 64,
            Self::Int4G128 => 128,
        }
    }

    /// Scales of a row of `cols` columns.
    pub const fn groups(self, cols: usize) -> usize {
        cols.div_ceil(self.group(cols))
    }

    /// Bytes of codes of a row of `cols` columns. Every row starts at a whole byte.
    pub const fn row_bytes(self, cols: usize) -> usize {
        match self {
            Self::Int8 => cols,
            _ => cols.div_ceil(2),
        }
    }

    /// The largest code. Quantising uses its negative as the smallest code, so the negation of a code is a code. A
    /// base from another program may also hold the code one below that.
    pub const fn max_code(self) -> i8 {
        match self {
            Self::Int8 => 127,
            _ => 7,
        }
    }

    /// The largest scale. Any code times this scale is finite.
    pub const fn max_scale(self) -> f32 {
        match self {
            Self::Int8 => f32::MAX / 128.0,
            _ => f32::MAX / 8.0,
        }
    }
}

impl std::fmt::Display for BaseKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
