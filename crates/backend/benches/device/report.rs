//! Results as JSON and as tables.

use std::fmt::Write as _;
use std::path::Path;

use residua_format::ValueType;
use serde::Serialize;

use super::Result;
use super::date::now;

/// All results.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) device: String,
    pub(crate) driver: String,
    pub(crate) date: String,
    /// Commit of the sources, where the build knew it.
    pub(crate) commit: Option<&'static str>,
    /// The clock that timed the kernels.
    pub(crate) clock: String,
    pub(crate) conformance: Option<bool>,
    /// Whether bits repeat.
    pub(crate) repeats: Option<bool>,
    /// Bytes per second that a copy on the device reads and writes.
    pub(crate) copy_bandwidth: Option<f64>,
    /// What is not installed, or failed.
    pub(crate) notes: Vec<String>,
    pub(crate) targets: Vec<Target>,
    pub(crate) rows: Vec<Row>,
    /// Whether everything was tried.
    pub(crate) complete: bool,
}

/// One figure and its peers.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) shape: [usize; 2],
    pub(crate) density: f64,
    pub(crate) operation: String,
    pub(crate) values: String,
    pub(crate) mode: String,
    /// Of one product, layer or conversion.
    pub(crate) seconds: f64,
    /// Bytes that must move: the matrix in its layout on the device, x and y.
    pub(crate) bytes: usize,
    /// Other contestants' seconds.
    pub(crate) peers: Vec<(String, f64)>,
}

/// How rows call the base without its residual.
pub(crate) const BASE_ALONE: &str = "base alone";

impl Row {
    /// A product with `batch` vectors of a matrix of `matrix_bytes`.
    pub(crate) fn product(
        shape: [usize; 2],
        density: f64,
        (values, batch, mode): (ValueType, usize, &str),
        matrix_bytes: usize,
        seconds: f64,
        peers: Vec<(String, f64)>,
    ) -> Self {
        Self {
            shape,
            density,
            operation: if batch == 1 { "spmv".into() } else { format!("spmm {batch}") },
            values: values.name().into(),
            mode: mode.into(),
            seconds,
            bytes: matrix_bytes + vector_bytes(shape, batch),
            peers,
        }
    }

    /// A layer of `layer_bytes`: the seconds of the whole layer and of its base alone.
    pub(crate) fn layer(
        shape: [usize; 2],
        density: f64,
        batch: usize,
        layer_bytes: usize,
        [whole, base_alone]: [f64; 2],
    ) -> Self {
        Self {
            shape,
            density,
            operation: format!("layer {batch}"),
            values: ValueType::Bf16.name().into(),
            mode: "cold".into(),
            seconds: whole,
            bytes: layer_bytes + vector_bytes(shape, batch),
            peers: vec![(BASE_ALONE.into(), base_alone)],
        }
    }
}

/// Bytes of x and y.
fn vector_bytes([rows, cols]: [usize; 2], batch: usize) -> usize {
    4 * batch * (rows + cols)
}

/// A target figure.
#[derive(Debug, Serialize)]
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) at: String,
    pub(crate) wanted: Bound,
    pub(crate) unit: &'static str,
    /// `None` where it could not be measured.
    pub(crate) measured: Option<f64>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) enum Bound {
    AtLeast(f64),
    #[allow(dead_code)] // One of the programs has no such target.
    AtMost(f64),
}

impl Report {
    pub(crate) fn new(device: String, driver: String, clock: &str) -> Self {
        Self {
            device,
            driver,
            date: now(),
            commit: option_env!("RESIDUA_COMMIT"),
            clock: clock.into(),
            conformance: None,
            repeats: None,
            copy_bandwidth: None,
            notes: Vec::new(),
            targets: Vec::new(),
            rows: Vec::new(),
            complete: false,
        }
    }

    /// Whether all checked results are right.
    pub(crate) fn is_right(&self) -> bool {
        self.conformance != Some(false) && self.repeats == Some(true)
    }

    /// The row of an operation.
    pub(crate) fn find(
        &self,
        shape: [usize; 2],
        density: f64,
        [operation, values, mode]: [&str; 3],
    ) -> Option<&Row> {
        self.rows.iter().find(|row| {
            row.shape == shape
                && row.density == density
                && [&row.operation, &row.values, &row.mode] == [operation, values, mode]
        })
    }

    /// Writes `NAME.json` and `NAME.md`. Called after every step, so that an interrupted run leaves its results.
    pub(crate) fn save(&self, folder: &Path, name: &str) -> Result {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join(format!("{name}.json")), serde_json::to_string_pretty(self)?)?;
        Ok(std::fs::write(folder.join(format!("{name}.md")), self.markdown())?)
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = self.head();
        text += &self.targets();
        text += "\n## Figures\n\nGB/s counts the matrix as it lies on the device, x and y once each. Cold: one matrix after \
                 another, together more than the caches hold; warm: one matrix again and again. Times faster: the \
                 peer's time over ours; `layer` rows have the base alone as peer, where below 1 is the residual's \
                 cost.\n\n\
                 | shape | density | operation | values | mode | µs | GB/s | of copy | times faster |\n\
                 |---|---|---|---|---|---|---|---|---|\n";
        for row in &self.rows {
            let share = self.share(row).map_or("–".into(), |share| format!("{:.0} %", 100.0 * share));
            let peer = |(name, seconds): &(String, f64)| format!("{name} {:.2}", seconds / row.seconds);
            let peers: Vec<String> = row.peers.iter().map(peer).collect();
            let _ = writeln!(
                text,
                "| {} | {} % | {} | {} | {} | {:.2} | {:.1} | {share} | {} |",
                shape_text(row.shape),
                100.0 * row.density,
                row.operation,
                row.values,
                row.mode,
                1e6 * row.seconds,
                row.speed() / 1e9,
                peers.join(", ")
            );
        }
        text
    }

    fn head(&self) -> String {
        let word = |found: Option<bool>| match found {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "not tried",
        };
        let mut text = format!(
            "# {}\n\nDriver: {}. {}, commit {}. Timed by {}. Conformance passed: {}. Bits repeat: {}.\n",
            self.device,
            self.driver,
            self.date,
            self.commit.unwrap_or("unknown"),
            self.clock,
            word(self.conformance),
            word(self.repeats)
        );
        if let Some(copy) = self.copy_bandwidth {
            let _ = writeln!(
                text,
                "A copy on the device moves {:.1} GB/s, reads and writes counted.",
                copy / 1e9
            );
        }
        if !self.complete {
            text += "\n**The run was cut short: something is missing.**\n";
        }
        if !self.notes.is_empty() {
            text += "\n";
        }
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        text
    }

    fn targets(&self) -> String {
        let mut text =
            "\n## Targets\n\n| what | at | wanted | measured | reached |\n|---|---|---|---|---|\n".to_owned();
        for Target { what, at, wanted, unit, measured } in &self.targets {
            let (wanted, reached) = match *wanted {
                Bound::AtLeast(least) => (format!("≥ {least} {unit}"), measured.map(|found| found >= least)),
                Bound::AtMost(most) => (format!("≤ {most} {unit}"), measured.map(|found| found <= most)),
            };
            let measured = measured.map_or("not measured".into(), |found| format!("{found:.2} {unit}"));
            let reached = reached.map_or("–", |reached| if reached { "yes" } else { "NO" });
            let _ = writeln!(text, "| {what} | {at} | {wanted} | {measured} | {reached} |");
        }
        text
    }

    /// A row's speed as a share of the copy's.
    pub(crate) fn share(&self, row: &Row) -> Option<f64> {
        self.copy_bandwidth.map(|copy| row.speed() / copy)
    }
}

impl Row {
    /// Bytes per second.
    pub(crate) fn speed(&self) -> f64 {
        self.bytes as f64 / self.seconds
    }

    /// How many times faster than a peer it is.
    #[allow(dead_code)] // One of the programs has targets of other kinds only.
    pub(crate) fn times_faster_than(&self, peer: &str) -> Option<f64> {
        self.peers.iter().find(|(name, _)| name.starts_with(peer)).map(|(_, seconds)| seconds / self.seconds)
    }
}

pub(crate) fn shape_text([rows, cols]: [usize; 2]) -> String {
    format!("{rows}×{cols}")
}
