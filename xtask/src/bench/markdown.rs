//! The page with the results: ratios first.

use std::fmt::Write;

use residua_memory::ByteSize;

use super::contestant::{OURS, Reply};

/// Two sums of the same numbers, added in another order and with f32 products, agree this well.
const AGREEMENT: f64 = 1e-4;

/// One case at one number of threads.
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) unit: &'static str,
    /// Units of work in one printed unit.
    pub(super) per: f64,
    pub(super) threads: usize,
    /// Units of work in one repetition.
    pub(super) work: f64,
    pub(super) entries: Vec<Entry>,
}

/// The answers of one contestant.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) name: String,
    seconds: Vec<f64>,
    check: Option<f64>,
    peak_bytes: Option<u64>,
    note: Option<String>,
    pub(super) failure: Option<String>,
}

impl Entry {
    /// From the answer to the warm-up.
    pub(super) fn new(name: &str, reply: Reply) -> Self {
        Self {
            name: name.to_owned(),
            check: reply.check,
            peak_bytes: reply.peak_bytes,
            note: reply.note,
            ..Self::default()
        }
    }

    pub(super) fn failed(name: &str, failure: String) -> Self {
        Self { name: name.to_owned(), failure: Some(failure), ..Self::default() }
    }

    pub(super) fn add(&mut self, reply: Reply) {
        self.seconds.extend(reply.seconds);
        self.peak_bytes = self.peak_bytes.max(reply.peak_bytes);
    }
}

impl Section {
    fn rate(&self, entry: &Entry) -> Option<f64> {
        Some(self.work / median(entry.seconds.iter().copied())? / self.per)
    }

    fn ours(&self) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == OURS && !entry.seconds.is_empty())
    }

    /// How many times faster we are: the median of the ratios within rounds.
    fn ratio(&self, other: &Entry) -> Option<f64> {
        let ours = self.ours()?;
        // A failure in one round would pair the wrong times.
        if ours.seconds.len() != other.seconds.len() {
            return None;
        }
        median(other.seconds.iter().zip(&ours.seconds).map(|(theirs, ours)| theirs / ours))
    }

    /// Contestants whose result differs from the first one's.
    fn disagreeing(&self) -> Vec<&str> {
        let mut checks = self.entries.iter().filter_map(|entry| Some((entry.name.as_str(), entry.check?)));
        let Some((_, first)) = checks.next() else { return Vec::new() };
        // NaN agrees with nothing.
        let agrees = |check: f64| (check - first).abs() <= AGREEMENT * first.abs();
        checks.filter(|&(_, check)| !agrees(check)).map(|(name, _)| name).collect()
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

pub(super) fn page(
    machine: &[(&str, String)],
    contestants: &[String],
    absent: &[String],
    sections: &[Section],
    scale: Option<&str>,
) -> String {
    let mut page = String::from(
        "# Benchmarks\n\nWritten by `cargo xtask bench`; run it to measure on your own machine. All contestants get the\n\
         same data and take turns, one repetition each per round. Their results are compared. Ratios are\n\
         taken within rounds; all figures are medians.\n\n## How many times faster Residua is\n\n\
         | what | threads | against | times |\n|---|---|---|---|\n",
    );
    // Writing into a String cannot fail; the same holds below.
    for section in sections {
        for entry in section.entries.iter().filter(|entry| entry.name != OURS) {
            let Some(ratio) = section.ratio(entry) else { continue };
            let _ = writeln!(
                page,
                "| {} | {} | {} | **{ratio:.2}×** |",
                section.title, section.threads, entry.name
            );
        }
    }
    if sections.iter().all(|section| section.ours().is_none()) {
        page += "\nResidua itself did not take part in this run.\n";
    }
    page += "\n## Rates\n";
    for section in sections {
        let plural = if section.threads == 1 { "" } else { "s" };
        let _ = write!(page, "\n### {}, {} thread{plural}\n\n", section.title, section.threads);
        let _ = writeln!(page, "| | {} | best | scratch | |\n|---|---|---|---|---|", section.unit);
        let disagreeing = section.disagreeing();
        for entry in &section.entries {
            let best = entry.seconds.iter().copied().reduce(f64::min).map(|s| section.work / s / section.per);
            let mut remarks: Vec<String> = entry.note.iter().cloned().collect();
            remarks.extend(entry.failure.iter().map(|failure| format!("failed: {failure}")));
            if disagreeing.contains(&entry.name.as_str()) {
                remarks.push("**another result than the first row**".into());
            }
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} | {} |",
                entry.name,
                number(section.rate(entry)),
                number(best),
                entry.peak_bytes.map_or_else(String::new, |bytes| ByteSize(bytes).to_string()),
                remarks.join("; ")
            );
        }
    }
    page += "\n";
    if let Some(scale) = scale {
        page += scale;
    }
    page += "## Measured on\n\n";
    for (name, value) in machine {
        let _ = writeln!(page, "- {name}: {value}");
    }
    let _ = writeln!(page, "- Contestants: {}", contestants.join("; "));
    for line in absent {
        let _ = writeln!(page, "- Absent: {line}");
    }
    page
}

/// Three digits.
fn number(value: Option<f64>) -> String {
    match value {
        None => "–".into(),
        Some(value) if value < 10.0 => format!("{value:.2}"),
        Some(value) if value < 100.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, seconds: &[f64], check: f64) -> Entry {
        Entry { name: name.into(), seconds: seconds.to_vec(), check: Some(check), ..Entry::default() }
    }

    fn section(entries: Vec<Entry>) -> Section {
        Section { title: "SpMV", unit: "Gnnz/s", per: 1e9, threads: 1, work: 2e9, entries }
    }

    #[test]
    fn ratios_are_taken_within_rounds() {
        // The machine halves its speed in the second round: the ratio stays.
        let section = section(vec![entry(OURS, &[1.0, 2.0, 1.0], 5.0), entry("mkl", &[3.0, 6.0, 3.0], 5.0)]);
        assert_eq!(section.ratio(&section.entries[1]), Some(3.0));
        assert_eq!(section.rate(&section.entries[0]), Some(2.0));
        let page = page(&[], &[], &[], &[section], None);
        assert!(page.contains("| SpMV | 1 | mkl | **3.00×** |"), "{page}");
    }

    #[test]
    fn a_missed_round_gives_no_ratio() {
        let section = section(vec![entry(OURS, &[1.0, 1.0], 5.0), entry("mkl", &[3.0], 5.0)]);
        assert_eq!(section.ratio(&section.entries[1]), None);
    }

    #[test]
    fn a_wrong_result_is_named() {
        let section =
            section(vec![entry(OURS, &[1.0], 5.0), entry("a", &[1.0], 5.000_1), entry("b", &[1.0], 5.1)]);
        assert_eq!(section.disagreeing(), ["b"]);
        let nan = Section { entries: vec![entry("a", &[], 1.0), entry("b", &[], f64::NAN)], ..section };
        assert_eq!(nan.disagreeing(), ["b"]);
    }

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0].into_iter()), Some(2.5));
        assert_eq!(median([].into_iter()), None);
    }
}
