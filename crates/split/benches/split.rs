//! Parameters per second of split, materialize and verify: `cargo bench -p residua-split --bench split`.
//!
//! Six matrices of 4096×4096 bf16, INT4 base, 5 %, bf16 values; the best of five runs, files in the system's
//! cache, one and two threads.

use std::path::Path;
use std::time::Instant;

use residua_format::file::{Dtype, SafetensorsWriter};
use residua_format::{BaseKind, ValueType};
use residua_memory::Budget;
use residua_split::{
    MaterializeOptions, NoProgress, Output, SplitError, SplitOptions, VerifyOptions, materialize, split,
    verify,
};

const SIDE: usize = 4096;
const TENSORS: usize = 6;
const RUNS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let [input, file, dense] = ["in", "split", "dense"].map(|name| directory.path().join(name));
    write(&input)?;
    println!("{} parameters, million per second", TENSORS * SIDE * SIDE);
    println!("{:12} {:>9} {:>9}", "", "1 thread", "2 threads");
    let (options, budget) = (
        SplitOptions::default().base(BaseKind::Int4).density(0.05).values(ValueType::Bf16),
        Budget::unlimited(),
    );
    line("split", || split(&input, Output(&file), &options, &budget, &NoProgress).map(drop))?;
    line("materialize", || {
        materialize(&file, Output(&dense), &MaterializeOptions::default(), &budget, &NoProgress).map(drop)
    })?;
    let against = VerifyOptions::default().against(&input);
    line("verify", || verify(&file, &against, &budget, &NoProgress).map(drop))
}

fn line(
    what: &str,
    job: impl Fn() -> Result<(), SplitError> + Sync,
) -> Result<(), Box<dyn std::error::Error>> {
    print!("{what:12}");
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let mut best = f64::INFINITY;
        for _ in 0..RUNS {
            let start = Instant::now();
            pool.install(&job)?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        print!(" {:9.1}", (TENSORS * SIDE * SIDE) as f64 / best / 1e6);
    }
    println!();
    Ok(())
}

/// Bell-shaped weights, as a sum of four uniform bytes.
fn write(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut writer = SafetensorsWriter::create(path, 4096)?;
    let mut state = 1u64;
    for tensor in 0..TENSORS {
        writer.begin(&format!("w{tensor}"), Dtype::BF16, &[SIDE, SIDE])?;
        for _ in 0..SIDE {
            let row: Vec<u8> = (0..SIDE)
                .flat_map(|_| {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let sum: u32 = (state >> 24).to_le_bytes()[..4].iter().map(|&b| u32::from(b)).sum();
                    let fine = (state >> 56) as f32 / 256.0;
                    half::bf16::from_f32((sum as f32 + fine - 510.0) * 1e-4).to_le_bytes()
                })
                .collect();
            writer.write(&row)?;
        }
        writer.end()?;
    }
    Ok(writer.finish().map(drop)?)
}
