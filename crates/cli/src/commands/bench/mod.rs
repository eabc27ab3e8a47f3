//! `residua bench`: times sparse products on this machine.

mod random;
mod serve;

use std::path::PathBuf;
use std::time::Instant;

use residua::backend::Backend;
use residua::cpu::{CpuBackend, CpuMatrix, CpuVector};
use residua::format::convert::csr_to_gap;
use residua::format::file::{Checkpoint, Container};
use residua::format::{Csr, Duplicates, GapCsr, ValueType};
use residua::memory::Budget;
use serde::Serialize;

use crate::args::{BudgetArgs, RunArgs, share, value_type};
use crate::failure::{Failure, Result};
use crate::matrix_file::read;
use crate::output::{bytes, count, print, print_json, table};

pub(crate) const EXAMPLE: &str = "\
Examples:
  residua bench --shape 512x2048 --matrices 2 --batch 1,8 --threads 1
  residua bench split.safetensors --batch 1 --repetitions 3

Every repetition multiplies all matrices once, in turn, so that matrices larger together than the caches
are read from memory. Configurations take turns within a repetition.";

/// Which backend computes.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum BackendArg {
    /// This machine's processor
    Cpu,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Matrices to multiply with, of any kind that convert reads [default: random ones]
    file: Option<PathBuf>,
    /// Where to compute
    #[arg(long, value_enum, default_value = "cpu")]
    backend: BackendArg,
    /// Shape of random matrices, rows × columns
    #[arg(long, value_name = "RxC", default_value = "4096x11008", value_parser = shape)]
    shape: [usize; 2],
    /// Density of random matrices
    #[arg(long, value_name = "SHARE", default_value = "0.05", value_parser = share)]
    density: f64,
    /// Number of random matrices
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u16).range(1..))]
    matrices: u16,
    /// Seed of random matrices
    #[arg(long, value_name = "SEED", default_value = "0")]
    seed: u64,
    /// How values are stored: f32, f16, bf16 or i8
    #[arg(long, value_name = "TYPE", default_value = "bf16", value_parser = value_type)]
    values: ValueType,
    /// Numbers of columns of the dense operand
    #[arg(long, value_name = "N,…", default_value = "1,32", value_delimiter = ',')]
    batch: Vec<u16>,
    /// Numbers of threads to compare [default: 1 and all]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    threads: Vec<u16>,
    /// Timed repetitions of each configuration
    #[arg(long, value_name = "N", default_value = "7", value_parser = clap::value_parser!(u16).range(1..))]
    repetitions: u16,
    /// Take requests from stdin, one a line, about the data in folder FILE (for `cargo xtask bench`)
    #[arg(long, hide = true, requires = "file")]
    serve: bool,
    #[command(flatten)]
    budget: BudgetArgs,
    /// Print machine-readable JSON on stdout
    #[arg(long, help_heading = "Running")]
    json: bool,
}

/// One configuration and its times.
#[derive(Debug, Serialize)]
struct Timing {
    device: String,
    threads: usize,
    batch: usize,
    /// Of every repetition, all matrices once.
    seconds: Vec<f64>,
    median_seconds: f64,
    /// Non-zeros × batch per second, in 10⁹, at the median.
    gnnz_per_second: f64,
}

#[derive(Debug, Serialize)]
struct Done {
    matrices: usize,
    nnz: usize,
    values: &'static str,
    /// Bytes of all matrices as the backend holds them.
    bytes: usize,
    timings: Vec<Timing>,
}

/// A backend with everything it needs to run one configuration.
struct Ready {
    cpu: CpuBackend,
    batch: usize,
    operands: Vec<(CpuVector, CpuVector)>,
    seconds: Vec<f64>,
}

pub(crate) fn run(args: &Args) -> Result {
    let BackendArg::Cpu = args.backend;
    if let (true, Some(folder)) = (args.serve, &args.file) {
        return serve::serve(folder, args.values);
    }
    RunArgs::default().start()?;
    let budget = args.budget.budget()?;
    let cpu = CpuBackend::new(0)?.with_budget(budget.clone());
    let matrices = load(args, &cpu, &budget)?;
    let mut ready = Vec::new();
    for &threads in &thread_counts(args) {
        let cpu = CpuBackend::new(threads)?.with_budget(budget.clone());
        for &batch in &args.batch {
            ready.push(Ready::new(cpu.clone(), batch.into(), &matrices)?);
        }
    }
    // The first round warms up and is not counted.
    for round in 0..=args.repetitions {
        for configuration in &mut ready {
            let seconds = configuration.multiply(&matrices)?;
            if round > 0 {
                configuration.seconds.push(seconds);
            }
        }
    }
    let nnz = matrices.iter().map(CpuMatrix::nnz).sum();
    let timings = ready.into_iter().map(|configuration| configuration.timing(nnz)).collect();
    let bytes = matrices.iter().map(CpuMatrix::bytes).sum();
    let done = Done { matrices: matrices.len(), nnz, values: args.values.name(), bytes, timings };
    if args.json { print_json(&done) } else { print(text(&done)) }
}

fn thread_counts(args: &Args) -> Vec<usize> {
    if !args.threads.is_empty() {
        return args.threads.iter().map(|&n| n.into()).collect();
    }
    match std::thread::available_parallelism().map_or(1, usize::from) {
        1 => vec![1],
        all => vec![1, all],
    }
}

/// The matrices, laid out; one at a time is held in another form.
fn load(args: &Args, cpu: &CpuBackend, budget: &Budget) -> Result<Vec<CpuMatrix>> {
    let Some(path) = &args.file else {
        let [rows, cols] = args.shape;
        return (0..u64::from(args.matrices))
            .map(|index| {
                let entries = (rows as f64 * cols as f64 * args.density) as u64;
                // CSR, the same once more while it is encoded, and its gap-encoded form.
                let _held = budget.reserve(entries * 24 + 4 * rows as u64, "a random matrix")?;
                let csr = random::csr(args.shape, args.density, args.seed, index)?;
                Ok(cpu.upload(&csr_to_gap(&csr, args.values)?)?)
            })
            .collect();
    };
    if path.extension().is_some_and(|suffix| suffix == "safetensors") {
        let file = Checkpoint::open(path)?;
        if Container::is_container(&file) {
            let container = Container::from_file(file)?;
            let names = container.matrices().iter().map(|(name, _)| name);
            return names.map(|name| Ok(cpu.upload(&*container.read_gap(name, budget)?)?)).collect();
        }
    }
    Ok(vec![cpu.upload(&encoded(path, args.values, budget)?)?])
}

fn encoded(path: &std::path::Path, values: ValueType, budget: &Budget) -> Result<GapCsr> {
    let loaded = read(path, None, budget)?;
    let _held = budget.reserve(loaded.matrix.nnz() as u64 * 28, "encoding the matrix")?;
    let csr: Csr<f64> = loaded.matrix.into_csr(Duplicates::Sum)?;
    Ok(csr_to_gap(&csr, values)?)
}

impl Ready {
    fn new(cpu: CpuBackend, batch: usize, matrices: &[CpuMatrix]) -> Result<Self> {
        use residua::backend::Shaped;
        if batch == 0 {
            return Err(Failure::usage("--batch 0: at least one column is needed"));
        }
        let mut operands = Vec::new();
        for matrix in matrices {
            let [rows, cols] = matrix.shape();
            let x: Vec<f32> = (0..cols * batch).map(|i| (i % 17) as f32 / 16.0).collect();
            operands.push((cpu.upload_vector(&x, [cols, batch])?, cpu.zeros([rows, batch])?));
        }
        Ok(Self { cpu, batch, operands, seconds: Vec::new() })
    }

    /// Multiplies every matrix once; the seconds that took.
    fn multiply(&mut self, matrices: &[CpuMatrix]) -> Result<f64> {
        let start = Instant::now();
        for (matrix, (x, y)) in matrices.iter().zip(&mut self.operands) {
            self.cpu.spmm(1.0, matrix, x, 0.0, y)?;
        }
        self.cpu.synchronize()?;
        Ok(start.elapsed().as_secs_f64())
    }

    fn timing(self, nnz: usize) -> Timing {
        let median_seconds = median(&self.seconds);
        Timing {
            device: self.cpu.device(),
            threads: self.cpu.threads(),
            batch: self.batch,
            median_seconds,
            gnnz_per_second: (nnz * self.batch) as f64 / median_seconds / 1e9,
            seconds: self.seconds,
        }
    }
}

/// The middle value; of an even number of values the upper one of the middle two.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn text(done: &Done) -> String {
    let mut table = table(["device", "batch", "median", "fastest", "Gnnz·col/s"]);
    for timing in &done.timings {
        let fastest = timing.seconds.iter().copied().fold(f64::INFINITY, f64::min);
        table.add_row([
            timing.device.clone(),
            timing.batch.to_string(),
            format!("{:.3} ms", timing.median_seconds * 1e3),
            format!("{:.3} ms", fastest * 1e3),
            format!("{:.2}", timing.gnnz_per_second),
        ]);
    }
    let per_nnz = done.bytes as f64 / done.nnz.max(1) as f64;
    let (matrices, nnz, held) = (done.matrices, count(done.nnz as u64), bytes(done.bytes as u64));
    format!(
        "{matrices} matrices, {nnz} non-zeros, {held} in memory ({per_nnz:.2} bytes per non-zero)\n\n{table}"
    )
}

fn shape(text: &str) -> Result<[usize; 2], String> {
    let error = || "write rows x columns, such as 4096x11008".to_owned();
    let (rows, cols) = text.split_once(['x', '×']).ok_or_else(error)?;
    match (rows.trim().parse(), cols.trim().parse()) {
        (Ok(rows), Ok(cols)) if rows > 0 && cols > 0 => Ok([rows, cols]),
        _ => Err(error()),
    }
}
