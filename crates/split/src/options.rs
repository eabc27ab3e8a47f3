//! What a split is asked for.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use residua_format::{BaseKind, ValueType};

/// What the residual is measured from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseSpec {
    /// The tensor itself at low precision; stored in the file.
    Quantized(BaseKind),
    /// The tensor of the same name and shape in another checkpoint, so that the residual is the fine-tune
    /// delta. Not stored: the file holds its hash.
    Checkpoint(PathBuf),
}

impl BaseSpec {
    /// The checkpoint that the residual is measured from, where it is one.
    pub fn checkpoint(&self) -> Option<&Path> {
        match self {
            Self::Checkpoint(path) => Some(path),
            Self::Quantized(_) => None,
        }
    }
}

impl FromStr for BaseSpec {
    type Err = Infallible;

    /// A base kind by its name (`int4`, `int4-g64`, `int8`, …), anything else is a path.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let kind = BaseKind::ALL.into_iter().find(|kind| kind.name() == text);
        Ok(kind.map_or_else(|| Self::Checkpoint(text.into()), Self::Quantized))
    }
}

/// The weight `h` of each input feature in a residual's score, `residual² · h`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Importance {
    /// Mean squares of the layer's input features, measured on calibration inputs: a safetensors file that
    /// holds, for every tensor that is split, a 1-D f32 tensor of `cols` elements under the same name.
    Calibration(PathBuf),
    /// The mean square of the weight's column.
    ColumnMeanSquare,
    /// 1 for every feature.
    Uniform,
}

impl Importance {
    /// The file that the weights are read from, where there is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Calibration(path) => Some(path),
            Self::ColumnMeanSquare | Self::Uniform => None,
        }
    }
}

/// Which scores enter the residual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Selection {
    /// The `round(density · rows · cols)` highest of each tensor; of equal scores the first in row-major
    /// order. 0 to 1.
    Density(f64),
    /// Every weight whose score `residual² · h` is at least this, zero residuals left out.
    Threshold(f32),
}

/// What a split is asked for. The default: INT4 base with a scale per row, column mean squares, density
/// 5 %, bf16 values, no tensor excluded.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitOptions {
    /// What the residual is measured from.
    pub base: BaseSpec,
    /// Weights of the input features.
    pub importance: Importance,
    /// Which scores enter the residual.
    pub selection: Selection,
    /// How the residual's values are stored.
    pub values: ValueType,
    /// Glob patterns (`*`, `?`, `[…]`) of tensor names that pass through untouched, such as `*embed*`.
    pub exclude: Vec<String>,
    /// Where not empty, only tensors whose name matches one of these patterns are split.
    pub include: Vec<String>,
}

impl Default for SplitOptions {
    fn default() -> Self {
        Self {
            base: BaseSpec::Quantized(BaseKind::Int4),
            importance: Importance::ColumnMeanSquare,
            selection: Selection::Density(0.05),
            values: ValueType::Bf16,
            exclude: Vec::new(),
            include: Vec::new(),
        }
    }
}
