//! The part of the page about a split file.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use super::measure::{Measured, Totals};
use super::page::{Figure, Section, Tile, escape};
use super::plots::{Axis, Bar, bars, curve, histogram};
use crate::output::{bytes, count, percent, ratio};

/// Bars of the row histogram, at most.
const ROW_BARS: usize = 40;

/// Numbers, plots and a table; errors are distances from the checkpoint `against`.
///
/// # Errors
/// When a plot cannot be drawn.
pub(crate) fn section(against: Option<&Path>, measured: &Measured) -> Result<Section, String> {
    Ok(Section {
        intro: intro(measured),
        tiles: tiles(measured),
        figures: figures(against, measured)?,
        table: table(measured),
    })
}

fn intro(measured: &Measured) -> String {
    let Totals { matrices, elements, values, bases, .. } = &measured.totals;
    let names = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(", ");
    format!(
        "{matrices} matrices with {} parameters, {} residual{}",
        count(*elements),
        names(values),
        if bases.is_empty() { String::new() } else { format!(" over an {} base", names(bases)) },
    )
}

/// The key figures.
fn tiles(measured: &Measured) -> Vec<Tile> {
    let Totals { nnz, residual_bytes: residual, elements, sizes, .. } = measured.totals;
    let tiles = [
        (format!("{:.2}", ratio(residual, nnz)), "bytes per non-zero"),
        (percent(ratio(nnz, elements)), "density"),
        (count(nnz), "non-zeros"),
        (bytes(residual), "residual"),
        (format!("{:.1}×", ratio(sizes.torch_coo, residual)), "smaller than torch COO"),
        (bytes(measured.file_bytes), "file"),
    ];
    let outputs = measured.output_error.map(|error| (percent(error), "error of the layers' outputs"));
    tiles.into_iter().chain(outputs).collect()
}

fn figures(against: Option<&Path>, measured: &Measured) -> Result<Vec<Figure>, String> {
    let mut figures = vec![memory(measured)?];
    if measured.totals.matrices > 0 {
        figures.push(rows(measured)?);
    }
    if measured.curves.is_empty() {
        return Ok(figures);
    }
    let against = match against {
        Some(path) => format!("Error against {}.", path.file_name().unwrap_or_default().to_string_lossy()),
        None => "Distance from base + residual, because no checkpoint was given.".into(),
    };
    figures.push(density(measured, &against)?);
    figures.push(alpha(measured, &against)?);
    Ok(figures)
}

fn memory(measured: &Measured) -> Result<Figure, String> {
    let Totals { sizes, residual_bytes: residual, base_bytes: base, .. } = measured.totals;
    let bar = |label: &str, value: u64, ours| Bar {
        label: label.to_owned(),
        value: value as f64,
        text: bytes(value),
        ours,
    };
    let mut all = vec![bar("dense", sizes.dense, false)];
    if base > 0 {
        all.push(bar("base + residual", base + residual, true));
    }
    all.extend([
        bar("residual, torch COO", sizes.torch_coo, false),
        bar("residual, torch CSR", sizes.torch_csr, false),
        bar("residual, cuSPARSE CSR", sizes.cusparse_csr, false),
        bar("residual, this file", residual, true),
    ]);
    let mut caption = "Formats other than this file's with 16-bit values.".to_owned();
    if measured.dense_bytes > 0 {
        let passed = bytes(measured.dense_bytes);
        caption += &format!(" Tensors that passed through dense ({passed}) are left out.");
    }
    Ok(Figure::new("Memory by format", bars(&all)?, caption))
}

/// Density of rows, in at most [`ROW_BARS`] bars over the range of the data.
fn rows(measured: &Measured) -> Result<Figure, String> {
    let rows = &measured.rows_by_density;
    let scale = (rows.len() - 1).max(1) as f64;
    let first = rows.iter().position(|&n| n > 0).unwrap_or(0);
    let last = rows.iter().rposition(|&n| n > 0).unwrap_or(0);
    let width = (last + 1 - first).div_ceil(ROW_BARS);
    let buckets: Vec<(f64, f64, f64)> = (first..=last)
        .step_by(width)
        .map(|start| {
            let end = rows.len().min(start + width);
            (
                start as f64 / scale,
                (start + width) as f64 / scale,
                rows[start..end].iter().sum::<u64>() as f64,
            )
        })
        .collect();
    let most = buckets.iter().map(|bucket| bucket.2).fold(1.0, f64::max);
    let range = (buckets.first().map_or(0.0, |b| b.0), buckets.last().map_or(1.0, |b| b.1));
    let x = Axis { label: "density of a row", range, format: short_percent };
    let y = Axis { label: "rows", range: (0.0, most * 1.08), format: |rows| count(rows as u64) };
    let caption = "Non-zeros of a row over its columns, all matrices together.";
    Ok(Figure::new("Row lengths", histogram(&x, &y, &buckets)?, caption))
}

fn density(measured: &Measured, against: &str) -> Result<Figure, String> {
    let points = measured.curves.by_density();
    let end = points.last().copied().unwrap_or_default();
    let most = points.first().map_or(0.0, |point| point.1);
    let x = Axis { label: "density", range: (0.0, end.0 * 1.04), format: short_percent };
    let y = Axis { label: "relative error", range: (0.0, above(most)), format: short_percent };
    let caption = format!("{against} The residual's largest values are kept first.");
    let title = format!("Error by density: {} at {}", percent(end.1), percent(end.0));
    Ok(Figure::new(title, curve(&x, &y, &points, end)?, caption))
}

fn alpha(measured: &Measured, against: &str) -> Result<Figure, String> {
    let points = measured.curves.by_alpha();
    let most = points.iter().map(|point| point.1).fold(0.0, f64::max);
    let x = Axis { label: "alpha", range: (0.0, 2.0), format: |alpha| format!("{alpha:.1}") };
    let y = Axis { label: "relative error", range: (0.0, above(most)), format: short_percent };
    let one = points.get(50).copied().unwrap_or_default();
    let caption = format!("{against} alpha 0 is the base alone, 1 the whole model.");
    let title = format!("Error by alpha: {} at 1", percent(one.1));
    Ok(Figure::new(title, curve(&x, &y, &points, one)?, caption))
}

/// The end of an axis, above the highest point; positive even if all points are 0.
fn above(most: f64) -> f64 {
    if most > 0.0 { most * 1.12 } else { 0.01 }
}

fn short_percent(share: f64) -> String {
    let text = format!("{:.2}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

fn table(measured: &Measured) -> String {
    let (all, listed) = (measured.totals.matrices, measured.largest.len());
    let mut html = String::new();
    if all > listed as u64 {
        let all = count(all);
        let _ = writeln!(html, "<p>The {listed} largest of {all} matrices; residua inspect lists all.</p>");
    }
    html.push_str(
        "<table>\n<thead><tr><th>tensor<th>shape<th>density<th>B/nnz<th>residual\
         <th>base<th>row nnz<th class=\"left\">rows by nnz (log)",
    );
    let outputs = !measured.output_errors.is_empty();
    html.push_str(if outputs { "<th>output error" } else { "" });
    html.push_str("</tr></thead>\n<tbody>\n");
    for (number, m) in measured.largest.iter().enumerate() {
        let output = match measured.output_errors.get(number) {
            None => String::new(),
            Some(None) => "<td>–".into(),
            Some(Some(error)) => format!("<td>{}", percent(*error)),
        };
        let _ = writeln!(
            html,
            "<tr><td>{}<td>{}<td>{}<td>{:.2}<td>{}<td>{}<td>{}–{}<td class=\"bars\">{}{output}</tr>",
            escape(&m.name),
            m.shape_text(),
            percent(m.density),
            m.bytes_per_nnz,
            bytes(m.residual_bytes),
            bytes(m.base_bytes),
            m.row_lengths.min,
            m.row_lengths.max,
            m.row_lengths.bars(),
        );
    }
    html + "</tbody>\n</table>\n"
}
