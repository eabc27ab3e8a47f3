//! Parses the arguments of the command line and reports wrong ones.

use std::ffi::OsString;

use clap::Parser;
use clap::error::ContextValue;

use crate::cli::Cli;
use crate::failure::Kind;
use crate::{escape, output};

/// Parses the arguments. If they ask for help or are wrong, prints the answer and returns the exit code.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, u8> {
    Cli::try_parse_from(args).map_err(|error| if error.use_stderr() { refuse(error) } else { show(&error) })
}

/// Prints help or the version.
fn show(error: &clap::Error) -> u8 {
    match output::written(error.print()) {
        Ok(()) => 0,
        Err(failure) => {
            if failure.kind() != Kind::BrokenPipe {
                output::complain(&format!("error: {failure}"));
            }
            failure.exit_code()
        }
    }
}

/// Reports wrong arguments. The report has several lines; escapes keep each argument in its line.
fn refuse(mut error: clap::Error) -> u8 {
    let context: Vec<_> = error.context().map(|(kind, value)| (kind, value.clone())).collect();
    for (kind, value) in context {
        let safe = match value {
            ContextValue::String(text) => ContextValue::String(escape::line(&text).into_owned()),
            ContextValue::Strings(texts) => {
                ContextValue::Strings(texts.iter().map(|text| escape::line(text).into_owned()).collect())
            }
            other => other,
        };
        error.insert(kind, safe);
    }
    let text = error.render().to_string();
    let safe = escape::lines(&text);
    if safe == text {
        // In colour if stderr is a terminal. If this fails, only the exit code reports the error.
        let _ = error.print();
    } else {
        output::complain(safe.trim_end());
    }
    Kind::Usage as u8
}
