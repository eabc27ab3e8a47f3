//! Speed of the conversions: `cargo bench -p residua-format`; add a word to run only what has it in its name.
//! One thread each unless `RAYON_NUM_THREADS` says otherwise. Prints the best of several runs.

use std::hint::black_box;
use std::time::{Duration, Instant};

use residua_format::convert::{Duplicates, coo_to_csr, csr_to_gap, gap_to_csr};
use residua_format::gap::{GapPattern, RowPlan};
use residua_format::{BaseKind, Coder, Coo, Csr, FormatError, GapCsr, Grid, ValueType, quantize_row};

/// Runs `work` for a second and at least five times, and prints the best rate in millions of `items` per second.
fn bench<R>(name: &str, items: usize, mut work: impl FnMut() -> R) {
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    if wanted.is_some_and(|word| !name.contains(&word)) {
        return;
    }
    let (start, mut best) = (Instant::now(), Duration::MAX);
    let mut runs = 0;
    while start.elapsed() < Duration::from_secs(1) || runs < 5 {
        runs += 1;
        let run = Instant::now();
        black_box(work());
        best = best.min(run.elapsed());
    }
    println!("{name:<44} {:>9.1} M/s", items as f64 / best.as_secs_f64() / 1e6);
}

fn quantising() {
    let row: Vec<f32> = (0..4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 - 8e6).collect();
    for kind in BaseKind::ALL {
        let coder = Coder::from(Grid::from(kind));
        let mut codes = vec![0; kind.row_bytes(row.len())];
        let mut scales = vec![0.0; kind.groups(row.len())];
        let mut back = vec![0.0; row.len()];
        bench(&format!("quantize_row {kind}"), row.len(), || {
            quantize_row(black_box(&row), &coder, &mut codes, &mut scales)
        });
        bench(&format!("dequantize_row {kind}"), row.len(), || {
            coder.grid().dequantize_row(black_box(&codes), &scales, &mut back);
        });
    }
}

/// Triplets of a `[4096, 11008]` matrix in random order; duplicates as they fall.
fn random_triplets(nnz: usize) -> Result<Coo<f32>, FormatError> {
    let mut state = 1u64;
    let mut below = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((state >> 32) * bound) >> 32) as u32
    };
    let rows = (0..nnz).map(|_| below(4096)).collect();
    let cols = (0..nnz).map(|_| below(11008)).collect();
    let values = (0..nnz).map(|_| (below(1 << 20) as f32 - 5e5) / 1e6).collect();
    Coo::new(4096, 11008, rows, cols, values)
}

fn triplets() -> Result<(), FormatError> {
    for nnz in [2_000_000, 10_000_000] {
        let coo = random_triplets(nnz)?;
        bench(&format!("coo_to_csr sum {nnz}"), nnz, || coo_to_csr(black_box(&coo), Duplicates::Sum));
    }
    Ok(())
}

/// The gap encoding of a `[4096, 11008]` matrix, and validation; rates in non-zeros.
fn gaps(density: usize) -> Result<(), FormatError> {
    let nnz = 4096 * 11008 / 100 * density;
    let csr: Csr<f32> = coo_to_csr(&random_triplets(nnz)?, Duplicates::Sum)?;
    let nnz = csr.nnz();
    let name = |what: &str| format!("{what}, density {density} %");
    bench(&name("plan and encode rows, bf16"), nnz, || {
        let (mut index, mut values) = (Vec::new(), Vec::new());
        for row in 0..csr.rows() {
            let (columns, row_values) = csr.row(row);
            index.clear();
            values.clear();
            let place = |i: Option<usize>| values.push(i.map_or(0.0, |i| row_values[i]));
            RowPlan::new(columns, csr.cols(), 2).encode(columns, csr.cols(), &mut index, place);
            black_box((&index, &values));
        }
    });
    for value_type in ValueType::ALL {
        let gap = csr_to_gap(&csr, value_type)?;
        bench(&name(&format!("csr_to_gap {value_type}")), nnz, || csr_to_gap(black_box(&csr), value_type));
        bench(&name(&format!("gap_to_csr {value_type}")), nnz, || gap_to_csr::<f32, u32>(black_box(&gap)));
    }
    let (pattern, plane) = csr_to_gap(&csr, ValueType::I8)?.into_parts();
    bench(&name("decode rows, positions summed"), nnz, || {
        (0..pattern.rows())
            .map(|row| pattern.row(row).map(|(_, column)| u64::from(column)).sum::<u64>())
            .sum::<u64>()
    });
    // Validation takes its planes away, so the copies are part of the time.
    let modes = || pattern.modes().map(|(modes, pointers)| (modes.into(), pointers.into()));
    let new = || GapPattern::new(4096, 11008, pattern.row_ptr().into(), pattern.index().into(), modes());
    bench(&name("GapPattern::new with a copy"), nnz, new);
    bench(&name("GapCsr::new with a copy"), nnz, || GapCsr::new(pattern.clone(), plane.clone()));
    let (row_ptr, columns, values) = csr.into_raw();
    bench(&name("Csr::new with a copy"), nnz, || {
        Csr::<f32>::new(4096, 11008, row_ptr.clone(), columns.clone(), values.clone())
    });
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;
    }
    quantising();
    triplets()?;
    gaps(5)?;
    gaps(1)?;
    Ok(())
}
