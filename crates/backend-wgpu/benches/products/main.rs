//! Compares products on an adapter with plain shaders for the same matrix.
//!
//!     cargo bench -p residua-backend-wgpu -- [--adapter NAME] [--rows 4096] [--cols 4096] [--density 0.05]
//!         [--rounds 9] [--times 10] [--batch 32]
//!
//! Contestants take turns: in every round each runs `times` times in one submission. Ratios are taken within rounds,
//! figures are medians. First each result is compared with the f64 reference.

mod plain;

use std::time::Instant;

use plain::Plain;
use residua_backend::{Backend, VectorShape, reference};
use residua_backend_wgpu::{WgpuBackend, WgpuOptions};
use residua_format::{BaseKind, Csr, QuantizedBase, ValueType, convert};
use residua_memory::Budget;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// A name and a function that runs so many products in one submission and waits.
struct Contestant<'a> {
    name: String,
    run: Box<dyn FnMut(usize) -> Result<()> + 'a>,
    seconds: Vec<f64>,
}

struct Arguments {
    options: WgpuOptions,
    rows: usize,
    cols: usize,
    density: f64,
    rounds: usize,
    times: usize,
    batch: usize,
}

fn arguments() -> Result<Arguments> {
    let mut all = Arguments {
        options: WgpuOptions::default(),
        rows: 4096,
        cols: 4096,
        density: 0.05,
        rounds: 9,
        times: 10,
        batch: 32,
    };
    let mut given = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(name) = given.next() {
        let value = given.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--adapter" => all.options = all.options.adapter(value),
            "--lanes" => all.options = all.options.lanes(value.parse()?),
            "--rows" => all.rows = value.parse()?,
            "--cols" => all.cols = value.parse()?,
            "--density" => all.density = value.parse()?,
            "--rounds" => all.rounds = value.parse()?,
            "--times" => all.times = value.parse()?,
            "--batch" => all.batch = value.parse()?,
            _ => return Err(format!("{name} is not an argument").into()),
        }
    }
    Ok(all)
}

fn main() -> Result<()> {
    let all = arguments()?;
    let Arguments { rows, cols, density, batch, .. } = all;
    let gpu = WgpuBackend::open(&all.options, &Budget::unlimited())?;
    let csr = random_csr(rows, cols, density)?;
    println!("{rows} x {cols} at density {density}, {} non-zeros, {}\n", csr.nnz(), gpu.device());

    let x: Vec<f32> = (0..cols).map(|i| (i % 17) as f32 / 16.0).collect();
    let expected = reference::product(&csr, &x, 1);
    let close = |found: &[f32]| found.iter().zip(&expected).all(|(found, e)| e.admits(*found));
    let mut contestants = Vec::new();
    for value_type in ValueType::ALL {
        let gap = convert::csr_to_gap(&csr, value_type)?;
        let expected = reference::product(&gap, &x, 1);
        let (a, x, mut y) = (
            gpu.upload(&gap)?,
            gpu.upload_vector(&x, VectorShape { len: cols, batch: 1 })?,
            gpu.zeros(VectorShape { len: rows, batch: 1 })?,
        );
        gpu.spmv(1.0, &a, &x, 0.0, &mut y)?;
        let right = gpu.download(&y)?.iter().zip(&expected).all(|(found, e)| e.admits(*found));
        assert!(right, "gap CSR, {value_type}");
        let name = format!("gap CSR, {value_type} ({:.2} B/nnz)", a.bytes() as f64 / csr.nnz() as f64);
        let gpu = &gpu;
        contestants.push(contestant(name, move |times| {
            (0..times).try_for_each(|_| gpu.spmv(1.0, &a, &x, 0.0, &mut y))?;
            Ok(gpu.synchronize()?)
        }));
    }
    let (a, device_x, mut y) = (
        gpu.upload_plain_csr(&csr)?,
        gpu.upload_vector(&x, VectorShape { len: cols, batch: 1 })?,
        gpu.zeros(VectorShape { len: rows, batch: 1 })?,
    );
    gpu.spmv_plain_csr(1.0, &a, &device_x, 0.0, &mut y)?;
    assert!(close(&gpu.download(&y)?), "CSR");
    let on_gpu = &gpu;
    contestants.push(contestant("CSR".into(), move |times| {
        (0..times).try_for_each(|_| on_gpu.spmv_plain_csr(1.0, &a, &device_x, 0.0, &mut y))?;
        Ok(on_gpu.synchronize()?)
    }));
    let gaps = gaps(&csr);
    for (name, source, positions, groups) in [
        (
            "CSR, thread per row, plain",
            include_str!("thread_per_row.wgsl"),
            csr.col_indices(),
            rows.div_ceil(64),
        ),
        ("gaps, workgroup per row, scanned", include_str!("row_per_workgroup.wgsl"), &gaps[..], rows),
    ] {
        let plain = Plain::new(&gpu, source, &csr, positions, &x, groups as u32);
        plain.run(1)?;
        assert!(close(&plain.y()?), "{name}");
        contestants.push(contestant(name.into(), move |times| plain.run(times)));
    }
    let names = ["gap CSR, bf16", "CSR", "CSR, thread per row, plain", "gaps, workgroup per row, scanned"];
    race("spmv", &all, csr.nnz() as f64, contestants, &names)?;

    let x: Vec<f32> = (0..cols * batch).map(|i| (i % 17) as f32 / 16.0).collect();
    let gap = convert::csr_to_gap(&csr, ValueType::Bf16)?;
    let (a, x, mut y) = (
        gpu.upload(&gap)?,
        gpu.upload_vector(&x, VectorShape { len: cols, batch })?,
        gpu.zeros(VectorShape { len: rows, batch })?,
    );
    let spmm = contestant("gap CSR, bf16".into(), |times| {
        (0..times).try_for_each(|_| gpu.spmm(1.0, &a, &x, 0.0, &mut y))?;
        Ok(gpu.synchronize()?)
    });
    race(&format!("spmm, batch {batch}"), &all, (csr.nnz() * batch) as f64, vec![spmm], &[])?;

    let codes = vec![0x5Au8; rows * BaseKind::Int4G64.row_bytes(cols)];
    let scales = vec![0.01; rows * BaseKind::Int4G64.groups(cols)];
    let base = QuantizedBase::new(rows, cols, BaseKind::Int4G64, codes[..].into(), scales[..].into())?;
    let base = gpu.upload_base(&base)?;
    let x = gpu.upload_vector(&vec![0.5; cols], VectorShape { len: cols, batch: 1 })?;
    let mut y = gpu.zeros(VectorShape { len: rows, batch: 1 })?;
    let forward = contestant("int4-g64 + bf16".into(), |times| {
        (0..times).try_for_each(|_| gpu.forward(&base, &a, 1.0, &x, &mut y))?;
        Ok(gpu.synchronize()?)
    });
    race("forward, in weights of the base", &all, (rows * cols) as f64, vec![forward], &[])
}

fn contestant<'a>(name: String, run: impl FnMut(usize) -> Result<()> + 'a) -> Contestant<'a> {
    Contestant { name, run: Box::new(run), seconds: Vec::new() }
}

/// Runs contestants in turn and prints their speeds. Prints the ratios of those whose names begin as in `chain`, each
/// to the next.
fn race(
    case: &str,
    all: &Arguments,
    amount: f64,
    mut contestants: Vec<Contestant<'_>>,
    chain: &[&str],
) -> Result<()> {
    for round in 0..=all.rounds {
        for contestant in &mut contestants {
            let start = Instant::now();
            (contestant.run)(all.times)?;
            // The first round warms up.
            if round > 0 {
                contestant.seconds.push(start.elapsed().as_secs_f64() / all.times as f64);
            }
        }
    }
    println!("{case:<40} {:>10} {:>12}", "M/s", "us");
    for contestant in &contestants {
        let seconds = median(&contestant.seconds);
        println!("  {:<38} {:>10.1} {:>12.1}", contestant.name, amount / seconds / 1e6, seconds * 1e6);
    }
    let find =
        |name: &str| contestants.iter().find(|c| c.name == name || c.name.starts_with(&format!("{name} (")));
    for pair in chain.windows(2) {
        if let (Some(one), Some(other)) = (find(pair[0]), find(pair[1])) {
            let ratios: Vec<f64> =
                one.seconds.iter().zip(&other.seconds).map(|(one, other)| other / one).collect();
            println!("  {} against {}: {:.2} times as fast", pair[0], pair[1], median(&ratios));
        }
    }
    println!();
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A matrix that has each entry with probability `density`.
fn random_csr(rows: usize, cols: usize, density: f64) -> Result<Csr<f32, u32>> {
    // A xorshift generator (G. Marsaglia, *Xorshift RNGs*, J. Stat. Softw. 8, 2003).
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let threshold = (density * u64::MAX as f64) as u64;
    let (mut row_ptr, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
    for _ in 0..rows {
        for column in 0..cols as u32 {
            if next() < threshold {
                columns.push(column);
                values.push((next() % 2001) as f32 / 1000.0 - 1.0);
            }
        }
        row_ptr.push(columns.len() as u32);
    }
    Ok(Csr::new(rows, cols, row_ptr, columns, values)?)
}

/// The distance of every column from the previous one in its row; −1 is before the first.
fn gaps(csr: &Csr<f32, u32>) -> Vec<u32> {
    let mut gaps = Vec::with_capacity(csr.nnz());
    for row in 0..csr.rows() {
        let mut last = u32::MAX;
        for &column in csr.row(row).0 {
            gaps.push(column.wrapping_sub(last));
            last = column;
        }
    }
    gaps
}
