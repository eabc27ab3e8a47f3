//! The options of each job.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use residua_format::{BaseKind, ValueType};
use residua_memory::ErrorKind;

use crate::{BaseLocation, DeltaOp};

/// What the residual is measured from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseSpec {
    /// The tensor itself at low precision. The split file holds it.
    Quantized(BaseKind),
    /// The tensor of the same name and shape in another checkpoint; the residual is then the fine-tune's delta. The
    /// split file holds only its hash.
    Checkpoint(PathBuf),
}

impl BaseSpec {
    /// The path of the checkpoint, if the base is one.
    pub fn checkpoint(&self) -> Option<&Path> {
        match self {
            Self::Checkpoint(path) => Some(path),
            Self::Quantized(_) => None,
        }
    }
}

impl From<BaseKind> for BaseSpec {
    fn from(kind: BaseKind) -> Self {
        Self::Quantized(kind)
    }
}

impl From<PathBuf> for BaseSpec {
    fn from(path: PathBuf) -> Self {
        Self::Checkpoint(path)
    }
}

/// A text that names neither a kind of base nor an existing checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is neither a base kind ({}) nor an existing path", BaseKind::ALL.map(BaseKind::name).join(", "))]
pub struct ParseBaseError {
    text: String,
}

impl ParseBaseError {
    /// What kind of failure it is: [`ErrorKind::Usage`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
}

impl FromStr for BaseSpec {
    type Err = ParseBaseError;

    /// Reads the name of a base kind (`int4`, `int4-g64`, `lut4`, `int8`, …) or the path of a checkpoint.
    ///
    /// # Errors
    /// When the text is no kind's name and nothing exists at that path.
    fn from_str(text: &str) -> Result<Self, ParseBaseError> {
        if let Some(kind) = BaseKind::ALL.into_iter().find(|kind| kind.name() == text) {
            return Ok(Self::Quantized(kind));
        }
        match Path::new(text).exists() {
            true => Ok(Self::Checkpoint(text.into())),
            false => Err(ParseBaseError { text: text.to_owned() }),
        }
    }
}

/// The importance `h` of each input feature. The score of a weight is `residual² · h`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Importance {
    /// Mean squares or second moments of the layer's input features, measured on calibration inputs. The file is a
    /// safetensors file. For every tensor that is split it holds an f32 tensor under the same name: `[cols]` mean
    /// squares, or `[blocks, n, n]` second moments in diagonal blocks (`docs/format.md` has the rules). With second
    /// moments, what a column of a quantised base loses is made up for by the columns to its right.
    Calibration(PathBuf),
    /// The mean square of the weight's column. On real weights the error is a little larger than with
    /// [`Uniform`](Self::Uniform).
    ColumnMeanSquare,
    /// 1 for every feature: the sum of squared errors is what counts.
    Uniform,
}

impl Importance {
    /// The path of the calibration file, if there is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Calibration(path) => Some(path),
            Self::ColumnMeanSquare | Self::Uniform => None,
        }
    }
}

/// Which weights enter the residual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Selection {
    /// The `round(density · rows · cols)` weights with the highest scores in each tensor; of equal scores the first
    /// in row-major order. From 0 to 1.
    Density(f64),
    /// Every weight with a score of at least this and a residual other than 0.
    Threshold(f32),
    /// So many bits per weight over all tensors that are split, scales and places included. The job chooses the kind of
    /// base (a codebook of 2 to 6 bits, or what [`SplitOptions::bases`] fixes) and the density of each tensor, so that
    /// the sum of their errors becomes small.
    Bits(f64),
    /// As [`Bits`](Self::Bits), with as many as make the file so many bytes: tensors that pass through and header
    /// included.
    Size(u64),
}

/// Options of [`split`](crate::split()).
///
/// The default: base `lut4-g16`, all features equally important, density 1.5 %, i8 values, every
/// linear layer, hashes of the planes.
///
/// ```
/// use residua_format::{BaseKind, ValueType};
/// use residua_split::SplitOptions;
///
/// let options = SplitOptions::default()
///     .base(BaseKind::Int4G64)
///     .density(0.02)
///     .values(ValueType::Bf16)
///     .base_for("*embed*", BaseKind::Int8)
///     .exclude(["*.mlp.*"]);
/// assert_eq!(options.bases.len(), 1);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SplitOptions {
    /// What the residual is measured from.
    pub base: BaseSpec,
    /// Bases of tensors whose name matches a glob pattern (`*`, `?`, `[…]`); the first match counts. Only where the
    /// base of the others is quantised, too. A tensor that matches is split even if its name says that it should not
    /// be.
    pub bases: Vec<(String, BaseKind)>,
    /// The importance of the input features.
    pub importance: Importance,
    /// Which weights enter the residual.
    pub selection: Selection,
    /// How the residual's values are stored.
    pub values: ValueType,
    /// Glob patterns (`*`, `?`, `[…]`) of tensor names that pass through unchanged, such as `*embed*`.
    pub exclude: Vec<String>,
    /// If not empty, exactly the matrices whose name matches one of these patterns are split, less those that
    /// [`exclude`](Self::exclude) names. If empty, embeddings, output heads, norms, routers and biases pass through:
    /// they suffer most or have few weights. `*` splits every matrix.
    pub include: Vec<String>,
    /// Whether the file holds the BLAKE3 hash of every plane, so that [`verify`](crate::verify()) and
    /// [`materialize`](crate::materialize()) find a value that changed into another valid value.
    pub hashes: bool,
}

impl Default for SplitOptions {
    fn default() -> Self {
        Self {
            base: BaseSpec::Quantized(BaseKind::Lut4G16),
            bases: Vec::new(),
            importance: Importance::Uniform,
            selection: Selection::Density(0.015),
            values: ValueType::I8,
            exclude: Vec::new(),
            include: Vec::new(),
            hashes: true,
        }
    }
}

impl SplitOptions {
    /// The default for a base. Over another checkpoint it is a density of 5 % and bf16 values: a fine-tune changes
    /// weights by little, and the residual is all that the file holds of it.
    pub fn for_base(base: impl Into<BaseSpec>) -> Self {
        let options = Self::default().base(base);
        match options.base {
            BaseSpec::Quantized(_) => options,
            BaseSpec::Checkpoint(_) => options.density(0.05).values(ValueType::Bf16),
        }
    }

    /// Sets what the residual is measured from.
    pub fn base(mut self, base: impl Into<BaseSpec>) -> Self {
        self.base = base.into();
        self
    }

    /// Sets the base of tensors whose name matches a pattern and none before it.
    pub fn base_for(mut self, pattern: impl Into<String>, kind: BaseKind) -> Self {
        self.bases.push((pattern.into(), kind));
        self
    }

    /// Sets the importance of the input features.
    pub fn importance(mut self, importance: Importance) -> Self {
        self.importance = importance;
        self
    }

    /// Selects this share of each tensor's weights, from 0 to 1. Replaces a threshold.
    pub fn density(mut self, density: f64) -> Self {
        self.selection = Selection::Density(density);
        self
    }

    /// Chooses kind of base and density of each tensor, for so many bits per weight. Replaces a density, a threshold
    /// and the kind of the base.
    pub fn bits(mut self, bits: f64) -> Self {
        self.selection = Selection::Bits(bits);
        self
    }

    /// Chooses kind of base and density of each tensor, for a file of so many bytes. Replaces a density, a threshold
    /// and the kind of the base.
    pub fn size(mut self, bytes: u64) -> Self {
        self.selection = Selection::Size(bytes);
        self
    }

    /// Whether a pattern of [`bases`](Self::bases) matches a tensor's name.
    pub(crate) fn fixes_base(&self, name: &str) -> bool {
        let matches = |(glob, _): &(String, _)| glob::Pattern::new(glob).is_ok_and(|glob| glob.matches(name));
        self.bases.iter().any(matches)
    }

    /// Selects every weight with a score of at least this. Replaces a density.
    pub fn threshold(mut self, threshold: f32) -> Self {
        self.selection = Selection::Threshold(threshold);
        self
    }

    /// Sets how the residual's values are stored.
    pub fn values(mut self, values: ValueType) -> Self {
        self.values = values;
        self
    }

    /// Adds patterns of tensor names that pass through unchanged.
    pub fn exclude(mut self, patterns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.exclude.extend(patterns.into_iter().map(Into::into));
        self
    }

    /// Adds patterns of tensor names that are split; all others pass through unchanged.
    pub fn include(mut self, patterns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.include.extend(patterns.into_iter().map(Into::into));
        self
    }

    /// Sets whether the file holds the hash of every plane.
    pub fn hashes(mut self, hashes: bool) -> Self {
        self.hashes = hashes;
        self
    }
}

/// Options of [`materialize`](crate::materialize()). The default: alpha 1, the base near the file.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MaterializeOptions {
    /// The residual's scale: 1 gives the whole model, 0 the base alone.
    pub alpha: f32,
    /// Where to look for the base checkpoint of a file that holds only hashes of its bases.
    pub base: BaseLocation,
}

impl Default for MaterializeOptions {
    fn default() -> Self {
        Self { alpha: 1.0, base: BaseLocation::Near }
    }
}

impl MaterializeOptions {
    /// Sets the residual's scale.
    pub fn alpha(mut self, alpha: f32) -> Self {
        self.alpha = alpha;
        self
    }

    /// Names the base checkpoint.
    pub fn base(mut self, base: impl Into<PathBuf>) -> Self {
        self.base = BaseLocation::At(base.into());
        self
    }

    /// Follows the path to the base that the file stores, wherever it leads.
    pub fn follow_base(mut self) -> Self {
        self.base = BaseLocation::Stored;
        self
    }
}

/// Options of [`verify`](crate::verify()). The default: no comparison, the base near the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// Where to look for the base checkpoint of a file that holds only hashes of its bases.
    pub base: BaseLocation,
    /// The checkpoint to compare the file with.
    pub against: Option<PathBuf>,
    /// A calibration file, as for [`Importance::Calibration`], to measure the error of the layers' outputs with. Only
    /// with a checkpoint to compare with.
    pub calibration: Option<PathBuf>,
}

impl VerifyOptions {
    /// Names the base checkpoint.
    pub fn base(mut self, base: impl Into<PathBuf>) -> Self {
        self.base = BaseLocation::At(base.into());
        self
    }

    /// Follows the path to the base that the file stores, wherever it leads.
    pub fn follow_base(mut self) -> Self {
        self.base = BaseLocation::Stored;
        self
    }

    /// Names the checkpoint to compare the file with.
    pub fn against(mut self, checkpoint: impl Into<PathBuf>) -> Self {
        self.against = Some(checkpoint.into());
        self
    }

    /// Names the calibration file to measure the error of outputs with.
    pub fn calibration(mut self, file: impl Into<PathBuf>) -> Self {
        self.calibration = Some(file.into());
        self
    }
}

/// Options of [`diff`](crate::diff()). The default: the new bits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DiffOptions {
    /// How the delta stores a changed element.
    pub op: DeltaOp,
}

impl DiffOptions {
    /// Sets how the delta stores a changed element.
    pub fn op(mut self, op: DeltaOp) -> Self {
        self.op = op;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_a_kind_or_an_existing_path() {
        assert_eq!("int4-g64".parse(), Ok(BaseSpec::Quantized(BaseKind::Int4G64)));
        let here = env!("CARGO_MANIFEST_DIR");
        assert_eq!(here.parse(), Ok(BaseSpec::Checkpoint(here.into())));
        let error = "int5".parse::<BaseSpec>().unwrap_err();
        let text = "\"int5\" is neither a base kind (int4, int4-g32, int4-g64, int4-g128, int8, \
                    lut2, lut3, lut4, lut5, lut6, lut3-g16, lut3-g32, lut4-g16, lut4-g32, lut5-g16, lut5-g32) nor an existing path";
        assert_eq!((error.to_string().as_str(), error.kind()), (text, ErrorKind::Usage));
    }
}
