//! Throughput of SpMV, SpMM and the fused layer, in billions of non-zeros (times vectors) a second.
//!
//!     cargo bench -p residua-backend-cpu -- [--rows 4096] [--cols 11008] [--density 0.05] [--matrices 20]
//!         [--repeat 9] [--batch 32] [--only spmv]
//!
//! `--only` takes a part of a case's name: `spmm`, `forward`, `bf16 base, batch 1`. Contestants take turns on several
//! matrices, more than fit the caches. Each matrix is timed alone, and the sum of the best times counts, so that other
//! load on the machine matters little.

mod random;

use std::time::Instant;

use nalgebra_sparse::CsrMatrix;
use nalgebra_sparse::na::DMatrix;
use nalgebra_sparse::ops::{Op, serial::spmm_csr_dense};
use random::{Arguments, random_base, random_csr, random_dense};
use residua_backend::{Activations, Backend, VectorShape};
use residua_backend_cpu::{CpuBackend, CpuMatrix, CpuOptions};
use residua_format::{BaseKind, Csr, DenseValues, ValueType, convert};
use residua_memory::Budget;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// A contestant: its name, and its work on the i-th matrix.
struct Contestant<'a> {
    name: String,
    work: Box<dyn FnMut(usize) -> Result<()> + 'a>,
}

fn main() -> Result<()> {
    let arguments = Arguments::from_args()?;
    let Arguments { rows, cols, density, matrices, batch, .. } = arguments;
    let open = |options: CpuOptions| CpuBackend::open(&options, &Budget::unlimited());
    let uploader = open(CpuOptions::default())?;
    println!("{rows} x {cols} at density {density}, {matrices} matrices in turn, {}", uploader.device());
    let csr: Vec<Csr<f32, u32>> =
        (0..matrices).map(|seed| random_csr(seed as u64, rows, cols, density)).collect::<Result<_>>()?;
    let nnz: usize = csr.iter().map(Csr::nnz).sum();

    let mut bytes = Vec::new();
    let mut laid_out = Vec::new();
    for value_type in ValueType::ALL {
        let uploaded: Vec<CpuMatrix> = csr
            .iter()
            .map(|csr| Ok(uploader.upload(&convert::csr_to_gap(csr, value_type)?)?))
            .collect::<Result<_>>()?;
        let size: usize = uploaded.iter().map(CpuMatrix::bytes).sum();
        bytes.push(format!("{value_type} {:.3}", size as f64 / nnz as f64));
        laid_out.push((value_type, uploaded));
    }
    println!("bytes per non-zero in memory: {}", bytes.join(", "));

    let paths = [
        ("avx512", CpuOptions::default().avx512()),
        ("avx2", CpuOptions::default().avx2()),
        ("portable", CpuOptions::default().portable()),
    ];
    let threads: &[usize] = if std::thread::available_parallelism()?.get() > 1 { &[1, 2] } else { &[1] };
    let backends = || {
        let all = threads.iter().flat_map(|&threads| paths.clone().map(|path| (threads, path)));
        all.filter_map(|(threads, (name, options))| {
            Some((name, threads, open(options.threads(threads)).ok()?))
        })
    };

    for (case, vectors) in [("spmv", 1), ("spmm", batch)] {
        if !arguments.wants(case) {
            continue;
        }
        let x: Vec<f32> = (0..cols * vectors).map(|i| (i % 17) as f32 / 16.0).collect();
        let mut contestants = Vec::new();
        for (value_type, uploaded) in &laid_out {
            for (path, threads, backend) in backends() {
                let name = format!("{path}, {value_type}, {threads} threads");
                let (x, mut y) = (
                    backend.upload_vector(&x, VectorShape { len: cols, batch: vectors })?,
                    backend.zeros(VectorShape { len: rows, batch: vectors })?,
                );
                let work = move |i: usize| Ok(backend.spmm(1.0, &uploaded[i], &x, 0.0, &mut y)?);
                contestants.push(Contestant { name, work: Box::new(work) });
            }
        }
        contestants.extend(peers(&csr, &x, vectors)?);
        race(case, &arguments, (nnz * vectors) as f64, contestants)?;
    }

    let codes = [BaseKind::Int4, BaseKind::Int4G64, BaseKind::Int8, BaseKind::Lut4].map(Kind::Codes);
    let floats = [ValueType::F32, ValueType::F16, ValueType::Bf16].map(Kind::Floats);
    let (_, residuals) = &laid_out[2];
    let packer = open(CpuOptions::default().activations(Activations::I8))?;
    for (vectors, kind) in
        [1, batch].into_iter().flat_map(|vectors| codes.iter().chain(&floats).map(move |k| (vectors, k)))
    {
        let case = format!("forward, {} base, batch {vectors}", kind.name());
        if !arguments.wants(&case) {
            continue;
        }
        let x: Vec<f32> = (0..cols * vectors).map(|i| (i % 17) as f32 / 16.0).collect();
        let mut peers = Vec::new();
        let mut bases = Vec::new();
        let mut packed = Vec::new();
        for seed in 0..kind.count(rows * cols).min(matrices) {
            bases.push(match *kind {
                Kind::Codes(kind) => {
                    let base = random_base(seed as u64, rows, cols, kind)?;
                    packed.push(packer.upload_base(&base)?);
                    uploader.upload_base(&base)?
                }
                Kind::Floats(value_type) => {
                    let dense = random_dense(seed as u64, rows, cols, value_type)?;
                    if let DenseValues::F32(values) = dense.values() {
                        peers.push(DMatrix::from_row_slice(rows, cols, values));
                    }
                    uploader.upload_dense(&dense)?
                }
            });
        }
        let mut contestants = Vec::new();
        // A base says itself how it takes its inputs.
        let forms =
            [("", &bases), (", i8 inputs", &packed)].into_iter().filter(|(_, bases)| !bases.is_empty());
        for ((inputs, bases), alpha) in forms.flat_map(|form| [(form, 0.0), (form, 1.0)]) {
            for (path, threads, backend) in backends() {
                let name = format!("{path}, {} + {alpha} bf16{inputs}, {threads} threads", kind.name());
                let (x, mut y) = (
                    backend.upload_vector(&x, VectorShape { len: cols, batch: vectors })?,
                    backend.zeros(VectorShape { len: rows, batch: vectors })?,
                );
                let work = move |i: usize| {
                    let base = &bases[i % bases.len()];
                    Ok(backend.forward(base, &residuals[i], alpha, &x, &mut y)?)
                };
                contestants.push(Contestant { name, work: Box::new(work) });
            }
        }
        if !peers.is_empty() {
            let x = DMatrix::from_row_slice(cols, vectors, &x);
            let mut y = DMatrix::zeros(rows, vectors);
            let work = move |i: usize| {
                y.gemm(1.0, &peers[i % peers.len()], &x, 0.0);
                Ok(())
            };
            let name = "nalgebra, f32 base alone, 1 thread".into();
            contestants.push(Contestant { name, work: Box::new(work) });
        }
        // Counted in weights of the base.
        race(&case, &arguments, (rows * cols * vectors * matrices) as f64, contestants)?;
    }
    Ok(())
}

/// How a base stores its weights.
enum Kind {
    Codes(BaseKind),
    Floats(ValueType),
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Codes(kind) => kind.name(),
            Self::Floats(value_type) => value_type.name(),
        }
    }

    /// A number of bases that exceeds the caches, yet fits the memory of a small machine.
    fn count(&self, weights: usize) -> usize {
        match self {
            Self::Codes(_) => 6,
            Self::Floats(value_type) => ((256 << 20) / (weights * value_type.bytes())).clamp(1, 6),
        }
    }
}

/// sprs (its product with one vector) and nalgebra-sparse on one thread, f32 values. More libraries, and
/// those of other languages: `cargo xtask bench`.
fn peers<'a>(csr: &'a [Csr<f32, u32>], x: &'a [f32], vectors: usize) -> Result<Vec<Contestant<'a>>> {
    let [rows, cols] = [csr[0].rows(), csr[0].cols()];
    let mut contestants = Vec::new();
    if vectors == 1 {
        let matrices: Vec<sprs::CsMatI<f32, u32>> =
            csr.iter().map(|a| Ok(a.clone().try_into()?)).collect::<Result<_>>()?;
        let mut y = vec![0.0; rows];
        let work = move |i: usize| {
            y.fill(0.0);
            sprs::prod::mul_acc_mat_vec_csr(matrices[i].view(), x, &mut y[..]);
            Ok(())
        };
        contestants.push(Contestant { name: "sprs, f32, 1 thread".into(), work: Box::new(work) });
    }
    let wide = |indices: &[u32]| indices.iter().map(|&index| index as usize).collect::<Vec<_>>();
    let nalgebra = |a: &Csr<f32, u32>| {
        let (pointers, columns) = (wide(a.row_ptr()), wide(a.col_indices()));
        CsrMatrix::try_from_csr_data(rows, cols, pointers, columns, a.values().to_vec())
    };
    let matrices = csr.iter().map(nalgebra).collect::<Result<Vec<_>, _>>()?;
    let x = DMatrix::from_row_slice(cols, vectors, x);
    let mut y = DMatrix::zeros(rows, vectors);
    let work = move |i: usize| {
        spmm_csr_dense(0.0, &mut y, 1.0, Op::NoOp(&matrices[i]), Op::NoOp(&x));
        Ok(())
    };
    contestants.push(Contestant { name: "nalgebra-sparse, f32, 1 thread".into(), work: Box::new(work) });
    Ok(contestants)
}

/// Lets contestants take turns and prints who did how much.
fn race(case: &str, arguments: &Arguments, amount: f64, mut contestants: Vec<Contestant<'_>>) -> Result<()> {
    let matrices = arguments.matrices;
    let mut best = vec![vec![f64::INFINITY; matrices]; contestants.len()];
    for _ in 0..arguments.repeat {
        for (contestant, best) in contestants.iter_mut().zip(&mut best) {
            for (i, best) in best.iter_mut().enumerate() {
                let start = Instant::now();
                (contestant.work)(i)?;
                *best = best.min(start.elapsed().as_secs_f64());
            }
        }
    }
    println!("\n{case:<44} {:>10} {:>12}", "G/s", "us/matrix");
    for (contestant, best) in contestants.iter().zip(&best) {
        let seconds: f64 = best.iter().sum();
        let micros = seconds * 1e6 / matrices as f64;
        println!("  {:<42} {:>10.3} {:>12.1}", contestant.name, amount / seconds / 1e9, micros);
    }
    Ok(())
}
