//! Speed and size of diff and patch on a bf16 checkpoint of which 1 % changed, against `cmp` on files of the
//! same size that are equal, all from a warm page cache:
//!
//!     cargo bench -p residua-split --bench diff [-- MEGABYTES]

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use residua_format::file::{Dtype, SafetensorsWriter};
use residua_memory::Budget;
use residua_split::{Delta, DiffOptions, New, NoProgress, Old, Output, diff, patch};

/// A tensor of 4096 × 4096.
const SHAPE: [usize; 2] = [4096, 4096];
const ROUNDS: usize = 5;
const BUDGET: u64 = 256 << 20;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    // Cargo passes --bench.
    let megabytes = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(1024);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let at = |name| dir.path().join(name);
    let (old, new, delta, patched) = (at("old"), at("new"), at("delta"), at("patched"));
    let tensors = (megabytes << 20) / (2 * SHAPE[0] * SHAPE[1]);
    checkpoint(&old, tensors.max(1), false)?;
    checkpoint(&new, tensors.max(1), true)?;
    std::fs::copy(&new, at("equal"))?;
    let bytes = std::fs::metadata(&new)?.len();
    let (options, budget) = (DiffOptions::default(), Budget::new(BUDGET));

    let mut best = [Duration::MAX; 4];
    let mut report = None;
    for _ in 0..ROUNDS {
        let mut time = |i: usize, job: &mut dyn FnMut() -> Result<()>| -> Result<()> {
            let start = Instant::now();
            job()?;
            best[i] = best[i].min(start.elapsed());
            Ok(())
        };
        time(0, &mut || {
            let equal = Command::new("cmp").args([&new, &at("equal")]).status()?;
            if equal.success() { Ok(()) } else { Err("cmp finds a difference".into()) }
        })?;
        time(1, &mut || {
            report = Some(diff(Old(&old), New(&new), Output(&delta), &options, &budget, &NoProgress)?);
            Ok(())
        })?;
        time(2, &mut || {
            patch(Old(&old), Delta(&delta), Output(&patched), &budget, &NoProgress)?;
            Ok(())
        })?;
        // Nothing changed: the same work for a reader, no work for an encoder.
        time(3, &mut || {
            diff(Old(&new), New(at("equal")), Output(at("none")), &options, &budget, &NoProgress)?;
            Ok(())
        })?;
    }
    let equal = Command::new("cmp").args([&new, &patched]).status()?;
    if !equal.success() {
        return Err("the patched checkpoint is not the new one".into());
    }
    let Some(report) = report else { return Ok(()) };
    let threads = rayon::current_num_threads();
    println!("two files of {:.2} GB, {} elements, {threads} threads", bytes as f64 / 1e9, report.elements());
    println!("best of {ROUNDS}, both files counted:");
    for (name, time) in
        ["cmp, equal files", "diff, 1 % changed", "patch (one read, one written)", "diff, equal files"]
            .into_iter()
            .zip(best)
    {
        let rate = 2.0 * bytes as f64 / 1e9 / time.as_secs_f64();
        let ratio = best[0].as_secs_f64() / time.as_secs_f64();
        println!("  {name:<30} {:>7.3} s {rate:>6.2} GB/s  {ratio:.2} x cmp", time.as_secs_f64());
    }
    let (changed, size) = (report.changed(), report.delta_bytes);
    println!("delta: {size} bytes, {changed} changed, {:.3} bytes a change", report.bytes_per_change());
    Ok(())
}

/// Writes a checkpoint of pseudo-random bf16 bits; `changed`: with one element in a hundred, at random, another.
fn checkpoint(path: &Path, tensors: usize, changed: bool) -> Result<()> {
    let mut writer = SafetensorsWriter::create(path, 1 << 16)?;
    let mut bits = 1u64;
    let mut places = 2u64;
    for i in 0..tensors {
        writer.begin(&format!("model.layers.{i}.weight"), Dtype::BF16, &SHAPE)?;
        let mut row = Vec::with_capacity(2 * SHAPE[1]);
        for _ in 0..SHAPE[0] {
            row.clear();
            for _ in 0..SHAPE[1] {
                let value = (next(&mut bits) >> 48) as u16;
                let change = changed && next(&mut places) < u64::MAX / 100;
                row.write_all(&(value ^ u16::from(change)).to_le_bytes())?;
            }
            writer.write(&row)?;
        }
        writer.end()?;
    }
    writer.finish()?;
    Ok(())
}

/// Xorshift.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
