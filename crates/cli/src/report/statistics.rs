//! The part of the page about class statistics.

use std::fmt::Write;
use std::sync::Arc;

use residua::compensate::{ClassGaussian, ClassStatistics};
use residua::memory::Budget;

use super::page::{Figure, Section};
use super::plots::{Axis, Bar, Line, bars, colour, lines};
use crate::failure::{Failure, Kind};
use crate::output::{bytes, count, ratio};

/// Classes of the table.
const SHOWN: usize = 1000;
/// The plot shows eigenvalues down to this many powers of ten below the largest.
const DEPTH: f64 = 5.0;

/// Compares named statistics, such as those before and after a task. The first ones are the subject of the page.
pub(crate) fn section(named: &[(String, ClassStatistics)], budget: &Budget) -> Result<Section, Failure> {
    let plot = |error: String| Failure::new(Kind::Other, error);
    let mut spectrums = Vec::new();
    for (name, statistics) in named {
        spectrums.push((name.as_str(), statistics.spectrum(budget)?));
    }
    let curves: Vec<_> = spectrums.iter().map(|(name, values)| (*name, values.as_slice())).collect();
    let title = if named.len() > 1 { "Eigenvalues before and after" } else { "Eigenvalues" };
    let mut figures = vec![spectra(title, &curves).map_err(plot)?];
    let mut intro = String::new();
    let mut tiles = Vec::new();
    if let Some((_, first)) = named.first() {
        let (dim, classes) = (first.dim() as u64, first.len() as u64);
        intro = format!("Gaussians of {classes} classes, d = {dim}: no sample is kept");
        let full = 4 * dim * dim * classes;
        tiles = vec![
            (count(classes), "classes"),
            (count(first.samples()), "samples seen"),
            (dim.to_string(), "feature dimension"),
            (bytes(first.bytes()), "means and covariances"),
            (format!("{:.1}×", ratio(full, first.bytes())), "smaller than full f32"),
        ];
        let bar = |label: &str, value: u64, ours| Bar {
            label: label.to_owned(),
            value: value as f64,
            text: bytes(value),
            ours,
        };
        let all = [
            bar("full covariances, f32", full, false),
            bar("packed, f32", 2 * dim * (dim + 1) * classes, false),
            bar("this file's", first.bytes(), true),
        ];
        figures.push(Figure::new(
            "Memory by form",
            bars(&all).map_err(plot)?,
            "Means included in this file's.",
        ));
    }
    if let Some((_, first)) = named.first() {
        figures.extend(errors(first).map_err(plot)?);
    }
    Ok(Section { intro, tiles, figures, table: table(named) })
}

/// Classes of the plot of errors.
const BARS: usize = 24;

/// Estimated errors of means beside the distance to the nearest class, the largest first; `None` if no class was moved.
fn errors(statistics: &ClassStatistics) -> Result<Option<Figure>, String> {
    let mut moved: Vec<_> = statistics.iter().filter(|(_, class)| class.error() > 0.0).collect();
    moved.sort_by(|(_, a), (_, b)| b.error().total_cmp(&a.error()));
    let bar = |(label, class): &(u32, &Arc<ClassGaussian>)| {
        let others = statistics.iter().filter(|(other, _)| other != label);
        let nearest =
            others.map(|(_, other)| (other.mean() - class.mean()).norm()).fold(f64::INFINITY, f64::min);
        let error = class.error().sqrt();
        let text = format!("{error:.2}, nearest class at {nearest:.2}");
        Bar { label: format!("class {label}"), value: error, text, ours: error < nearest / 2.0 }
    };
    let all: Vec<_> = moved.iter().take(BARS).map(bar).collect();
    if all.is_empty() {
        return Ok(None);
    }
    let caption =
        "Estimated distance between a moved mean and the one that the class has now, the largest first.";
    Ok(Some(Figure::new("Estimated errors of means", bars(&all)?, caption)))
}

/// Eigenvalues of average class covariances, on logarithmic axes.
pub(super) fn spectra(title: &str, named: &[(&str, &[f64])]) -> Result<Figure, String> {
    let most =
        named.iter().filter_map(|(_, values)| values.first().copied()).fold(f64::MIN_POSITIVE, f64::max);
    let top = most.log10();
    let longest = named.iter().map(|(_, values)| values.len()).max().unwrap_or(1);
    let mut curves = Vec::new();
    for (series, (_, values)) in named.iter().enumerate() {
        let shown = values.iter().zip(1..).take_while(|(value, _)| value.log10() > top - DEPTH);
        let points = shown.map(|(value, index)| (f64::from(index).log10(), value.log10())).collect();
        curves.push(Line { series, points });
    }
    let ends = curves.iter().flat_map(|line| line.points.iter().map(|point| point.1));
    let least = ends.fold(top, f64::min);
    let power = |exponent: f64| match exponent - exponent.round() {
        off if off.abs() < 1e-6 => format!("{}", Power(exponent.round() as i32)),
        _ => String::new(),
    };
    let x = Axis { label: "number", range: (0.0, (longest as f64).log10().max(0.1)), format: power };
    let y = Axis { label: "eigenvalue", range: (least - 0.1, top + 0.15), format: power };
    let legend = named.iter().enumerate();
    let legend = legend.map(|(series, (name, _))| ((*name).to_owned(), colour(series))).collect();
    let caption = "Eigenvalues of the average class covariance, the largest first.";
    Ok(Figure::new(title, lines(&x, &y, &curves)?, caption).legend(legend))
}

/// A power of ten.
struct Power(i32);

impl std::fmt::Display for Power {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => f.write_str("1"),
            1 => f.write_str("10"),
            2 => f.write_str("100"),
            exponent => write!(f, "1e{exponent}"),
        }
    }
}

fn table(named: &[(String, ClassStatistics)]) -> String {
    let mut html =
        String::from("<table>\n<thead><tr><th>class<th>samples<th>covariance<th>size<th>|mean|<th>variance");
    if named.len() > 1 {
        html.push_str("<th>mean moved by<th>variance ×");
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    let Some((_, first)) = named.first() else { return String::new() };
    for (label, class) in first.iter().take(SHOWN) {
        let (covariance, norm) = (class.covariance(), class.mean().norm());
        let variance = covariance.trace() / first.dim().max(1) as f64;
        // Writing into a String cannot fail.
        let _ = write!(
            html,
            "<tr><td>{label}<td>{}<td>{}<td>{}<td>{norm:.3}<td>{variance:.3e}",
            count(class.count()),
            covariance.form(),
            bytes(class.bytes())
        );
        if let Some((_, other)) = named.get(1) {
            let cells = other.get(label).map(|other| {
                let moved = (other.mean() - class.mean()).norm();
                (moved / norm.max(f64::MIN_POSITIVE), other.covariance().trace() / covariance.trace())
            });
            let _ = match cells {
                Some((moved, times)) => write!(html, "<td>{:.1} %<td>{times:.2}", 100.0 * moved),
                None => write!(html, "<td>–<td>–"),
            };
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table>\n");
    if let Some(more) = first.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        let _ = writeln!(html, "<p>{} more of the classes are not shown.</p>", count(more as u64));
    }
    html
}
