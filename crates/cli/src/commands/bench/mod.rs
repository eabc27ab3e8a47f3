//! `residua bench`: times sparse products on this machine.

mod device;
mod random;
mod serve;

use std::path::PathBuf;
use std::time::Instant;

use residua::backend::{Backend, Shaped, VectorShape};
use residua::cpu::{CpuBackend, CpuMatrix, CpuOptions, CpuVector};
use residua::format::convert::csr_to_gap;
use residua::format::file::{Checkpoint, Container};
use residua::format::{Csr, Duplicates, GapCsr, ValueType};
use residua::memory::Budget;
use serde::Serialize;

use crate::args::{BudgetArgs, RunArgs, share, threads, value_type};
use crate::failure::{Failure, Result};
use crate::matrix_file::{Format, csr_bytes, encoding_bytes, read, sorting_bytes};
use crate::output::{bytes, count, print, print_json, table};

pub(crate) const EXAMPLE: &str = "\
Examples:
  residua bench --shape 512x2048 --matrices 2 --batch 1,8 --threads 1
  residua bench split.safetensors --batch 1 --repetitions 3

Every repetition multiplies each matrix once. If all matrices together are larger than the caches, the products
read them from memory. Configurations take turns within a repetition.";

/// Which backend computes.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum BackendArg {
    /// This machine's processor
    Cpu,
    /// An NVIDIA GPU
    Cuda,
    /// A Vulkan, Metal or Direct3D 12 device (if the build has it, see `residua devices`)
    Wgpu,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Matrices to multiply, in any format that convert reads [default: random ones]
    file: Option<PathBuf>,
    /// The backend
    #[arg(long, value_enum, default_value = "cpu")]
    backend: BackendArg,
    /// Device of the backend, by its number or a part of its name [default: the best; `residua devices` lists them]
    #[arg(long, value_name = "DEVICE")]
    adapter: Option<String>,
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
    /// Value type: f32, f16, bf16 or i8
    #[arg(long, value_name = "TYPE", default_value = "bf16", value_parser = value_type)]
    values: ValueType,
    /// Numbers of columns of the dense operand
    #[arg(long, value_name = "N,…", default_value = "1,32", value_delimiter = ',')]
    batch: Vec<u16>,
    /// Numbers of threads to compare, 0 for one per core [default: 1,0]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = threads)]
    threads: Vec<usize>,
    /// Timed repetitions of each configuration
    #[arg(long, value_name = "N", default_value = "7", value_parser = clap::value_parser!(u16).range(1..))]
    repetitions: u16,
    /// Read requests from stdin, one per line, for the data in folder FILE (for `cargo xtask bench`)
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
    /// Where they were chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    threads: Option<usize>,
    batch: usize,
    /// Whose time it is: the host's around each repetition, or the device's in its kernels.
    clock: &'static str,
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
    /// Laying all matrices out and moving them to the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    upload_seconds: Option<f64>,
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
    if let (true, Some(folder)) = (args.serve, &args.file) {
        return serve::serve(folder, args.values);
    }
    RunArgs::default().start()?;
    let budget = args.budget.budget()?;
    let done = match args.backend {
        BackendArg::Cpu => cpu(args, &budget)?,
        BackendArg::Cuda => device::cuda(args, &budget)?,
        BackendArg::Wgpu => device::wgpu(args, &budget)?,
    };
    if args.json { print_json(&done) } else { print(text(&done)) }
}

fn cpu(args: &Args, budget: &Budget) -> Result<Done> {
    if let Some(device) = &args.adapter {
        return Err(Failure::usage(format!(
            "--adapter {device}: the cpu backend has no devices to choose from"
        )));
    }
    let cpu = CpuBackend::open(&CpuOptions::default(), budget)?;
    let matrices = load(args, budget, |matrix| Ok(cpu.upload(matrix)?))?;
    let mut ready = Vec::new();
    for &threads in &thread_counts(args) {
        let cpu = CpuBackend::open(&CpuOptions::default().threads(threads), budget)?;
        for &batch in &args.batch {
            ready.push(Ready::new(cpu.clone(), batch.into(), &matrices, budget)?);
        }
    }
    // The first round is a warm-up.
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
    let values = args.values.name();
    Ok(Done { matrices: matrices.len(), nnz, values, bytes, upload_seconds: None, timings })
}

fn thread_counts(args: &Args) -> Vec<usize> {
    if !args.threads.is_empty() {
        return args.threads.clone();
    }
    match std::thread::available_parallelism().map_or(1, usize::from) {
        1 => vec![1],
        all => vec![1, all],
    }
}

/// The matrices, laid out; one at a time is held in another form.
fn load<M>(args: &Args, budget: &Budget, mut upload: impl FnMut(&GapCsr) -> Result<M>) -> Result<Vec<M>> {
    let Some(path) = &args.file else {
        let [rows, cols] = args.shape;
        return (0..u64::from(args.matrices))
            .map(|index| {
                let entries = (rows as f64 * cols as f64 * args.density) as u64;
                let bytes = csr_bytes(rows, entries as usize) + encoding_bytes(rows, entries as usize);
                let _held = budget.reserve(bytes, "a random matrix")?;
                let csr = random::csr(args.shape, args.density, args.seed, index)?;
                upload(&csr_to_gap(&csr, args.values)?)
            })
            .collect();
    };
    if Format::of_input(path)? == Format::Safetensors {
        let file = Checkpoint::open_within(path, budget)?;
        crate::notes::tell(&file);
        if Container::is_container(&file) {
            let container = Container::from_file(file)?;
            let names = container.matrices().iter().map(|(name, _)| name);
            return names.map(|name| upload(&*container.read_gap(name, budget)?)).collect();
        }
    }
    Ok(vec![upload(&encoded(path, args.values, budget)?)?])
}

fn encoded(path: &std::path::Path, values: ValueType, budget: &Budget) -> Result<GapCsr> {
    let loaded = read(path, None, budget)?;
    let (rows, nnz) = (loaded.matrix.shape()[0], loaded.matrix.nnz());
    let bytes = sorting_bytes(&loaded.matrix) + csr_bytes(rows, nnz) + encoding_bytes(rows, nnz);
    let _held = budget.reserve(bytes, "encoding the matrix")?;
    let csr: Csr<f64> = loaded.matrix.into_csr(Duplicates::Sum)?;
    Ok(csr_to_gap(&csr, values)?)
}

/// `x` and `y` for matrices of these shapes.
fn operands<B: Backend>(
    backend: &B,
    batch: usize,
    shapes: impl Iterator<Item = [usize; 2]>,
    budget: &Budget,
) -> Result<Vec<(B::Vector, B::Vector)>> {
    if batch == 0 {
        return Err(Failure::usage("--batch 0: at least one column is needed"));
    }
    let pair = |[rows, cols]: [usize; 2]| {
        let _x = budget.reserve((cols as u64 * batch as u64).saturating_mul(4), "an input vector")?;
        let x: Vec<f32> = (0..cols * batch).map(|i| (i % 17) as f32 / 16.0).collect();
        Ok((
            backend.upload_vector(&x, VectorShape { len: cols, batch })?,
            backend.zeros(VectorShape { len: rows, batch })?,
        ))
    };
    shapes.map(pair).collect()
}

impl Ready {
    fn new(cpu: CpuBackend, batch: usize, matrices: &[CpuMatrix], budget: &Budget) -> Result<Self> {
        let operands = operands(&cpu, batch, matrices.iter().map(Shaped::shape), budget)?;
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
        let threads = Some(self.cpu.threads());
        Timing { threads, ..Timing::new(self.cpu.device(), self.batch, "host", self.seconds, nnz) }
    }
}

impl Timing {
    fn new(device: String, batch: usize, clock: &'static str, seconds: Vec<f64>, nnz: usize) -> Self {
        let median_seconds = median(&seconds);
        let gnnz_per_second = (nnz * batch) as f64 / median_seconds / 1e9;
        Self { device, threads: None, batch, clock, seconds, median_seconds, gnnz_per_second }
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
    let upload = done.upload_seconds.map(|seconds| {
        let rate = done.bytes as f64 / seconds / 1e9;
        format!("laid out and uploaded in {:.3} ms ({rate:.2} GB/s)\n", seconds * 1e3)
    });
    let by_device = done.timings.iter().any(|timing| timing.clock == "device");
    let clock = if by_device { "\ntimes are the device's own, of its kernels\n" } else { "" };
    format!(
        "{matrices} matrices, {nnz} non-zeros, {held} in memory ({per_nnz:.2} bytes per non-zero)\n{}\n{table}\n{clock}",
        upload.unwrap_or_default()
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
