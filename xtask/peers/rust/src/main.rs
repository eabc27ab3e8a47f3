//! sprs, nalgebra-sparse and faer as contestants of `cargo xtask bench`.
//!
//! `residua-bench-peers LIBRARY FOLDER` speaks the protocol of `xtask/src/bench/contestant.rs` on the files
//! of `xtask/src/bench/data.rs`. All three libraries multiply on one thread only. Dense operands have the
//! layout that the library prefers.

mod files;
mod libraries;

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use libraries::{Library, Product};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Columns of the dense operand of `spmm`.
const BATCH: usize = 32;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [library, folder] = args.as_slice() else {
        return Err("usage: residua-bench-peers sprs|nalgebra-sparse|faer FOLDER".into());
    };
    let library = Library::named(library)?;
    let folder = Path::new(folder);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", json!({ "ready": library.version() }))?;
    // The matrices of the last case, laid out for it.
    let mut ready: Option<(String, Vec<Box<dyn Product>>)> = None;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let reply = match line.split_once(' ') {
            Some((_, threads)) if threads != "1" => json!({ "skip": "one thread only" }),
            Some(("coo", _)) => coo(library, folder)?,
            Some((case @ ("spmv" | "spmm"), _)) => {
                if ready.as_ref().is_none_or(|(name, _)| name != case) {
                    // Frees the last case before the next one is loaded.
                    drop(ready.take());
                    let batch = if case == "spmv" { 1 } else { BATCH };
                    ready = Some((case.to_owned(), load(library, folder, batch)?));
                }
                multiply(ready.as_mut().map_or(&mut [], |(_, products)| products))
            }
            _ => json!({ "skip": "not done here" }),
        };
        writeln!(out, "{reply}")?;
    }
    Ok(())
}

fn coo(library: Library, folder: &Path) -> Result<Value> {
    let entries = library.entries(files::coo(&folder.join("coo.safetensors"))?)?;
    let start = Instant::now();
    let stored = entries.to_csr();
    Ok(json!({ "seconds": start.elapsed().as_secs_f64(), "check": stored }))
}

fn load(library: Library, folder: &Path, batch: usize) -> Result<Vec<Box<dyn Product>>> {
    files::matrices(folder)?.iter().map(|path| library.product(files::csr(path)?, batch)).collect()
}

fn multiply(products: &mut [Box<dyn Product>]) -> Value {
    let start = Instant::now();
    for product in products.iter_mut() {
        product.run();
    }
    let seconds = start.elapsed().as_secs_f64();
    let check: f64 = products.iter().map(|product| product.sum()).sum();
    json!({ "seconds": seconds, "check": check })
}

/// The dense operand that all contestants use.
fn x(row: usize, col: usize, batch: usize) -> f32 {
    let step = if batch == 1 { row } else { 31 * row + 7 * col };
    (step % 17) as f32 / 16.0
}
