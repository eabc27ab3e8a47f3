//! The options of a device program.

use std::path::PathBuf;

use super::Result;

pub(crate) struct Arguments {
    /// Number or part of a name.
    pub(crate) device: Option<String>,
    pub(crate) out: PathBuf,
    pub(crate) conformance: bool,
    pub(crate) quick: bool,
    /// Whether the program's own switch is there.
    pub(crate) own: bool,
}

/// Reads the command line; `None` after printing the help. `own` is a switch of this program alone.
pub(crate) fn parse(help: &str, own: Option<&str>) -> Result<Option<Arguments>> {
    let mut arguments =
        Arguments { device: None, out: ".".into(), conformance: true, quick: false, own: false };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or(format!("{argument} takes a value"));
        match argument.as_str() {
            "--device" => arguments.device = Some(value()?),
            "--out" => arguments.out = value()?.into(),
            "--no-conformance" => arguments.conformance = false,
            "--quick" => arguments.quick = true,
            // What `cargo bench` adds.
            "--bench" => {}
            "--help" | "-h" => {
                println!("{help}");
                return Ok(None);
            }
            other if Some(other) == own => arguments.own = true,
            other => return Err(format!("{other}: no such option\n\n{help}").into()),
        }
    }
    Ok(Some(arguments))
}
