//! What goes to stdout: text and tables for people, JSON for machines.

use std::fmt;
use std::io::{self, BufWriter, Write};

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, TableStyle};
use console::Term;
use residua::memory::ByteSize;
use serde::Serialize;

use crate::escape;
use crate::failure::{Failure, Kind, Result};

/// Writes a text and a line break. Escapes control characters other than line breaks. Pass a name that must stay in
/// its line through [`escape::line`] or [`escape::path`] first.
///
/// # Errors
/// When stdout is closed. The program does not report a reader that has gone (`residua … | head`).
pub(crate) fn print(text: impl AsRef<str>) -> Result {
    write(&escape::lines(text.as_ref()))
}

fn write(text: &str) -> Result {
    let mut out = io::stdout().lock();
    written(writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()))
}

/// Turns an error of stdout into a failure.
pub(crate) fn written(outcome: io::Result<()>) -> Result {
    outcome.and_then(|()| io::stdout().flush()).map_err(|error| {
        let kind = if error.kind() == io::ErrorKind::BrokenPipe { Kind::BrokenPipe } else { Kind::Io };
        Failure::new(kind, format!("stdout: {error}"))
    })
}

/// Writes a text and a line break to stderr. If that fails, only the exit code reports the error.
pub(crate) fn complain(text: &str) {
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Writes a value as indented JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result {
    let mut out = Escaped(BufWriter::new(io::stdout().lock()));
    match serde_json::to_writer_pretty(&mut out, value) {
        Err(error) if !error.is_io() => Err(Failure::new(Kind::Other, error)),
        done => {
            written(done.map_err(Into::into).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()))
        }
    }
}

/// Writes JSON as [`escape::json`] makes it. Pieces come from serde_json, which cuts texts between characters.
struct Escaped<W>(W);

impl<W: Write> Write for Escaped<W> {
    fn write(&mut self, json: &[u8]) -> io::Result<usize> {
        let text = std::str::from_utf8(json).map_err(io::Error::other)?;
        self.0.write_all(escape::json(text).as_bytes())?;
        Ok(json.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Rows of cells, one line each. Cells are escaped.
pub(crate) struct Table(comfy_table::Table);

impl Table {
    pub(crate) fn add_row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.add_row(cells.into_iter().map(|cell| escape::line(&cell).into_owned()));
    }

    /// Makes the last column a text column.
    pub(crate) fn end_with_text(&mut self) {
        if let Some(column) = self.0.column_count().checked_sub(1).and_then(|last| self.0.column_mut(last)) {
            column.set_cell_alignment(CellAlignment::Left);
        }
    }

    fn row_count(&self) -> usize {
        self.0.row_count()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A table whose first column is text and whose others are numbers.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = comfy_table::Table::new();
    let style = TableStyle::new().header_separator(LineStyle::new('─', '─', '─', '─'));
    table.load_style(style).set_content_arrangement(ContentArrangement::Dynamic);
    // Only a terminal has a width.
    if let Some((_, width)) = Term::stdout().size_checked() {
        table.set_width(width);
    }
    table.set_header(header.map(escape::line));
    for index in 1..N {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    Table(table)
}

/// Rows of a table that are laid out at a time: a table takes many times the memory of its text.
const PIECE: usize = 250;

/// Prints a table and an empty line after it. A long one comes in pieces, each with the header. Returns the number of
/// rows.
pub(crate) fn print_table<const N: usize>(
    empty: impl Fn() -> Table,
    rows: impl Iterator<Item = [String; N]>,
) -> Result<usize> {
    let (mut piece, mut count) = (empty(), 0);
    for row in rows {
        if piece.row_count() == PIECE {
            print(format!("{piece}\n"))?;
            piece = empty();
        }
        piece.add_row(row);
        count += 1;
    }
    if count > 0 {
        write(&escape::lines(&format!("{piece}")))?;
        write("")?;
    }
    Ok(count)
}

/// Names and values, aligned, one pair per line. Values are escaped.
pub(crate) fn facts(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:<width$}  {}\n", escape::line(value))).collect()
}

/// A byte count for people.
pub(crate) fn bytes(count: u64) -> String {
    ByteSize(count).to_string()
}

/// A share as a percentage.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// A count with thin groups of three digits.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and what is counted.
pub(crate) fn number_of(value: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(value), if value == 1 { "" } else { "s" })
}

/// A shape as people write it.
pub(crate) fn shape_text(shape: &[usize]) -> String {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    if sizes.is_empty() { "scalar".into() } else { sizes.join("×") }
}

/// `numerator / denominator`, or 0 if the denominator is 0.
pub(crate) fn ratio(numerator: u64, denominator: u64) -> f64 {
    if denominator == 0 { 0.0 } else { numerator as f64 / denominator as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped() {
        let texts = [0, 999, 1000, 1_234_567].map(count);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1, 1000].map(|n| number_of(n, "task")), ["0 tasks", "1 task", "1,000 tasks"]);
    }
}
