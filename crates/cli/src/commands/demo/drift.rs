//! The demo's second half: class statistics that follow a model, on bundled real features.

use std::path::Path;

use residua::memory::Budget;
use serde::Serialize;

use crate::commands::evaluate::accuracies;
use crate::compensation::methods::{MethodArg, ModeArg};
use crate::compensation::protocol::{Evaluation, Protocol, Row, Variant};
use crate::failure::Result;
use crate::progress::Bar;

/// Features of a MiniLM before and after a fine-tune, see `assets/README.md`.
#[cfg(feature = "demo")]
pub(super) const FEATURES: &[u8] = include_bytes!("../../../assets/drift.safetensors");
#[cfg(not(feature = "demo"))]
pub(super) const FEATURES: &[u8] = &[];

/// For machines.
#[derive(Serialize)]
pub(super) struct Compensation {
    rows: Vec<Row>,
    stages: Vec<Took>,
}

/// What it took to get the statistics of one stage.
#[derive(Serialize)]
struct Took {
    statistics: String,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
}

impl From<&Evaluation> for Compensation {
    fn from(found: &Evaluation) -> Self {
        let stages = found.stages.iter().map(|stage| Took {
            statistics: stage.name.clone(),
            seconds: stage.seconds,
            peak_memory_bytes: stage.peak_bytes,
        });
        Self { rows: found.rows().cloned().collect(), stages: stages.collect() }
    }
}

/// All but `attention`: it takes as long as the others together.
const METHODS: [MethodArg; 3] = [MethodArg::Linear, MethodArg::Rff, MethodArg::WeakNonlinear];

/// Evaluates methods on the features in `file`.
pub(super) fn evaluate(file: &Path, budget: &Budget, bar: &Bar) -> Result<Evaluation> {
    let mode = ModeArg::Exact;
    Protocol {
        file,
        variant: Variant::Full,
        methods: &METHODS,
        mode,
        noise: 1.0,
        auxiliary: &[],
        spectra: true,
    }
    .run(budget, bar)
}

pub(super) fn text(found: &Evaluation) -> String {
    let table = accuracies(found, |row| format!("{:.1}", row.all));
    format!(
        "A model learned {} new classes. The Gaussians of its {} old classes follow; no old sample is kept.\n\
         Accuracy in percent on {} test samples, with statistics of old classes stale, moved, and true:\n\n{table}",
        found.new_classes, found.old_classes, found.tests
    )
}
