//! Reports of split, materialize and verify.

use residua_format::BaseKind;
use residua_format::file::TensorInfo;
use residua_memory::{Budget, BudgetError, Reservation};
use serde::Serialize;

/// Memory of the texts and the shape of a tensor in a report, without its name.
const TEXTS: u64 = 256;

/// Reserves the memory of a report with an entry `T` for each of these tensors.
pub(crate) fn reserve_report<'a, T>(
    names: impl Iterator<Item = &'a str>,
    budget: &Budget,
) -> Result<Reservation, BudgetError> {
    let (count, bytes) = names.fold((0, 0), |(count, bytes), name| (count + 1, bytes + name.len() as u64));
    budget.reserve_table(report_bytes::<T>(count, bytes), "the report of every tensor")
}

/// Memory of a report with `count` entries `T` and names of `names` bytes together.
pub(crate) fn report_bytes<T>(count: u64, names: u64) -> u64 {
    count * (size_of::<T>() as u64 + TEXTS) + names
}

/// One plane of a tensor in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlaneBytes {
    /// Its suffix: `gaps`, `values`, `base`, …
    pub plane: String,
    /// Its bytes, without padding.
    pub bytes: u64,
}

/// A tensor that was split.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// `[rows, cols]` = `[out_features, in_features]`; of a stack of experts' matrices the rows of all.
    pub shape: [usize; 2],
    /// Its dtype in the input, as safetensors spells it.
    pub dtype: String,
    /// How the base is quantised; `None` if it is another checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseKind>,
    /// Non-zeros of the residual.
    pub nnz: u64,
    /// `nnz / (rows · cols)`.
    pub density: f64,
    /// The lowest score (`residual² · h`) in the residual; 0 if the residual is empty.
    pub lowest_score: f64,
    /// Bytes of each plane in the file.
    pub planes: Vec<PlaneBytes>,
    /// The Frobenius norm of W.
    pub norm: f64,
    /// Relative Frobenius error of the base alone, `‖W − base‖ / ‖W‖`; 0 if W is zero.
    pub base_error: f64,
    /// Relative Frobenius error of base + residual, before rounding to the dtype of W.
    pub error: f64,
}

impl TensorReport {
    /// Bytes of the base's planes.
    pub fn base_bytes(&self) -> u64 {
        self.planes.iter().filter(|p| p.plane.starts_with("base")).map(|p| p.bytes).sum()
    }

    /// Bytes of the residual's planes.
    pub fn residual_bytes(&self) -> u64 {
        self.planes.iter().map(|p| p.bytes).sum::<u64>() - self.base_bytes()
    }
}

/// Why a tensor passed through a split. The text is what it is, in the plural.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PassReason {
    /// Its name is that of an embedding.
    #[error("embeddings")]
    Embedding,
    /// Its name is that of a layer that gives scores of tokens or classes.
    #[error("output heads")]
    OutputHead,
    /// Its name is that of a norm.
    #[error("norms")]
    Norm,
    /// Its name is that of a router of experts.
    #[error("routers")]
    Router,
    /// Its name is that of a bias or a state, not of the weight of a linear layer.
    #[error("biases and states")]
    NotLinear,
    /// It is empty, or neither a matrix nor a stack of experts' matrices.
    #[error("vectors and other shapes")]
    NotMatrix,
    /// Its elements are not F32, F16 or BF16.
    #[error("of other types")]
    NotFloat,
    /// A pattern of [`SplitOptions::exclude`](crate::SplitOptions::exclude) matches.
    #[error("excluded")]
    Excluded,
    /// No pattern of [`SplitOptions::include`](crate::SplitOptions::include) matches.
    #[error("not included")]
    NotIncluded,
}

/// A tensor that passed through unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PassedTensor {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its dtype, as safetensors spells it.
    pub dtype: String,
    /// Its bytes.
    pub bytes: u64,
    /// Why `split` let it pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<PassReason>,
}

impl PassedTensor {
    pub(crate) fn of(info: &TensorInfo) -> Self {
        let dtype = info.dtype.to_string();
        Self { name: info.name.clone(), shape: info.shape.clone(), dtype, bytes: info.bytes, reason: None }
    }
}

/// What [`split`](crate::split()) did.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct SplitReport {
    /// Tensors that were split, in the order of the file.
    pub tensors: Vec<TensorReport>,
    /// Tensors that passed through.
    pub passed: Vec<PassedTensor>,
    /// Bytes of the input's tensors.
    pub input_bytes: u64,
    /// Bytes of the output file.
    pub output_bytes: u64,
}

impl SplitReport {
    /// Parameters of the tensors that were split.
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().map(|t| t.shape[0] as u64 * t.shape[1] as u64).sum()
    }

    /// Non-zeros of all residuals.
    pub fn nnz(&self) -> u64 {
        self.tensors.iter().map(|t| t.nnz).sum()
    }

    /// Relative Frobenius error of all tensors together, base and residual; 0 if nothing was split.
    pub fn error(&self) -> f64 {
        overall(self.tensors.iter().map(|t| (t.norm, t.error)))
    }

    /// The same for the bases alone.
    pub fn base_error(&self) -> f64 {
        overall(self.tensors.iter().map(|t| (t.norm, t.base_error)))
    }

    /// Bytes of all bases.
    pub fn base_bytes(&self) -> u64 {
        self.tensors.iter().map(TensorReport::base_bytes).sum()
    }

    /// Bytes of all residuals.
    pub fn residual_bytes(&self) -> u64 {
        self.tensors.iter().map(TensorReport::residual_bytes).sum()
    }
}

/// A tensor rebuilt from base and residual.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MaterializedTensor {
    /// Its name.
    pub name: String,
    /// `[rows, cols]`; of a stack of experts' matrices the rows of all.
    pub shape: [usize; 2],
    /// Its dtype, as safetensors spells it.
    pub dtype: String,
    /// Non-zeros of the residual that was added.
    pub nnz: u64,
}

/// What [`materialize`](crate::materialize()) did.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct MaterializeReport {
    /// The residual's scale.
    pub alpha: f32,
    /// Tensors rebuilt.
    pub tensors: Vec<MaterializedTensor>,
    /// Tensors copied.
    pub passed: Vec<PassedTensor>,
    /// Bytes of the file written.
    pub output_bytes: u64,
}

/// A tensor that was checked.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct VerifiedTensor {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its dtype in the original checkpoint, as safetensors spells it.
    pub dtype: String,
    /// Whether the file holds it as base and residual; `false` for a tensor that passed through.
    pub split: bool,
    /// Non-zeros of the residual; 0 for a tensor that passed through.
    pub nnz: u64,
    /// What is wrong with it; `None` if it is valid.
    pub problem: Option<String>,
    /// Why it cannot be compared with the checkpoint's tensor, or how it differs although it must be equal.
    pub mismatch: Option<String>,
    /// The Frobenius norm of the checkpoint's tensor W, if the two were compared.
    pub norm: Option<f64>,
    /// Relative Frobenius error of the base alone against the checkpoint, `‖W − base‖ / ‖W‖`.
    pub base_error: Option<f64>,
    /// Relative Frobenius error of base + residual against the checkpoint, before rounding to its dtype.
    pub error: Option<f64>,
    /// Largest absolute difference of base + residual from the checkpoint.
    pub max_abs_error: Option<f64>,
    /// Relative error of the layer's outputs, `√(tr(E·H·Eᵀ) / tr(W·H·Wᵀ))`, if there is a calibration for the layer: E
    /// is the error of base + residual, and H are the second moments of the inputs or their diagonal.
    pub output_error: Option<f64>,
}

/// What [`verify`](crate::verify()) found.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Every tensor of the file, then every tensor of the checkpoint that the file lacks (with a mismatch).
    pub tensors: Vec<VerifiedTensor>,
}

impl VerifyReport {
    /// Relative Frobenius error of all tensors that were split and compared, base and residual together; `None` if
    /// there are none.
    pub fn error(&self) -> Option<f64> {
        self.overall(|tensor| tensor.error)
    }

    /// The same for the bases alone.
    pub fn base_error(&self) -> Option<f64> {
        self.overall(|tensor| tensor.base_error)
    }

    /// The root of the mean square of the layers' output errors; `None` if there are none.
    pub fn output_error(&self) -> Option<f64> {
        let squares: Vec<f64> = self.tensors.iter().filter_map(|t| t.output_error).map(|e| e * e).collect();
        (!squares.is_empty()).then(|| (squares.iter().sum::<f64>() / squares.len() as f64).sqrt())
    }

    fn overall(&self, error: impl Fn(&VerifiedTensor) -> Option<f64>) -> Option<f64> {
        let mut errors = self.tensors.iter().filter_map(|t| t.norm.zip(error(t))).peekable();
        errors.peek().is_some().then(|| overall(errors))
    }

    /// Whether no tensor has a problem.
    pub fn is_valid(&self) -> bool {
        self.tensors.iter().all(|tensor| tensor.problem.is_none())
    }

    /// Whether no tensor has a mismatch with the checkpoint.
    pub fn matches(&self) -> bool {
        self.tensors.iter().all(|tensor| tensor.mismatch.is_none())
    }
}

/// The relative error of several tensors together, from the norm and the relative error of each.
fn overall(errors: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (squares, all) = errors.fold((0.0, 0.0), |(squares, all), (norm, error)| {
        (squares + (norm * error).powi(2), all + norm.powi(2))
    });
    (squares / f64::max(all, f64::MIN_POSITIVE)).sqrt()
}
