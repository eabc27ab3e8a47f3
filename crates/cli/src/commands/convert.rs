//! `residua convert IN OUT`.

use std::path::{Path, PathBuf};

use half::{bf16, f16};
use residua::format::convert::csr_to_gap;
use residua::format::file::{
    ContainerWriter, Dense, FileError, Kind as ContainerKind, write_mtx_csr, write_npy, write_npz_csr,
};
use residua::format::{Csr, Duplicates, Value, ValueType};
use residua::memory::Budget;
use serde::Serialize;

use crate::args::{BudgetArgs, RunArgs, value_type};
use crate::destination;
use crate::escape;
use crate::failure::{Failure, Result};
use crate::matrix_file::{Format, read};
use crate::output::{bytes, count, percent, print, print_json};

pub(crate) const EXAMPLE: &str = "\
Example:
  residua convert model.safetensors layer.npz --tensor layer.weight

Formats go by suffix: .npz (scipy CSR, COO, CSC), .mtx (Matrix Market), .npy (dense) and .safetensors. A
.safetensors input may be a dense checkpoint or a file of this program (of a split file: the residual);
as output it is this program's own format. Entries at the same place are added up. Without --values
nothing is lost: numbers stay f32 where all of them are exactly that, else they become f64; this
program's own format holds at most f32.";

/// The name of a matrix that has none.
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
    /// Which tensor of a .safetensors input, where it holds several
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
    destination::check(&args.output, [&*args.input])?;
    args.run.start()?;
    let budget = args.budget.budget()?;
    let loaded = read(&args.input, args.tensor.as_deref(), &budget)?;
    // Sorting makes a second copy.
    let entries = loaded.matrix.nnz() as u64;
    let _sorting = budget.reserve(entries * (4 + 8), "sorted rows")?;
    let csr = loaded.matrix.into_csr(Duplicates::Sum).map_err(FileError::matrix(&args.input, NAME))?;
    let name = loaded.name.unwrap_or_else(|| NAME.to_owned());
    let values = write(&csr, &name, &args.output, format, args.values, &budget)?;
    drop(loaded.held);
    let done = Done {
        name,
        shape: [csr.rows(), csr.cols()],
        nnz: csr.nnz(),
        density: csr.density(),
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

/// Writes the matrix; returns the type of the values written.
fn write(
    csr: &Csr<f64>,
    name: &str,
    output: &Path,
    format: Format,
    values: Option<ValueType>,
    budget: &Budget,
) -> Result<&'static str> {
    if format == Format::Safetensors {
        let values = values.unwrap_or(ValueType::F32);
        // Columns and values while rows are encoded, then both planes.
        let _held = budget.reserve(csr.nnz() as u64 * 16, "gap-encoded rows")?;
        let gap = csr_to_gap(csr, values)?;
        let mut writer = ContainerWriter::create(output, ContainerKind::Matrix, 4096)?;
        writer.write_gap(name, &gap)?;
        writer.finish()?;
        return Ok(values.name());
    }
    let exact = |v: &f64| f64::from(*v as f32).to_bits() == v.to_bits();
    match values {
        None if csr.values().iter().all(exact) => typed::<f32>(csr, output, format, budget, |v| v as f32),
        None => typed::<f64>(csr, output, format, budget, |v| v),
        // numpy has no bfloat16: its values, as f32.
        Some(ValueType::Bf16) => {
            typed::<f32>(csr, output, format, budget, |v| bf16::from_f64(v).to_f32()).map(|_| "bf16")
        }
        Some(ValueType::F16) => typed::<f16>(csr, output, format, budget, f16::from_f64),
        Some(_) => typed::<f32>(csr, output, format, budget, |v| v as f32),
    }
}

fn typed<V: Value>(
    csr: &Csr<f64>,
    output: &Path,
    format: Format,
    budget: &Budget,
    round: impl Fn(f64) -> V,
) -> Result<&'static str> {
    let name = std::any::type_name::<V>().rsplit("::").next().unwrap_or_default();
    let size = size_of::<V>() as u64;
    if format == Format::Npy {
        let (rows, cols) = (csr.rows(), csr.cols());
        let places = (rows as u64).saturating_mul(cols as u64);
        let _held = budget.reserve(places.saturating_mul(size), "the dense matrix")?;
        let mut dense = vec![V::default(); rows * cols];
        for row in 0..rows {
            let (columns, values) = csr.row(row);
            for (&column, &value) in columns.iter().zip(values) {
                dense[row * cols + column as usize] = round(value);
            }
        }
        write_npy(output, &Dense::new(vec![rows, cols], dense)?)?;
        return Ok(name);
    }
    let _held =
        budget.reserve(csr.nnz() as u64 * (4 + size) + 4 * csr.rows() as u64, "the rounded matrix")?;
    let values = csr.values().iter().map(|&value| round(value)).collect();
    let (pointers, columns) = (csr.row_ptr().to_vec(), csr.col_indices().to_vec());
    let rounded = Csr::new(csr.rows(), csr.cols(), pointers, columns, values)?;
    match format {
        Format::Mtx => write_mtx_csr(output, &rounded)?,
        _ => write_npz_csr(output, &rounded)?,
    }
    Ok(name)
}
