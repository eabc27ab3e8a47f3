//! Moves the statistics of old classes along with a model that learned new ones: `cargo run --example statistics`.

use residua::Budget;
use residua::compensate::source::{SafetensorsSource, TensorNames};
use residua::compensate::{ClassStatistics, Classifier, Lda, Linear, Method};
use residua::format::file::Checkpoint;

/// Features of WordNet glosses before and after MiniLM was fine-tuned on new classes.
const DRIFT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/drift.safetensors");

fn main() -> residua::Result<()> {
    let path = std::env::args().nth(1).unwrap_or(DRIFT.into());
    let budget = Budget::new(256 << 20);
    let labelled = |features: &str, labels: &str| {
        SafetensorsSource::open(&path, &TensorNames::features(features).with_labels(labels))
    };
    let collect = |features, labels| {
        ClassStatistics::collect(&mut labelled(features, labels)?, &Default::default(), &budget)
    };
    let stale = collect("old_before", "y_old")?;

    // The new task's samples, before and after: all that a compensator sees.
    let pairs = TensorNames::features("cur_before").with_after("cur_after_full");
    let map = Linear::default().fit(&mut SafetensorsSource::open(&path, &pairs)?, &budget)?;
    let moved = map.apply(&stale, &budget)?;

    let new = collect("cur_after_full", "y_cur")?;
    let file = Checkpoint::open(&path)?;
    let mut labels = vec![0u32; 2400];
    file.read_integers(file.expect_tensor("y_test")?, 0, &mut labels)?;
    let test = TensorNames::features("test_after_full");
    for (name, old) in [("stale", stale), ("moved", moved)] {
        let lda = Lda::new(&old.merge(&new, &budget)?, Default::default(), &budget)?;
        let found = lda.predict_source(&mut SafetensorsSource::open(&path, &test)?, &budget)?;
        let right = found.iter().zip(&labels).filter(|(found, label)| found == label).count();
        println!("{name} statistics: {:.1} % right", 100.0 * right as f64 / labels.len() as f64);
    }
    Ok(())
}
