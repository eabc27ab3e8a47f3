//! Splits a checkpoint within 256 MiB and says what that cost: `cargo run --example split [MODEL] [OUTPUT]`.

use residua::{Budget, Job, Output, SplitFile, SplitOptions, VerifyOptions};

/// Two layers of all-MiniLM-L6-v2.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/minilm-layers.safetensors");

fn main() -> residua::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or(MODEL.into());
    let output = arguments.next().unwrap_or("example-split.safetensors".into());

    let job = Job::new(&Budget::new(256 << 20));
    let report = job.split(&model, Output(&output), &SplitOptions::default().density(0.05))?;
    let bytes_per_nonzero = report.residual_bytes() as f64 / report.nnz() as f64;
    println!(
        "{} -> {} bytes, {bytes_per_nonzero:.2} bytes per non-zero",
        report.input_bytes, report.output_bytes
    );

    let verified = job.verify(&output, &VerifyOptions::default().against(&model))?;
    for tensor in verified.tensors.iter().filter(|tensor| tensor.split) {
        println!("{:60} error {:.2} %", tensor.name, 100.0 * tensor.error.unwrap_or_default());
    }
    assert_eq!(SplitFile::open(&output)?.layers().len(), report.tensors.len());
    Ok(())
}
