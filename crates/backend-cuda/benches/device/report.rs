//! What was found, as JSON and as tables.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) device: String,
    /// Seconds since 1970.
    pub(crate) time: u64,
    /// Commit of the sources, where the build knew it.
    pub(crate) commit: Option<&'static str>,
    pub(crate) conformance: Option<bool>,
    /// Whether bits repeat.
    pub(crate) repeats: Option<bool>,
    /// Bytes per second that a copy on the device reads and writes.
    pub(crate) copy_bandwidth: Option<f64>,
    /// Peers that are not installed, or failed.
    pub(crate) absent: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

/// One figure with those it is compared to.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) shape: [usize; 2],
    pub(crate) density: f64,
    pub(crate) operation: String,
    pub(crate) values: String,
    pub(crate) mode: String,
    pub(crate) seconds: f64,
    /// Bytes that have to be moved at least.
    pub(crate) bytes: usize,
    /// Other contestants' seconds.
    pub(crate) peers: Vec<(String, f64)>,
}

impl Report {
    pub(crate) fn new(device: &str) -> Self {
        Self {
            device: device.into(),
            time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            commit: option_env!("RESIDUA_COMMIT"),
            conformance: None,
            repeats: None,
            copy_bandwidth: None,
            absent: Vec::new(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn markdown(&self) -> String {
        let word = |found: Option<bool>| match found {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "not tried",
        };
        let mut text = format!(
            "# {}\n\nCommit {}, {} seconds after 1970. Conformance passed: {}. Bits repeat: {}.\n",
            self.device,
            self.commit.unwrap_or("unknown"),
            self.time,
            word(self.conformance),
            word(self.repeats)
        );
        if let Some(copy) = self.copy_bandwidth {
            let _ = writeln!(
                text,
                "A copy on the device moves {:.0} GB/s, reads and writes counted.",
                copy / 1e9
            );
        }
        if !self.absent.is_empty() {
            let _ = writeln!(text, "Not there: {}.", self.absent.join(", "));
        }
        text += "\nTimes faster: the peer's time over ours; `layer` rows have the base alone as peer, where below 1 is the \
                 residual's cost.\n\n\
                 | shape | density | operation | values | mode | µs | GB/s | of copy | times faster |\n\
                 |---|---|---|---|---|---|---|---|---|\n";
        for row in &self.rows {
            let speed = row.bytes as f64 / row.seconds;
            let share =
                self.copy_bandwidth.map_or("–".into(), |copy| format!("{:.0} %", 100.0 * speed / copy));
            let peer = |(name, seconds): &(String, f64)| format!("{name} {:.2}", seconds / row.seconds);
            let peers: Vec<String> = row.peers.iter().map(peer).collect();
            let _ = writeln!(
                text,
                "| {}×{} | {} % | {} | {} | {} | {:.2} | {:.0} | {share} | {} |",
                row.shape[0],
                row.shape[1],
                100.0 * row.density,
                row.operation,
                row.values,
                row.mode,
                1e6 * row.seconds,
                speed / 1e9,
                peers.join(", ")
            );
        }
        text
    }
}
