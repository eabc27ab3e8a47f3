//! `residua convert IN OUT`.

use std::path::{Path, PathBuf};

use half::{bf16, f16};
use residua::format::convert::csr_to_gap;
use residua::format::file::{
    ContainerKind, ContainerWriter, Dense, FileError, FileMatrix, write_mtx_csr, write_npy, write_npz_csr,
};
use residua::format::{Csr, Duplicates, Value, ValueType};
use residua::memory::{Budget, Reservation};
use serde::Serialize;

use crate::args::{BudgetArgs, RunArgs, value_type};
use crate::destination;
use crate::escape;
use crate::failure::{Failure, Result};
use crate::matrix_file::{Format, csr_bytes, encoding_bytes, read, sorting_bytes};
use crate::notes;
use crate::output::{bytes, count, percent, print, print_json};

pub(crate) const EXAMPLE: &str = "\
Example:
  residua convert model.safetensors layer.npz --tensor layer.weight

The suffix selects the format: .npz (scipy CSR, COO, CSC, BSR, DIA), .mtx (Matrix Market), .npy (dense) or
.safetensors. The input may also be a checkpoint's folder or index. A .safetensors input may be a dense checkpoint
or a file of this program (of a split file it reads the residual); a .safetensors output is a file of this program.
Entries at the same place are summed. Without --values nothing is lost: numbers stay f32 if f32 holds all of them
exactly; otherwise they become f64. A file of this program holds at most f32: the command rounds fractions to f32
and refuses integers that f32 does not hold. It also refuses an integer that f64 does not hold exactly.";

/// The name for a matrix without a name.
const NAME: &str = "matrix";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The matrix to read
    input: PathBuf,
    /// Where to write it; replaced only when the run succeeded
    output: PathBuf,
    /// Round values to f32, f16, bf16 or (.safetensors only) i8
    #[arg(long, value_name = "TYPE", value_parser = value_type)]
    values: Option<ValueType>,
    /// The tensor to read, if a .safetensors input holds several
    #[arg(long, value_name = "NAME")]
    tensor: Option<String>,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Serialize)]
struct Done {
    name: String,
    shape: [usize; 2],
    nnz: usize,
    density: f64,
    /// Type of the values written.
    values: &'static str,
    output_bytes: u64,
}

pub(crate) fn run(args: &Args) -> Result {
    let format = Format::of(&args.output)?;
    if args.values == Some(ValueType::I8) && format != Format::Safetensors {
        return Err(Failure::usage("--values i8 needs the scales of a .safetensors output"));
    }
    args.run.start()?;
    let budget = args.budget.budget()?;
    destination::check(&args.output, [&*args.input])?;
    let loaded = read(&args.input, args.tensor.as_deref(), &budget)?;
    let name = loaded.name.unwrap_or_else(|| NAME.to_owned());
    let (csr, _held) = sorted(loaded.matrix, loaded.held, &args.input, format, &budget)?;
    let (shape, nnz, density) = ([csr.rows(), csr.cols()], csr.nnz(), csr.density());
    let values = write(csr, &name, args, format, &budget)?;
    let done = Done {
        name,
        shape,
        nnz,
        density,
        values,
        output_bytes: std::fs::metadata(&args.output).map_err(FileError::io(&args.output, "read"))?.len(),
    };
    if args.run.json {
        return print_json(&done);
    }
    print(format!(
        "{}×{}, {} non-zeros ({}), {values}; wrote {} to {}",
        done.shape[0],
        done.shape[1],
        count(done.nnz as u64),
        percent(done.density),
        bytes(done.output_bytes),
        escape::path(&args.output)
    ))
}

/// Sorted rows, and the reservation for them.
fn sorted(
    matrix: FileMatrix<f64>,
    held: Reservation,
    input: &Path,
    format: Format,
    budget: &Budget,
) -> Result<(Csr<f64>, Reservation)> {
    let (entries, limit) = (matrix.nnz(), 2f64.powi(53));
    // Refused before the work is done.
    let writing = csr_bytes(matrix.shape()[0], entries) + writing_bytes(matrix.shape(), entries, format);
    let sorting = sorting_bytes(&matrix);
    budget.require(writing.saturating_sub(held.bytes()).max(sorting), "writing the matrix")?;
    let sorting = budget.reserve(sorting, "sorted rows")?;
    // Each integer may be exact while their sum is not.
    let inexact = match &matrix {
        FileMatrix::Coo(coo) => {
            let whole = coo.values().iter().all(|value| value.fract() == 0.0 && value.abs() <= limit);
            whole && coo.values().iter().map(|value| value.abs()).sum::<f64>() >= limit
        }
        _ => false,
    };
    let csr = matrix.into_csr(Duplicates::Sum).map_err(FileError::matrix(input, NAME))?;
    if inexact && csr.nnz() < entries {
        let problem = "entries at the same place add up beyond 2^53, where f64 does not hold every integer";
        return Err(Failure::input(input, problem));
    }
    // The input and the memory for sorting are freed; the rows remain.
    drop((held, sorting));
    let held = budget.reserve(csr_bytes(csr.rows(), csr.nnz()), "sorted rows")?;
    Ok((csr, held))
}

/// The minimum of memory that writing takes beside the sorted rows.
fn writing_bytes([rows, cols]: [usize; 2], nnz: usize, format: Format) -> u64 {
    match format {
        Format::Safetensors => encoding_bytes(rows, nnz),
        Format::Npy => (rows as u64).saturating_mul(cols as u64).saturating_mul(2),
        // The rounded values, f16 at least.
        Format::Npz | Format::Mtx => 2 * nnz as u64,
    }
}

/// Writes the matrix; returns the type of the values written.
fn write(csr: Csr<f64>, name: &str, args: &Args, format: Format, budget: &Budget) -> Result<&'static str> {
    let (input, output) = (&*args.input, &*args.output);
    if format == Format::Safetensors {
        if args.values.is_none() {
            expect_f32(&csr, input)?;
        }
        let values = args.values.unwrap_or(ValueType::F32);
        let _held = budget.reserve(encoding_bytes(csr.rows(), csr.nnz()), "gap-encoded rows")?;
        let gap = csr_to_gap(&csr, values)?;
        let mut writer = ContainerWriter::create(output, ContainerKind::Matrix, 4096)?;
        writer.write_gap(name, &gap)?;
        writer.finish()?;
        return Ok(values.name());
    }
    let out = Output { input, output, format, budget };
    match args.values {
        None if csr.values().iter().all(is_f32) => out.write::<f32>(csr, "f32", |v| v as f32),
        None => out.write::<f64>(csr, "f64", |v| v),
        // numpy has no bfloat16: write its values as f32.
        Some(ValueType::Bf16) => out.write::<f32>(csr, "bf16", |v| bf16::from_f64(v).to_f32()),
        Some(ValueType::F16) => out.write::<f16>(csr, "f16", <f16 as Value>::from_f64),
        Some(_) => out.write::<f32>(csr, "f32", |v| v as f32),
    }
}

fn is_f32(value: &f64) -> bool {
    f64::from(*value as f32).to_bits() == value.to_bits()
}

/// Refuses integers that f32 does not hold, and notes how many fractions it rounds to f32.
fn expect_f32(csr: &Csr<f64>, input: &Path) -> Result {
    if let Some(at) = csr.values().iter().position(|value| value.fract() == 0.0 && !is_f32(value)) {
        let problem = "is too large for f32 to hold it exactly; --values f32 rounds it";
        return Err(Failure::input(input, format!("{} {problem}", described(csr, at))));
    }
    let rounded = csr.values().iter().filter(|value| value.is_finite() && !is_f32(value)).count();
    if rounded > 0 {
        notes::note(&format!("rounded to f32, the widest type of the format: {rounded} values"));
    }
    Ok(())
}

/// An entry's place and value.
fn described(csr: &Csr<f64>, entry: usize) -> String {
    let row = csr.row_ptr().partition_point(|&start| start as usize <= entry) - 1;
    let value = csr.values()[entry];
    let digits = if value.abs() < 1e16 { value.to_string() } else { format!("{value:e}") };
    format!("row {row}, column {}: {digits}", csr.col_indices()[entry])
}

/// Where a matrix goes, and what it came from.
struct Output<'a> {
    input: &'a Path,
    output: &'a Path,
    format: Format,
    budget: &'a Budget,
}

impl Output<'_> {
    /// Rounds the values to the type `name` and writes them.
    fn write<V: Value>(
        &self,
        csr: Csr<f64>,
        name: &'static str,
        round: impl Fn(f64) -> V,
    ) -> Result<&'static str> {
        let size = size_of::<V>() as u64;
        let finite = |value: V| value.to_f64().is_finite();
        if let Some(at) = csr.values().iter().position(|&value| value.is_finite() && !finite(round(value))) {
            let problem = format!("{} is too large for {name}", described(&csr, at));
            return Err(Failure::input(self.input, problem));
        }
        let zeros =
            csr.values().iter().filter(|&&value| value != 0.0 && round(value) == V::default()).count();
        if zeros > 0 {
            notes::note(&format!("too small for {name}, and 0 now: {zeros} values"));
        }
        let (rows, cols) = (csr.rows(), csr.cols());
        if self.format == Format::Npy {
            let places = (rows as u64).saturating_mul(cols as u64);
            let _held = self.budget.reserve(places.saturating_mul(size), "the dense matrix")?;
            let mut dense = vec![V::default(); rows * cols];
            for row in 0..rows {
                let (columns, values) = csr.row(row);
                for (&column, &value) in columns.iter().zip(values) {
                    dense[row * cols + column as usize] = round(value);
                }
            }
            write_npy(self.output, &Dense::new(vec![rows, cols], dense)?)?;
            return Ok(name);
        }
        let _held = self.budget.reserve(csr.nnz() as u64 * size, "the rounded values")?;
        let (pointers, columns, values) = csr.into_raw();
        let values = values.into_iter().map(round).collect();
        let rounded = Csr::new(rows, cols, pointers, columns, values)?;
        match self.format {
            Format::Mtx => write_mtx_csr(self.output, &rounded)?,
            _ => write_npz_csr(self.output, &rounded)?,
        }
        Ok(name)
    }
}
