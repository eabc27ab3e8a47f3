//! What the tests of split, materialize and verify share: small checkpoints, and the split done the plain way.
#![allow(dead_code, reason = "every test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "only tests use it")]

use std::path::{Path, PathBuf};

use half::{bf16, f16};
use residua_format::file::{Checkpoint, Container, Dtype, SafetensorsWriter};
use residua_format::{BaseKind, Coder, Grid, quantize_row};
use residua_memory::Budget;
use residua_split::{
    MaterializeOptions, MaterializeReport, NoProgress, Output, SplitError, SplitOptions, SplitReport,
    VerifyOptions, VerifyReport, materialize, split, verify,
};

/// A tensor to write: name, type, shape, bytes.
pub(crate) struct Dense {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Dense {
    pub(crate) fn new(name: &str, dtype: Dtype, shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|&v| narrow(dtype, v)).collect();
        Self { name: name.to_owned(), dtype, shape: shape.to_vec(), bytes }
    }

    pub(crate) fn raw(name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Self {
        Self { name: name.to_owned(), dtype, shape: shape.to_vec(), bytes }
    }

    pub(crate) fn values(&self) -> Vec<f32> {
        widen(self.dtype, &self.bytes)
    }
}

pub(crate) fn narrow(dtype: Dtype, value: f32) -> Vec<u8> {
    match dtype {
        Dtype::F32 => value.to_le_bytes().to_vec(),
        Dtype::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
        Dtype::BF16 => bf16::from_f32(value).to_le_bytes().to_vec(),
        other => panic!("no float: {other}"),
    }
}

pub(crate) fn widen(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        other => panic!("no float: {other}"),
    }
}

/// A directory with files in it.
pub(crate) struct Bench(pub(crate) tempfile::TempDir);

impl Bench {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, tensors: &[Dense]) -> PathBuf {
        let path = self.path(name);
        let mut writer = SafetensorsWriter::create(&path, 4096).unwrap();
        writer.metadata("format", "pt");
        for tensor in tensors {
            writer.tensor(&tensor.name, tensor.dtype, &tensor.shape, &tensor.bytes).unwrap();
        }
        writer.finish().unwrap();
        path
    }

    /// Splits `name` into `name.split`.
    pub(crate) fn split(&self, name: &str, options: &SplitOptions) -> Result<SplitReport, SplitError> {
        self.split_within(name, options, &Budget::unlimited())
    }

    pub(crate) fn split_within(
        &self,
        name: &str,
        options: &SplitOptions,
        budget: &Budget,
    ) -> Result<SplitReport, SplitError> {
        split(self.path(name), Output(self.split_path(name)), options, budget, &NoProgress)
    }

    pub(crate) fn split_path(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.split"))
    }

    pub(crate) fn container(&self, name: &str) -> Container {
        Container::open(self.split_path(name)).unwrap()
    }

    /// Materializes `name.split` into `name.dense`.
    pub(crate) fn materialize(&self, name: &str, alpha: f32) -> Result<MaterializeReport, SplitError> {
        let budget = Budget::unlimited();
        let (output, options) =
            (Output(self.path(&format!("{name}.dense"))), MaterializeOptions::default().alpha(alpha));
        materialize(self.split_path(name), output, &options, &budget, &NoProgress)
    }

    /// A tensor of `name.dense`.
    pub(crate) fn dense(&self, name: &str, tensor: &str) -> Vec<u8> {
        bytes(&self.path(&format!("{name}.dense")), tensor)
    }

    pub(crate) fn verify(&self, name: &str) -> VerifyReport {
        let options = VerifyOptions::default().against(self.path(name));
        verify(self.split_path(name), &options, &Budget::unlimited(), &NoProgress).unwrap()
    }

    /// Names of all files.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub(crate) fn bytes(path: &Path, tensor: &str) -> Vec<u8> {
    let file = Checkpoint::open(path).unwrap();
    let info = file.expect_tensor(tensor).unwrap();
    let mut bytes = vec![0; info.bytes as usize];
    file.read_at(info, 0, &mut bytes).unwrap();
    bytes
}

/// The quantised base of a split tensor, as weights.
pub(crate) fn base(container: &Container, name: &str) -> Vec<f32> {
    let base = container.read_base(name, &Budget::unlimited()).unwrap();
    let mut weights = vec![0.0; base.rows() * base.cols()];
    weights.chunks_mut(base.cols()).enumerate().for_each(|(row, out)| base.dequantize_row(row, out));
    weights
}

/// The base whose scales follow from the largest magnitudes.
pub(crate) fn quantized(weights: &[f32], cols: usize, kind: BaseKind) -> Vec<f32> {
    let mut base = vec![0.0; weights.len()];
    let coder = Coder::from(Grid::from(kind));
    for (weights, base) in weights.chunks(cols).zip(base.chunks_mut(cols)) {
        let (mut codes, mut scales) = (vec![0; kind.row_bytes(cols)], vec![0.0; kind.groups(cols)]);
        quantize_row(weights, &coder, &mut codes, &mut scales).unwrap();
        coder.grid().dequantize_row(&codes, &scales, base);
    }
    base
}

/// Mean squares of columns.
pub(crate) fn mean_squares(weights: &[f32], cols: usize) -> Vec<f64> {
    let mut sums = vec![0.0; cols];
    for (i, &w) in weights.iter().enumerate() {
        sums[i % cols] += f64::from(w).powi(2);
    }
    let rows = (weights.len() / cols) as f64;
    sums.into_iter().map(|sum| sum / rows).collect()
}

/// All entries of a split tensor's residual, in row-major order: position, value.
pub(crate) fn entries(container: &Container, name: &str) -> Vec<(usize, f32)> {
    let gap = container.read_gap(name, &Budget::unlimited()).unwrap();
    let cols = gap.cols();
    (0..gap.rows()).flat_map(|row| gap.row(row).map(move |(c, v)| (row * cols + c as usize, v))).collect()
}

/// A generator of numbers that look like weights: bell-shaped, columns of different size.
pub(crate) fn weights(rows: usize, cols: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..rows * cols)
        .map(|i| {
            let bell: f32 = (0..6).map(|_| uniform()).sum::<f32>() - 3.0;
            bell * 0.02 * (1.0 + (i % cols % 7) as f32)
        })
        .collect()
}
