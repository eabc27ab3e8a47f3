//! `residua stats --partial I/N`: the exact state of a part, which `residua stats merge` takes.

use std::path::Path;
use std::time::Instant;

use residua::compensate::statistics::Leaves;
use residua::compensate::{FeatureSource, Side, StatisticsBuilder};
use residua::memory::{Budget, process};
use serde::Serialize;

use crate::compensation::arrays::Arrays;
use crate::compensation::features::Features;
use crate::failure::{Failure, Result};
use crate::output::{bytes, count, facts, print, print_json};
use crate::progress::Bar;

/// A part, from 0, and the number of parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part(u64, u64);

pub(super) fn part(text: &str) -> Result<Part, String> {
    let numbers = text.split_once('/').map(|(part, parts)| (part.parse::<u64>(), parts.parse::<u64>()));
    match numbers {
        Some((Ok(part), Ok(parts))) if (1..=parts).contains(&part) => Ok(Part(part - 1, parts)),
        _ => Err("write part and number of parts, such as 2/8 for the second of eight".into()),
    }
}

/// The report of partial statistics.
#[derive(Serialize)]
pub(super) struct Written {
    first_leaf: u64,
    leaf_rows: u64,
    classes: usize,
    samples: u64,
    /// Samples of all parts, if known.
    total_samples: Option<u64>,
    dim: usize,
    output_bytes: u64,
}

/// The report of a command that wrote partial statistics.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    written: &'a Written,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
    memory_budget_bytes: u64,
}

impl Written {
    /// Writes the state of a builder.
    pub(super) fn save(builder: &StatisticsBuilder, output: &Path) -> Result<Self> {
        Ok(Self {
            first_leaf: builder.first_leaf(),
            leaf_rows: builder.leaves().rows(),
            classes: builder.classes(),
            samples: builder.samples(),
            total_samples: builder.leaves().total(),
            dim: builder.dim(),
            output_bytes: builder.save(output)?,
        })
    }

    pub(super) fn print(&self, start: Instant, budget: &Budget, output: &Path, json: bool) -> Result {
        let (seconds, peak) = (start.elapsed().as_secs_f64(), process::peak_rss());
        if json {
            let memory_budget_bytes = budget.limit();
            return print_json(&Report {
                written: self,
                seconds,
                peak_memory_bytes: peak,
                memory_budget_bytes,
            });
        }
        let of = self.total_samples.map_or_else(String::new, |total| format!(" of {}", count(total)));
        let mut rows = vec![
            ("samples", format!("{}{of}, from leaf {} on", count(self.samples), count(self.first_leaf))),
            ("classes", format!("{}, d = {}", count(self.classes as u64), self.dim)),
            ("size", bytes(self.output_bytes)),
            ("took", format!("{seconds:.1} s")),
        ];
        if let Some(peak) = peak {
            rows.push(("memory", format!("peak {} of {}", bytes(peak), bytes(budget.limit()))));
        }
        rows.push(("wrote", format!("{}; residua stats merge takes it", output.display())));
        print(facts(&rows))
    }
}

/// Writes the state of a part of all files.
pub(super) fn collect(
    parts: Vec<Arrays>,
    Part(part, of): Part,
    leaves: Leaves,
    output: &Path,
    budget: &Budget,
    bar: &Bar,
) -> Result<Written> {
    let mut place = (leaves, 0);
    let mut source = Features::open_rows(parts, "collecting", budget, bar, |rows| {
        let leaves = leaves.of_total(rows);
        let range = leaves.part(part, of).unwrap_or_default();
        if range.is_empty() {
            let most = leaves.count().unwrap_or(0);
            let problem = format!("part {} of {of} is empty: {rows} rows have {most} leaves", part + 1);
            return Err(Failure::usage(format!(
                "{problem}; ask for at most that many parts, or for a smaller --leaf-rows"
            )));
        }
        place = (leaves, range.start);
        Ok(leaves.rows_of(range))
    })?;
    let mut builder = StatisticsBuilder::part(source.dim(), place.0, place.1, budget);
    builder.add_source(&mut source, Side::Before)?;
    Written::save(&builder, output)
}
