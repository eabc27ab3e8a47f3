//! `cargo run --release --example split -- IN OUT [BUDGET]`: splits a checkpoint and prints what it took.

use std::path::Path;
use std::time::Instant;

use residua_memory::{Budget, ByteSize, process};
use residua_split::{NoProgress, SplitOptions, split};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, output, budget @ ..] = &arguments[..] else {
        return Err("usage: split IN OUT [BUDGET]".into());
    };
    let budget = match budget.first() {
        Some(size) => Budget::for_process(size.parse::<ByteSize>()?.0, 16 << 20)?,
        None => Budget::unlimited(),
    };
    let start = Instant::now();
    let options = SplitOptions::default();
    let report = split(Path::new(input), Path::new(output), &options, &budget, &NoProgress)?;
    let seconds = start.elapsed().as_secs_f64();
    let parameters = report.parameters() as f64;
    println!(
        "{parameters:.0} parameters in {seconds:.2} s = {:.1} M/s; {} non-zeros; {:.4} B residual per parameter",
        parameters / seconds / 1e6,
        report.nnz(),
        report.residual_bytes() as f64 / parameters
    );
    for tensor in report.tensors.iter().take(3) {
        println!("{}: base error {:.4}, error {:.4}", tensor.name, tensor.base_error, tensor.error);
    }
    println!("peak {}", ByteSize(process::peak_rss().unwrap_or(0)));
    Ok(())
}
