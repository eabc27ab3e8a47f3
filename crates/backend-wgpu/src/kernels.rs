//! The sources of the shaders, joined from the files in `wgsl`.
//!
//! One source serves all uses of a kernel. Types of values and sizes of workgroups are pipeline constants. WGSL has
//! no constants for the rest, so the kernel is joined with one small file for each choice: the cell that a thread
//! works on, how a team of threads adds up, and how the base of a layer is decoded.

use residua_format::ValueType;

/// A kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// `y = alpha·A·x + beta·y` for a gap-encoded matrix.
    GapSpmm,
    /// `y = base·x + alpha·(residual·x)` for a quantised base.
    GapForward,
    /// `y = base·x + alpha·(residual·x)` for a dense base of floats.
    GapForwardDense,
    /// Adds up the segments of long rows.
    SegmentSum,
    /// `y = beta·y`.
    Scale,
    /// `y = alpha·A·x + beta·y` for plain CSR.
    CsrSpmv,
}

/// What a thread reads of `x` and adds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cell {
    /// One value.
    One,
    /// Four neighbouring values of a batch.
    Four,
}

/// Pipeline constants by name.
pub(crate) type Constants = Vec<(&'static str, u32)>;

/// A type of values as the shaders number it: `F32`, `F16`, `BF16`, `I8`.
pub(crate) fn value_code(value_type: ValueType) -> u32 {
    match value_type {
        ValueType::F32 => 0,
        ValueType::F16 => 1,
        ValueType::Bf16 => 2,
        ValueType::I8 => 3,
    }
}

// Copies of `kernels/wgsl` at the top of the repository. `cargo xtask kernels` writes them.
macro_rules! wgsl {
    ($name:literal) => {
        include_str!(concat!("../wgsl/", $name, ".wgsl"))
    };
}

impl Kernel {
    /// Every kernel.
    pub const ALL: [Self; 6] = [
        Self::GapSpmm,
        Self::GapForward,
        Self::GapForwardDense,
        Self::SegmentSum,
        Self::Scale,
        Self::CsrSpmv,
    ];

    /// Its name, in errors and in tools that watch a device.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GapSpmm => "gap_spmm",
            Self::GapForward => "gap_forward",
            Self::GapForwardDense => "gap_forward_dense",
            Self::SegmentSum => "segment_sum",
            Self::Scale => "scale",
            Self::CsrSpmv => "csr_spmv",
        }
    }

    /// The cells that it is used with.
    pub const fn cells(self) -> &'static [Cell] {
        match self {
            Self::CsrSpmv => &[Cell::One],
            _ => &[Cell::One, Cell::Four],
        }
    }

    /// Whether its threads add up in teams.
    pub const fn has_teams(self) -> bool {
        matches!(self, Self::GapSpmm | Self::GapForward | Self::GapForwardDense | Self::CsrSpmv)
    }

    /// Its source, with or without subgroup operations.
    pub fn source(self, cell: Cell, subgroups: bool) -> String {
        let cell = match cell {
            Cell::One => wgsl!("cell_1"),
            Cell::Four => wgsl!("cell_4"),
        };
        let team = match (self.has_teams(), subgroups) {
            (false, _) => "",
            (true, false) => wgsl!("team_workgroup"),
            (true, true) => wgsl!("team_subgroup"),
        };
        let kernel: &[&str] = match self {
            Self::GapSpmm => &[wgsl!("gap_slice"), wgsl!("gap_spmm")],
            Self::GapForward => &[wgsl!("gap_slice"), wgsl!("base_codes"), wgsl!("gap_forward")],
            Self::GapForwardDense => &[wgsl!("gap_slice"), wgsl!("base_floats"), wgsl!("gap_forward")],
            Self::SegmentSum => &[wgsl!("segment_sum")],
            Self::Scale => &[wgsl!("scale")],
            Self::CsrSpmv => &[wgsl!("csr_spmv")],
        };
        [&[cell, team], kernel].concat().concat()
    }

    /// Its storage bindings from number 1 on: whether the kernel writes each.
    pub(crate) const fn bindings(self) -> &'static [bool] {
        match self {
            Self::GapSpmm => &[false, false, false, true, true],
            Self::GapForward => &[false, false, false, true, true, false, false],
            Self::GapForwardDense => &[false, false, false, true, true, false],
            Self::SegmentSum => &[false, false, true],
            Self::Scale => &[true],
            Self::CsrSpmv => &[false, false, false, false, true],
        }
    }
}
