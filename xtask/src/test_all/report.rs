//! The result of a row, and the table of all rows.

use std::fmt::{self, Write};
use std::ops::AddAssign;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ran,
    /// `installable`: the user can avoid the skip by installing something.
    Skipped {
        why: String,
        installable: bool,
    },
    Failed(String),
}

impl Outcome {
    pub(crate) fn missing(why: impl Into<String>) -> Self {
        Self::Skipped { why: why.into(), installable: true }
    }

    pub(crate) fn not_here(why: impl Into<String>) -> Self {
        Self::Skipped { why: why.into(), installable: false }
    }

    /// If `strict`, a row must not be skipped because something installable is missing.
    pub(crate) fn judged(self, strict: bool) -> Self {
        match self {
            Self::Skipped { why, installable: true } if strict => {
                Self::Failed(format!("must not be skipped in CI: {why}"))
            }
            other => other,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ran => f.write_str("ran"),
            Self::Skipped { why, .. } => write!(f, "skipped ({why})"),
            Self::Failed(why) => write!(f, "FAILED ({why})"),
        }
    }
}

/// Tests counted by result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Counts {
    /// The tests in the log of a row. A row without tests counts as one test. A failed row has at least one failure,
    /// because it may have failed before its tests.
    pub(crate) fn of_row(log: &str, outcome: &Outcome) -> Self {
        let mut counts = Self::parse(log);
        match outcome {
            Outcome::Ran if counts == Self::default() => counts.passed = 1,
            Outcome::Failed(_) => counts.failed = counts.failed.max(1),
            Outcome::Skipped { .. } => counts.skipped = counts.skipped.max(1),
            Outcome::Ran => {}
        }
        counts
    }

    /// Sums the lines that every Rust test binary ends with:
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; …`.
    fn parse(log: &str) -> Self {
        let mut counts = Self::default();
        for line in log.lines().filter_map(|line| line.trim().strip_prefix("test result: ")) {
            for part in line.split(['.', ';']) {
                match part.trim().split_once(' ') {
                    Some((number, "passed")) => counts.passed += number.parse().unwrap_or(0),
                    Some((number, "failed")) => counts.failed += number.parse().unwrap_or(0),
                    Some((number, "ignored")) => counts.skipped += number.parse().unwrap_or(0),
                    _ => {}
                }
            }
        }
        counts
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// One row of the table.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    pub(crate) counts: Counts,
    pub(crate) seconds: f64,
}

/// The table, ending with the totals alone on their line.
pub(crate) fn table(lines: &[Line]) -> String {
    let width = lines.iter().map(|line| line.name.len()).max().unwrap_or(0).max(3);
    let mut total = Counts::default();
    let mut seconds = 0.0;
    let mut text = format!(
        "\n{:<width$} | {:>6} | {:>6} | {:>7} | {:>7} | result\n",
        "row", "passed", "failed", "skipped", "seconds"
    );
    let rule = format!("{:-<width$}-|--------|--------|---------|---------|--------\n", "");
    text += &rule;
    for Line { name, outcome, counts: Counts { passed, failed, skipped }, seconds } in lines {
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "{name:<width$} | {passed:>6} | {failed:>6} | {skipped:>7} | {seconds:>7.1} | {outcome}"
        );
    }
    for line in lines {
        total += line.counts;
        seconds += line.seconds;
    }
    let Counts { passed, failed, skipped } = total;
    let _ = write!(
        text,
        "{rule}{:<width$} | {passed:>6} | {failed:>6} | {skipped:>7} | {seconds:>7.1} |\n\n\
         {passed} passed, {failed} failed, {skipped} skipped\n",
        "all"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
running 3 tests
test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.00s
   Doc-tests residua
test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s
9 passed; 9 failed; 9 ignored";

    #[test]
    fn libtest_summaries_are_summed() {
        assert_eq!(Counts::parse(LOG), Counts { passed: 5, failed: 1, skipped: 1 });
    }

    #[test]
    fn a_row_without_tests_counts_as_one() {
        let of = |outcome| Counts::of_row("no tests here", &outcome);
        assert_eq!(of(Outcome::Ran), Counts { passed: 1, ..Default::default() });
        assert_eq!(of(Outcome::Failed("x".into())), Counts { failed: 1, ..Default::default() });
        assert_eq!(of(Outcome::missing("x")), Counts { skipped: 1, ..Default::default() });
    }

    #[test]
    fn a_failed_row_never_counts_as_all_passed() {
        let log = "test result: ok. 3 passed; 0 failed; 0 ignored\nerror: could not compile";
        let counts = Counts::of_row(log, &Outcome::Failed("exit code 101".into()));
        assert_eq!(counts, Counts { passed: 3, failed: 1, skipped: 0 });
    }

    #[test]
    fn ci_refuses_only_skips_that_an_install_prevents() {
        assert!(matches!(Outcome::missing("no pip").judged(true), Outcome::Failed(_)));
        assert_eq!(Outcome::missing("no pip").judged(false), Outcome::missing("no pip"));
        assert_eq!(Outcome::not_here("no GPU").judged(true), Outcome::not_here("no GPU"));
        assert_eq!(Outcome::Ran.judged(true), Outcome::Ran);
    }

    #[test]
    fn the_last_line_is_the_plain_total() {
        let line = |name: &str, outcome, passed| Line {
            name: name.into(),
            outcome,
            counts: Counts { passed, ..Default::default() },
            seconds: 1.0,
        };
        let text = table(&[line("fmt", Outcome::Ran, 1), line("test-x", Outcome::not_here("why"), 41)]);
        assert_eq!(text.lines().last(), Some("42 passed, 0 failed, 0 skipped"));
        assert!(text.contains("skipped (why)"), "{text}");
    }
}
