//! Arguments and random operands.

use half::{bf16, f16};
use residua_format::{BaseKind, Csr, DenseMatrix, DenseValues, QuantizedBase, ValueType};

use crate::Result;

/// What to measure.
pub(crate) struct Arguments {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) density: f64,
    pub(crate) matrices: usize,
    pub(crate) repeat: usize,
    pub(crate) batch: usize,
    only: Option<String>,
}

impl Arguments {
    pub(crate) fn from_args() -> Result<Self> {
        let mut arguments =
            Self { rows: 4096, cols: 11008, density: 0.05, matrices: 20, repeat: 9, batch: 32, only: None };
        let mut given = std::env::args().skip(1);
        while let Some(name) = given.next() {
            if name == "--bench" {
                continue; // What cargo passes.
            }
            let value = given.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--rows" => arguments.rows = value.parse()?,
                "--cols" => arguments.cols = value.parse()?,
                "--density" => arguments.density = value.parse()?,
                "--matrices" => arguments.matrices = value.parse()?,
                "--repeat" => arguments.repeat = value.parse()?,
                "--batch" => arguments.batch = value.parse()?,
                "--only" => arguments.only = Some(value),
                _ => return Err(format!("{name} is not an argument").into()),
            }
        }
        Ok(arguments)
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }
}

/// A xorshift generator (G. Marsaglia, *Xorshift RNGs*, J. Stat. Softw. 8, 2003).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(0x9E37_79B9_7F4A_7C15 ^ (seed << 17 | 1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Every place is there with probability `density`.
pub(crate) fn random_csr(seed: u64, rows: usize, cols: usize, density: f64) -> Result<Csr<f32, u32>> {
    let mut random = Random::new(seed);
    let threshold = (density * u64::MAX as f64) as u64;
    let (mut row_ptr, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
    for _ in 0..rows {
        for column in 0..cols as u32 {
            if random.next() < threshold {
                columns.push(column);
                values.push((random.next() % 2001) as f32 / 1000.0 - 1.0);
            }
        }
        row_ptr.push(columns.len() as u32);
    }
    Ok(Csr::new(rows, cols, row_ptr, columns, values)?)
}

/// Random codes with scales of 0.01.
pub(crate) fn random_base(seed: u64, rows: usize, cols: usize, kind: BaseKind) -> Result<QuantizedBase> {
    let mut random = Random::new(seed);
    let odd_end = kind != BaseKind::Int8 && cols % 2 == 1;
    let row_bytes = kind.row_bytes(cols);
    let mut codes: Vec<u8> = (0..rows * row_bytes).map(|_| random.next() as u8).collect();
    if odd_end {
        codes.iter_mut().skip(row_bytes - 1).step_by(row_bytes).for_each(|byte| *byte &= 0xF);
    }
    let scales = vec![0.01; rows * kind.groups(cols)];
    Ok(QuantizedBase::new(rows, cols, kind, codes.into(), scales.into())?)
}

/// Random weights from −1 to 1.
pub(crate) fn random_dense(
    seed: u64,
    rows: usize,
    cols: usize,
    value_type: ValueType,
) -> Result<DenseMatrix> {
    let mut random = Random::new(seed);
    let weights = (0..rows * cols).map(|_| (random.next() % 2001) as f32 / 1000.0 - 1.0);
    let values = match value_type {
        ValueType::F16 => DenseValues::F16(weights.map(f16::from_f32).collect()),
        ValueType::Bf16 => DenseValues::Bf16(weights.map(bf16::from_f32).collect()),
        _ => DenseValues::F32(weights.collect()),
    };
    Ok(DenseMatrix::new(rows, cols, values)?)
}
