//! What a file of class statistics holds.

use residua::compensate::statistics::StatisticsReader;
use residua::compensate::{ClassGaussian, Covariance, Precision};
use residua::memory::Budget;
use serde::Serialize;

use crate::failure::Result;
use crate::output::{bytes, count, facts, number_of, ratio, table};

#[derive(Serialize)]
pub(super) struct Statistics {
    /// The feature dimension.
    dim: usize,
    samples: u64,
    /// The user's name of the model whose features they are of.
    model: Option<String>,
    /// Tasks that they went through since they were collected.
    tasks: u64,
    /// Bytes of means and covariances in memory.
    bytes: u64,
    /// Bytes that full f32 covariances would take.
    full_bytes: u64,
    classes: Vec<Class>,
    /// Number of all classes.
    #[serde(skip)]
    count: usize,
}

/// Classes of a table for people.
const SHOWN: usize = 1000;
/// Bytes of a class in JSON and in a table.
const JSON_CLASS: u64 = 800;
const SHOWN_CLASS: u64 = 2400;

#[derive(Serialize)]
struct Class {
    label: u32,
    samples: u64,
    /// How the covariance is stored: packed, factor, low-rank, or isotropic.
    form: &'static str,
    /// Columns of a factor.
    rank: Option<usize>,
    precision: Precision,
    bytes: u64,
    /// Length of the mean.
    mean_norm: f64,
    /// tr Σ / d.
    mean_variance: f64,
    /// The shrinkage that OAS would choose.
    oas: f64,
    /// The estimated squared error of the mean: 0 for a class that has not been moved.
    error: f64,
}

impl Class {
    fn new(label: u32, class: &ClassGaussian) -> Self {
        let covariance = class.covariance();
        Self {
            label,
            samples: class.count(),
            form: covariance.form(),
            rank: covariance.rank(),
            precision: covariance.precision(),
            bytes: class.bytes(),
            mean_norm: class.mean().norm(),
            mean_variance: covariance.trace() / class.dim().max(1) as f64,
            oas: class.oas(),
            error: class.error(),
        }
    }

    fn form_text(&self) -> String {
        let precision = match self.precision {
            Precision::F64 => "f64",
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        };
        match self.rank {
            Some(rank) if rank > 0 => format!("{} r = {rank}, {precision}", self.form),
            _ => format!("{}, {precision}", self.form),
        }
    }
}

impl Statistics {
    /// Of a file, whose classes are read one at a time. Keeps all of them, or those of a table for people.
    pub(super) fn read(file: &StatisticsReader, all: bool, budget: &Budget) -> Result<Self> {
        let (count, class) = match all {
            true => (file.len(), JSON_CLASS),
            false => (SHOWN.min(file.len()), SHOWN_CLASS),
        };
        let _held = budget.reserve(class * count as u64, "a table of classes")?;
        let full_bytes = (Covariance::dense_bytes(file.dim()) / 2).saturating_mul(file.len() as u64);
        let (dim, classes) = (file.dim(), Vec::with_capacity(count));
        let (model, tasks) = (file.tag().model().map(str::to_owned), file.tag().task());
        let mut new =
            Self { dim, samples: 0, model, tasks, bytes: 0, full_bytes, classes, count: file.len() };
        for (label, _) in file.counts() {
            let Some(class) = file.class(label, budget)? else { continue };
            new.samples += class.count();
            new.bytes += class.bytes();
            if new.classes.len() < count {
                new.classes.push(Class::new(label, &class));
            }
        }
        Ok(new)
    }

    pub(super) fn text(&self) -> String {
        let mut table =
            table(["class", "samples", "covariance", "size", "|mean|", "variance", "OAS", "error"]);
        for class in &self.classes {
            table.add_row([
                class.label.to_string(),
                count(class.samples),
                class.form_text(),
                bytes(class.bytes),
                format!("{:.3}", class.mean_norm),
                format!("{:.3e}", class.mean_variance),
                format!("{:.2}", class.oas),
                if class.error > 0.0 { format!("{:.3}", class.error) } else { String::new() },
            ]);
        }
        let full = ratio(self.full_bytes, self.bytes);
        let mut totals = vec![
            ("classes", format!("{} of {} samples", self.count, count(self.samples))),
            ("dimension", self.dim.to_string()),
            ("size", format!("{}, full f32 covariances take {full:.1} times that", bytes(self.bytes))),
        ];
        if self.tasks > 0 {
            totals.push(("moved", format!("through {}", number_of(self.tasks, "task"))));
        }
        totals.extend(self.model.clone().map(|model| ("model", model)));
        let totals = facts(&totals);
        let more = match self.count - self.classes.len() {
            0 => String::new(),
            more => format!("\n\n{} more of the classes are in --json", count(more as u64)),
        };
        format!("{table}{more}\n\n{totals}")
    }
}
