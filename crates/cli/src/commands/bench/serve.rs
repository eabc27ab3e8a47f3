//! Taking turns with other programs: one timed repetition per line from stdin.
//!
//! It reads a line `CASE THREADS` and answers with one line of JSON; `xtask/src/bench/contestant.rs` describes the
//! protocol, `xtask/src/bench/data.rs` the files.

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, stdin};
use std::path::{Path, PathBuf};
use std::time::Instant;

use residua::backend::{Backend, Shaped, VectorShape};
use residua::cpu::{CpuBackend, CpuMatrix, CpuOptions, CpuVector};
use residua::format::convert::{coo_to_csr, csr_to_gap};
use residua::format::file::Checkpoint;
use residua::format::{Coo, Csr, Duplicates, ValueType};
use residua::memory::{Budget, process};
use residua::split::{DiffOptions, New, NoProgress, Old, Output, SplitOptions, diff, split};
use serde_json::{Value, json};

use crate::escape;
use crate::failure::Result;
use crate::output::print;

/// Columns of the dense operand of `spmm`.
const BATCH: usize = 32;

type Answer<T = Value> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Answers until stdin ends.
pub(super) fn serve(folder: &Path, values: ValueType) -> Result {
    let version = format!("residua {}", env!("CARGO_PKG_VERSION"));
    print(json!({ "ready": version }).to_string())?;
    let mut server =
        Server { folder: folder.to_owned(), values, matrices: Vec::new(), products: HashMap::new() };
    for line in stdin().lock().lines() {
        let Ok(line) = line else { break };
        let answer = server.answer(&line).unwrap_or_else(|error| json!({ "error": error.to_string() }));
        print(escape::json(&answer.to_string()))?;
    }
    Ok(())
}

/// Loaded data stays between requests.
struct Server {
    folder: PathBuf,
    values: ValueType,
    matrices: Vec<CpuMatrix>,
    /// By threads and batch.
    products: HashMap<(usize, usize), Product>,
}

struct Product {
    cpu: CpuBackend,
    operands: Vec<(CpuVector, CpuVector)>,
}

impl Server {
    fn answer(&mut self, line: &str) -> Answer {
        let mut words = line.split_whitespace();
        let (Some(case), Some(threads)) = (words.next(), words.next()) else {
            return Err("a request is CASE THREADS".into());
        };
        let threads: usize = threads.parse()?;
        match case {
            "spmv" => self.multiply(threads, 1),
            "spmm" => self.multiply(threads, BATCH),
            "coo" => self.coo(threads),
            "split" => self.split(threads),
            "compare" => self.compare(threads),
            _ => Ok(json!({ "skip": "not done here" })),
        }
    }

    fn multiply(&mut self, threads: usize, batch: usize) -> Answer {
        if self.matrices.is_empty() {
            self.matrices = load(&self.folder, self.values)?;
        }
        if !self.products.contains_key(&(threads, batch)) {
            self.products.insert((threads, batch), Product::new(threads, batch, &self.matrices)?);
        }
        let Some(product) = self.products.get_mut(&(threads, batch)) else {
            return Err("no product".into());
        };
        let start = Instant::now();
        for (matrix, (x, y)) in self.matrices.iter().zip(&mut product.operands) {
            product.cpu.spmm(1.0, matrix, x, 0.0, y)?;
        }
        let seconds = start.elapsed().as_secs_f64();
        let mut check = 0.0;
        for (_, y) in &product.operands {
            check += product.cpu.download(y)?.iter().map(|&y| f64::from(y.abs())).sum::<f64>();
        }
        Ok(json!({ "seconds": seconds, "check": check, "note": format!("{} values", self.values) }))
    }

    fn coo(&self, threads: usize) -> Answer {
        let file = Checkpoint::open(self.folder.join("coo.safetensors"))?;
        let (rows, cols) = shape(&file)?;
        let array = |name| four_bytes(&file, name);
        let data: Vec<f32> = array("data")?.into_iter().map(f32::from_bits).collect();
        let coo: Coo<f32, u32> = Coo::new(rows, cols, array("row")?, array("col")?, data)?;
        pool(threads)?.install(|| {
            let start = Instant::now();
            let csr = coo_to_csr(&coo, Duplicates::Sum)?;
            Ok(json!({ "seconds": start.elapsed().as_secs_f64(), "check": csr.nnz() }))
        })
    }

    fn split(&self, threads: usize) -> Answer {
        let (input, output) =
            (self.folder.join("dense.safetensors"), self.folder.join("split.tmp.safetensors"));
        timed(threads, &output, || {
            let options = SplitOptions::default().values(self.values);
            let report = split(&input, Output(&output), &options, &Budget::unlimited(), &NoProgress)?;
            Ok(format!("{} kept; from file to file", report.nnz()))
        })
    }

    fn compare(&self, threads: usize) -> Answer {
        let (old, new) = (self.folder.join("old"), self.folder.join("new"));
        let output = self.folder.join("delta.tmp.safetensors");
        timed(threads, &output, || {
            let report = diff(
                Old(&old),
                New(&new),
                Output(&output),
                &DiffOptions::default(),
                &Budget::unlimited(),
                &NoProgress,
            )?;
            Ok(format!("{:.2} bytes per change, delta written", report.bytes_per_change()))
        })
    }
}

/// Runs a job on some threads, removes its output, and returns its additional peak memory.
fn timed(threads: usize, output: &Path, work: impl FnOnce() -> Answer<String> + Send) -> Answer {
    let pool = pool(threads)?;
    let before = process::current_rss().filter(|_| process::reset_peak_rss());
    let start = Instant::now();
    let note = pool.install(work);
    let seconds = start.elapsed().as_secs_f64();
    let peak = before.and_then(|before| Some(process::peak_rss()?.saturating_sub(before)));
    // It may stay: the next run replaces it.
    let _ = std::fs::remove_file(output);
    Ok(json!({ "seconds": seconds, "peak_bytes": peak, "note": note? }))
}

fn pool(threads: usize) -> Answer<rayon::ThreadPool> {
    Ok(rayon::ThreadPoolBuilder::new().num_threads(threads).build()?)
}

impl Product {
    fn new(threads: usize, batch: usize, matrices: &[CpuMatrix]) -> Answer<Self> {
        let cpu = CpuBackend::open(&CpuOptions::default().threads(threads), &Budget::unlimited())?;
        let mut operands = Vec::new();
        for matrix in matrices {
            let [rows, cols] = matrix.shape();
            let step = |row: usize, col: usize| if batch == 1 { row } else { 31 * row + 7 * col };
            let x: Vec<f32> =
                (0..cols * batch).map(|i| (step(i / batch, i % batch) % 17) as f32 / 16.0).collect();
            operands.push((
                cpu.upload_vector(&x, VectorShape { len: cols, batch })?,
                cpu.zeros(VectorShape { len: rows, batch })?,
            ));
        }
        Ok(Self { cpu, operands })
    }
}

fn load(folder: &Path, values: ValueType) -> Answer<Vec<CpuMatrix>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("csr-")) {
            paths.push(path);
        }
    }
    paths.sort();
    let cpu = CpuBackend::open(&CpuOptions::default(), &Budget::unlimited())?;
    let load = |path: &PathBuf| {
        let file = Checkpoint::open(path)?;
        let (rows, cols) = shape(&file)?;
        let data = four_bytes(&file, "data")?.into_iter().map(f32::from_bits).collect();
        let csr: Csr<f32, u32> =
            Csr::new(rows, cols, four_bytes(&file, "indptr")?, four_bytes(&file, "indices")?, data)?;
        Ok(cpu.upload(&csr_to_gap(&csr, values)?)?)
    };
    paths.iter().map(load).collect()
}

fn shape(file: &Checkpoint) -> Answer<(usize, usize)> {
    let side = |name: &str| -> Answer<usize> { Ok(file.metadata().get(name).ok_or("no shape")?.parse()?) };
    Ok((side("rows")?, side("cols")?))
}

/// An array of 32-bit elements.
fn four_bytes(file: &Checkpoint, name: &str) -> Answer<Vec<u32>> {
    let tensor = file.expect_tensor(name)?;
    let mut bytes = vec![0; tensor.bytes as usize];
    file.read_at(tensor, 0, &mut bytes)?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect())
}
