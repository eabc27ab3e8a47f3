//! Ships a fine-tune as what changed: `cargo run --example delta [OLD NEW]`.

use residua::format::file::{Checkpoint, SafetensorsWriter};
use residua::{Budget, Delta, Job, New, Old, Output};

/// Two layers of all-MiniLM-L6-v2.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/minilm-layers.safetensors");

fn main() -> residua::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (old, new) = match &arguments[..] {
        [old, new] => (old.clone(), new.clone()),
        _ => (MODEL.into(), tuned("example-tuned.safetensors")?),
    };
    let job = Job::new(&Budget::new(256 << 20));
    let report = job.diff(Old(&old), New(&new), Output("example-delta.safetensors"))?;
    println!("{} changes in {} bytes", report.changed(), report.delta_bytes);

    job.patch(Old(&old), Delta("example-delta.safetensors"), Output("example-patched.safetensors"))?;
    assert_eq!(std::fs::read(&new).ok(), std::fs::read("example-patched.safetensors").ok());
    println!("patched: equal to {new}, bit for bit");
    Ok(())
}

/// The model with every hundredth byte changed.
fn tuned(path: &str) -> residua::Result<String> {
    let model = Checkpoint::open(MODEL)?;
    let mut writer = SafetensorsWriter::create(path, 64 << 10)?;
    for tensor in model.tensors() {
        let mut bytes = vec![0; tensor.bytes as usize];
        model.read_at(tensor, 0, &mut bytes)?;
        bytes.iter_mut().step_by(100).for_each(|byte| *byte ^= 1);
        writer.tensor(&tensor.name, tensor.dtype, &tensor.shape, &bytes)?;
    }
    writer.finish()?;
    Ok(path.into())
}
