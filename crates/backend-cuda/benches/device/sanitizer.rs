//! The conformance suite under compute-sanitizer, if that is installed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::shared::report::Report;
use super::shared::{Result, suite};

/// The time limit of the suite under it: about ten times its normal time.
const LIMIT: Duration = Duration::from_secs(180);

/// Whether it found nothing; `None` and a note if it is not installed or does not end in time.
pub(crate) fn run(device: &str, report: &mut Report) -> Result<Option<bool>> {
    let Some(program) = find() else {
        report.notes.push("compute-sanitizer: not present".into());
        return Ok(None);
    };
    let wrapper: Vec<OsString> =
        vec![program.into(), "--tool".into(), "memcheck".into(), "--error-exitcode".into(), "86".into()];
    let clean = suite::run_inside(&wrapper, device, LIMIT)?;
    report.notes.push(match clean {
        Some(true) => "compute-sanitizer memcheck of the conformance suite: clean".into(),
        Some(false) => "compute-sanitizer memcheck of the conformance suite: ERRORS".into(),
        None => format!("compute-sanitizer: not over after {} s", LIMIT.as_secs()),
    });
    Ok(clean)
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let toolkits = ["/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(toolkits)
        .map(|folder| folder.join("compute-sanitizer"))
        .find(|program| program.is_file())
}
