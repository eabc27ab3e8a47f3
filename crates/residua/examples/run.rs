//! Runs a layer of a split file on the best device: `cargo run --example run [SPLIT] [LAYER]`.

use residua::{Budget, Device, Job, Output, SplitFile, SplitOptions};

/// Two layers of all-MiniLM-L6-v2.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/minilm-layers.safetensors");

fn main() -> residua::Result<()> {
    let budget = Budget::new(256 << 20);
    let mut arguments = std::env::args().skip(1);
    let path = match arguments.next() {
        Some(path) => path,
        None => {
            let path = "example-run.safetensors";
            Job::new(&budget).split(MODEL, Output(path), &SplitOptions::default())?;
            path.into()
        }
    };
    let file = SplitFile::open(&path)?;
    let first = || file.layers().next().map(|layer| layer.name).unwrap_or_default();
    let name = arguments.next().unwrap_or_else(first);

    let device = Device::best(&budget)?;
    let layer = file.layer(&name, &device)?;
    println!("{name}: {} -> {} features on {device}", layer.in_features(), layer.out_features());

    // Four inputs, one after the other; alpha 0 is the base alone, alpha 1 the whole model.
    let x: Vec<f32> = (0..4 * layer.in_features()).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect();
    for alpha in [0.0, 0.5, 1.0] {
        let y = layer.forward(alpha, &x, 4)?;
        println!("alpha {alpha}: {:?} ...", &y[..y.len().min(4)]);
    }
    Ok(())
}
