//! The part of the page about an evaluation of compensators.

use std::fmt::Write;

use super::page::{Figure, Section, Tile, escape};
use super::plots::{Axis, Dots, colour, dots, memory};
use super::statistics::spectra;
use crate::compensation::classifiers::ClassifierArg;
use crate::compensation::protocol::{Evaluation, Stage};
use crate::output::{bytes, count};

/// Accuracies, spectra, memory over time, and all numbers.
///
/// # Errors
/// When a plot cannot be drawn.
pub(crate) fn section(found: &Evaluation) -> Result<Section, String> {
    let mut figures = vec![accuracies(found)?];
    let curves: Vec<(&str, &[f64])> =
        found.stages.iter().map(|stage| (stage.name.as_str(), stage.spectrum.as_slice())).collect();
    if curves.iter().all(|(_, spectrum)| !spectrum.is_empty()) {
        figures.push(spectra("Eigenvalues before and after", &curves)?);
    }
    if !found.timeline.points.is_empty() {
        figures.push(timeline(found)?);
    }
    Ok(Section {
        intro: format!(
            "Statistics of {} old classes while the model learns {} new ones, {} fine-tune, d = {}: fitted on {} \
             pairs of features, tested on {} samples",
            found.old_classes,
            found.new_classes,
            found.variant.name(),
            found.dim,
            count(found.pairs),
            count(found.tests)
        ),
        tiles: tiles(found),
        figures,
        table: table(found),
    })
}

/// The accuracy of one classifier.
fn all(stage: &Stage, classifier: ClassifierArg) -> f64 {
    stage.rows.iter().find(|row| row.classifier == classifier.name()).map_or(f64::NAN, |row| row.all)
}

fn tiles(found: &Evaluation) -> Vec<Tile> {
    let of = |name: &str| found.stages.iter().find(|stage| stage.name == name);
    let methods = || found.stages.iter().filter(|stage| stage.name != "stale" && stage.name != "true");
    let best = |classifier| methods().map(|stage| all(stage, classifier)).fold(f64::NAN, f64::max);
    let text = |percent: f64| format!("{percent:.1} %");
    let (lda, qda) = (ClassifierArg::Lda, ClassifierArg::QdaPooled);
    let mut tiles = Vec::new();
    if methods().next().is_some() {
        tiles.push((text(best(lda)), "lda, best method"));
    }
    for (name, label) in [("stale", "lda, stale statistics"), ("true", "lda, true statistics")] {
        tiles.extend(of(name).map(|stage| (text(all(stage, lda)), label)));
    }
    if methods().next().is_some() {
        tiles.push((text(best(qda)), "qda-pooled, best method"));
        let fastest = methods().map(|stage| stage.seconds).fold(f64::INFINITY, f64::min);
        tiles.push((format!("{fastest:.2} s"), "fastest method"));
    }
    tiles.extend(found.peak_bytes().map(|peak| (bytes(peak), "peak memory")));
    tiles
}

fn accuracies(found: &Evaluation) -> Result<Figure, String> {
    let rows: Vec<Dots> = found
        .stages
        .iter()
        .map(|stage| Dots {
            label: stage.name.clone(),
            values: stage.rows.iter().map(|row| row.all).collect(),
        })
        .collect();
    let values = || rows.iter().flat_map(|row| row.values.iter().copied()).filter(|value| value.is_finite());
    let (low, high) =
        values().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    let range = if low <= high { (low - 1.0, high + 1.0) } else { (0.0, 100.0) };
    let x = Axis { label: "percent right, all classes", range, format: |value| format!("{value:.0}") };
    let legend = ClassifierArg::EVALUATED.iter().enumerate();
    let legend = legend.map(|(series, classifier)| (classifier.name().to_owned(), colour(series))).collect();
    let caption = "Old classes' statistics stale, moved by each method, and true.";
    Ok(Figure::new("Accuracy by method", dots(&x, &rows)?, caption).legend(legend))
}

fn timeline(found: &Evaluation) -> Result<Figure, String> {
    let timeline = &found.timeline;
    let mebibytes = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    let points: Vec<(f64, f64)> =
        timeline.points.iter().map(|&(second, bytes)| (second, mebibytes(bytes))).collect();
    let limit = mebibytes(found.budget_bytes);
    let x = Axis {
        label: "seconds",
        range: (0.0, timeline.seconds.max(f64::MIN_POSITIVE)),
        format: |second| format!("{second:.1}"),
    };
    let y = Axis { label: "MiB", range: (0.0, limit * 1.08), format: |value| format!("{value:.0}") };
    let caption = format!(
        "Resident memory of the whole process, from the system, under a budget of {}. It includes classification \
         with all classifiers.",
        bytes(found.budget_bytes)
    );
    let svg = memory(&x, &y, &points, limit, &timeline.stages)?;
    Ok(Figure::new("Memory over time", svg, caption).wide())
}

fn table(found: &Evaluation) -> String {
    let mut html = String::from("<table>\n<thead><tr><th>statistics");
    for classifier in ClassifierArg::EVALUATED {
        let _ = write!(html, "<th>{}", classifier.name());
    }
    html.push_str("<th>time<th>peak memory</tr></thead>\n<tbody>\n");
    for Stage { name, rows, seconds, peak_bytes, .. } in &found.stages {
        let _ = write!(html, "<tr><td>{}", escape(name));
        for row in rows {
            let _ = write!(html, "<td>{:.1} / {:.1} / {:.1}", row.all, row.old, row.new);
        }
        let peak = peak_bytes.map_or_else(|| "–".into(), bytes);
        let _ = writeln!(html, "<td>{seconds:.2} s<td>{peak}</tr>");
    }
    html + "</tbody>\n</table>\n<p>Percent right of all / old / new classes' samples.</p>\n"
}
