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
    /// 2-bit codes of a codebook, one scale per row. A codebook holds the levels that the codes of a tensor stand for.
    Lut2,
    /// 3-bit codes of a codebook, one scale per row.
    Lut3,
    /// 4-bit codes of a codebook, one scale per row.
    Lut4,
    /// 5-bit codes of a codebook, one scale per row.
    Lut5,
    /// 6-bit codes of a codebook, one scale per row.
    Lut6,
    /// 3-bit codes of a codebook, one scale per row, and a 4-bit multiplier of it per 16 columns.
    Lut3G16,
    /// 3-bit codes of a codebook, one scale per row, and a 4-bit multiplier of it per 32 columns.
    Lut3G32,
    /// 4-bit codes of a codebook, one scale per row, and a 4-bit multiplier of it per 16 columns.
    Lut4G16,
    /// 4-bit codes of a codebook, one scale per row, and a 4-bit multiplier of it per 32 columns.
    Lut4G32,
    /// 5-bit codes of a codebook, one scale per row, and a 4-bit multiplier of it per 16 columns.
    Lut5G16,
    /// 5-bit codes of a codebook, one scale per row, and a 4-bit multiplier of it per 32 columns.
    Lut5G32,
}

impl BaseKind {
    /// Every kind.
    pub const ALL: [Self; 16] = [
        Self::Int4,
        Self::Int4G32,
        Self::Int4G64,
        Self::Int4G128,
        Self::Int8,
        Self::Lut2,
        Self::Lut3,
        Self::Lut4,
        Self::Lut5,
        Self::Lut6,
        Self::Lut3G16,
        Self::Lut3G32,
        Self::Lut4G16,
        Self::Lut4G32,
        Self::Lut5G16,
        Self::Lut5G32,
    ];

    /// Its name, as files spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int4 => "int4",
            Self::Int4G32 => "int4-g32",
            Self::Int4G64 => "int4-g64",
            Self::Int4G128 => "int4-g128",
            Self::Int8 => "int8",
            Self::Lut2 => "lut2",
            Self::Lut3 => "lut3",
            Self::Lut4 => "lut4",
            Self::Lut5 => "lut5",
            Self::Lut6 => "lut6",
            Self::Lut3G16 => "lut3-g16",
            Self::Lut3G32 => "lut3-g32",
            Self::Lut4G16 => "lut4-g16",
            Self::Lut4G32 => "lut4-g32",
            Self::Lut5G16 => "lut5-g16",
            Self::Lut5G32 => "lut5-g32",
        }
    }

    /// Bits of a code.
    pub const fn bits(self) -> usize {
        match self {
            Self::Lut2 => 2,
            Self::Lut3 | Self::Lut3G16 | Self::Lut3G32 => 3,
            Self::Int4 | Self::Int4G32 | Self::Int4G64 | Self::Int4G128 => 4,
            Self::Lut4 | Self::Lut4G16 | Self::Lut4G32 => 4,
            Self::Lut5 | Self::Lut5G16 | Self::Lut5G32 => 5,
            Self::Lut6 => 6,
            Self::Int8 => 8,
        }
    }

    /// Number of levels of the codebook; 0 if codes are integers that stand for themselves.
    pub const fn levels(self) -> usize {
        match self {
            Self::Int4 | Self::Int4G32 | Self::Int4G64 | Self::Int4G128 | Self::Int8 => 0,
            _ => 1 << self.bits(),
        }
    }

    /// Whether codes are places in a codebook.
    pub const fn is_codebook(self) -> bool {
        self.levels() > 0
    }

    /// The kind of a base whose codes are the multiples of the scale: itself, or INT8 for a codebook.
    pub const fn expanded(self) -> Self {
        if self.is_codebook() { Self::Int8 } else { self }
    }

    /// Columns that share a scale, for rows of `cols` columns (at least 1).
    pub const fn group(self, cols: usize) -> usize {
        match self {
            Self::Int4G32 => 32,
            Self::Int4G64 => 64,
            Self::Int4G128 => 128,
            _ => {
                if cols == 0 {
                    1
                } else {
                    cols
                }
            }
        }
    }

    /// Scales of a row of `cols` columns.
    pub const fn groups(self, cols: usize) -> usize {
        cols.div_ceil(self.group(cols))
    }

    /// Columns that share a multiplier of the row's scale; `None` if there are no multipliers.
    pub const fn block(self) -> Option<usize> {
        match self {
            Self::Lut3G16 | Self::Lut4G16 | Self::Lut5G16 => Some(16),
            Self::Lut3G32 | Self::Lut4G32 | Self::Lut5G32 => Some(32),
            _ => None,
        }
    }

    /// Multipliers of a row of `cols` columns.
    pub const fn blocks(self, cols: usize) -> usize {
        match self.block() {
            Some(block) => cols.div_ceil(block),
            None => 0,
        }
    }

    /// Bytes of a row of `cols` columns: multipliers, then codes. Every row starts at a whole byte.
    pub const fn row_bytes(self, cols: usize) -> usize {
        // Without the product of bits and columns, which may not fit.
        self.multiplier_bytes(cols) + cols / 8 * self.bits() + (cols % 8 * self.bits()).div_ceil(8)
    }

    /// Bytes of a row's multipliers, two in a byte.
    pub(super) const fn multiplier_bytes(self, cols: usize) -> usize {
        self.blocks(cols).div_ceil(2)
    }

    /// The bits of a row's last byte that codes use.
    pub const fn last_byte_mask(self, cols: usize) -> u8 {
        match cols % 8 * self.bits() % 8 {
            0 => u8::MAX,
            used => (1 << used) - 1,
        }
    }

    /// The largest multiple of the scale: the largest code, or the largest level that quantising chooses. Its negative
    /// is the smallest, so the negation of a code is a code. A base from another program may also hold the one below
    /// that.
    pub const fn max_code(self) -> i8 {
        match self {
            Self::Int4 | Self::Int4G32 | Self::Int4G64 | Self::Int4G128 => 7,
            _ => 127,
        }
    }

    /// The largest scale. Any code times this scale is finite.
    pub const fn max_scale(self) -> f32 {
        f32::MAX / (self.max_code() as f32 + 1.0)
    }
}

impl std::fmt::Display for BaseKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
