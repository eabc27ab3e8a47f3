//! `residua classify STATS FEATURES --classifier C`.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use residua::compensate::classify::{Pooling, Prior};
use residua::compensate::source::for_each_block;
use residua::compensate::statistics::Extent;
use residua::compensate::{CompensateError, FeatureSource, Side};
use residua::format::file::{AtomicFile, Dtype, FileError, NpyHeader, SafetensorsWriter};
use residua::memory::{Budget, process};
use serde::Serialize;

use crate::args::{BudgetArgs, RunArgs, positive, share};
use crate::compensation::arrays::{ArrayRef, Arrays, SYNTAX};
use crate::compensation::classifiers::{self, ClassifierArg, Settings};
use crate::compensation::correct::{Accuracy, Correct, percent, shown};
use crate::compensation::features::Features;
use crate::compensation::load::{Loaded, load};
use crate::compensation::methods::VariantArg;
use crate::destination;
use crate::failure::{Failure, Result};
use crate::output::{bytes, count, facts, number_of, print, print_json, written};
use crate::progress::Bar;

pub(crate) const EXAMPLE: &str = "\
Example (after those of residua stats --help):
  residua classify all-stats.safetensors residua-demo/drift.safetensors:test_after_full --labels y_test --classifier qda-pooled -o predicted.npy

Without -o it prints the labels, one per line. With --labels it prints the accuracy instead, for a state also that of
the classes of each task: what the model has forgotten of them. Samples of classes that the statistics lack do not count.";

/// Bytes of a label in indented JSON, which is made as a whole: in a text that grows, and escaped.
const JSON_LABEL: u64 = 48;
/// Rows per block to classify.
const ROWS: usize = 1024;

/// Class probabilities before a feature is seen.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum PriorArg {
    /// The same for all classes
    Uniform,
    /// In proportion to the classes' numbers of samples
    Counts,
}

#[derive(Debug, clap::Args)]
#[command(after_long_help = format!("{EXAMPLE}\n\n{SYNTAX}"))]
pub(crate) struct Args {
    /// A file written by stats (merge and extract too), compensate or task
    statistics: PathBuf,
    /// The statistics to take of a file written by task [default: those of its first method]
    #[arg(long, value_enum)]
    method: Option<VariantArg>,
    /// Features [n, d] to classify: a .npy file, or a tensor as FILE.safetensors:TENSOR
    features: ArrayRef,
    /// The classifier
    #[arg(long, value_enum, default_value = "lda-shrink")]
    classifier: ClassifierArg,
    /// True labels [n], to measure the accuracy; a bare name is a tensor in the file of the features
    #[arg(long, value_name = "LABELS")]
    labels: Option<ArrayRef>,
    /// Show the accuracy of every class, too
    #[arg(long, requires = "labels")]
    by_class: bool,
    /// Put the predicted labels into --json although there are --labels
    #[arg(long, requires = "json")]
    predictions: bool,
    /// How far lda-shrink and qda-shrink shrink a covariance towards a multiple of the identity [default: 0.1]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    shrink: Option<f64>,
    /// The weight of a class's own covariance in qda-pooled; the average covariance has the rest [default: by the
    /// classes' numbers of samples, 0.2 at most]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    own: Option<f64>,
    /// The weight of the identity in qda-pooled, in units of the mean variance of the average covariance [default:
    /// by the classes' numbers of samples, 0.15 at least]
    #[arg(long, value_name = "WEIGHT", value_parser = positive)]
    ridge: Option<f64>,
    /// Samples [n, d] to choose --own and --ridge with: the weights that classify most of them right, each left out in
    /// turn, if they are surely better than the default.
    /// Take samples that the model was not trained on, such as those of a task before it
    #[arg(long, value_name = "FEATURES", requires = "tune_labels", conflicts_with_all = ["own", "ridge"])]
    tune: Option<ArrayRef>,
    /// Labels [n] of the samples of --tune; a bare name is a tensor in their file
    #[arg(long, value_name = "LABELS", requires = "tune")]
    tune_labels: Option<ArrayRef>,
    /// The directions of each class that qda-pooled keeps, such as 64: less time and memory to classify [default: all]
    #[arg(long, value_name = "NUMBER")]
    rank: Option<usize>,
    /// Class probabilities before a feature is seen
    #[arg(long, value_enum, default_value = "uniform")]
    prior: PriorArg,
    /// Where to write predicted labels: .npy (u32), .safetensors (a tensor "labels") or .txt (one per line)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Serialize)]
struct Done {
    classifier: &'static str,
    /// The variant of a state of tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'static str>,
    /// The weights of qda-pooled.
    #[serde(skip_serializing_if = "Option::is_none")]
    own: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ridge: Option<f64>,
    classes: usize,
    rows: u64,
    /// Number of right predictions, if there are labels.
    correct: Option<u64>,
    /// The same, in percent of the samples of known classes.
    accuracy: Option<f64>,
    /// Samples of classes that the statistics lack, if there are labels.
    unknown: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    by_task: Vec<Accuracy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by_class: Option<Vec<Accuracy>>,
    /// Predicted labels, unless they are written to a file or there are labels to compare them with.
    #[serde(skip_serializing_if = "Option::is_none")]
    predictions: Option<Vec<u32>>,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
    memory_budget_bytes: u64,
}

pub(crate) fn run(args: &Args) -> Result {
    let format = args.output.as_deref().map(Format::of).transpose()?;
    if args.shrink.is_some() && !args.classifier.takes_shrink() {
        return Err(Failure::usage("--shrink is for lda-shrink and qda-shrink"));
    }
    let pooled = args.classifier == ClassifierArg::QdaPooled;
    let weights = args.own.is_some() || args.ridge.is_some() || args.tune.is_some();
    if !pooled && (weights || args.rank.is_some()) {
        return Err(Failure::usage("--own, --ridge, --tune and --rank are for qda-pooled"));
    }
    if let Some(output) = &args.output {
        let arrays = [&args.features].into_iter().chain(&args.labels);
        let arrays = arrays.chain(&args.tune).chain(&args.tune_labels).map(ArrayRef::path);
        destination::check(output, arrays.chain([&*args.statistics]))?;
    }
    args.run.start()?;
    let budget = args.budget.budget()?;
    let start = Instant::now();
    let arrays = Arrays {
        before: args.features.clone(),
        after: None,
        labels: args.labels.as_ref().map(|labels| labels.beside(&args.features)),
    };
    let bar = args.run.progress();
    let mut features = Features::open(vec![arrays], "classifying", &budget, &bar)?;
    let settings = settings(args, &features, &budget, &bar)?;
    // A budget that is too small is refused before the work.
    let predictions = predicted_bytes(args, features.rows().unwrap_or(0));
    let labelled = args.labels.is_some();
    let counts = |classes| if labelled { Correct::bytes(classes, args.by_class) } else { 0 };
    let work = |extent: &Extent| {
        let bytes = args.classifier.room(extent, args.rank).bytes(extent, &features);
        bytes.saturating_add(predictions).saturating_add(counts(extent.classes))
    };
    let Loaded { statistics, records, variant } = load(&args.statistics, args.method, work, &budget)?;
    let name = args.statistics.display().to_string();
    features.expect_dim(statistics.dim(), &format!("{name} holds statistics"))?;
    let pooling = pooled.then(|| settings.pooling(&statistics));
    let classifier = args
        .classifier
        .build(&statistics, settings, &budget)
        .map_err(|failure| failure.about(args.statistics.display()))?;
    let known = classifier.labels();
    let _held = budget.reserve(predictions, "predictions")?;
    let mut predictions = Vec::with_capacity(features.rows().unwrap_or(0) as usize);
    let mut correct = Correct::new(if labelled { known } else { &[] }, args.by_class, &budget)?;
    for_each_block(&mut features, ROWS, &budget, |block| {
        let predicted = classifier.predict_floats(block.floats(Side::Before)?, &budget)?;
        if labelled {
            correct.add(block.labels()?, &predicted);
        }
        predictions.extend(predicted);
        Ok(())
    })
    .map_err(|error| match classifiers::advised(error) {
        singular @ CompensateError::Singular { .. } => Failure::from(singular).about(&name),
        other => other.into(),
    })?;
    let classes = known.len();
    drop(features);
    drop(bar);
    if let (Some(path), Some(format)) = (&args.output, format) {
        format.write(path, &predictions)?;
    }
    let rows = predictions.len() as u64;
    let (right, samples) = correct.sums();
    let listed = args.output.is_none() && (!labelled || args.predictions);
    let done = Done {
        classifier: args.classifier.name(),
        variant,
        own: pooling.map(|pooling| pooling.own),
        ridge: pooling.map(|pooling| pooling.ridge),
        classes,
        rows,
        correct: labelled.then_some(right),
        accuracy: percent(right, samples).filter(|_| labelled),
        unknown: labelled.then_some(correct.unknown),
        by_task: if labelled { correct.by_task(&records) } else { Vec::new() },
        by_class: args.by_class.then(|| correct.by_class()),
        predictions: listed.then_some(predictions),
        seconds: start.elapsed().as_secs_f64(),
        peak_memory_bytes: process::peak_rss(),
        memory_budget_bytes: budget.limit(),
    };
    match &done.predictions {
        _ if args.run.json => print_json(&done),
        Some(predictions) => written(lines(&mut BufWriter::new(std::io::stdout().lock()), predictions)),
        _ => print(text(&done, args)),
    }
}

/// The classifier's settings, chosen on samples if there are some; they have to be like `features`.
fn settings(args: &Args, features: &Features<'_>, budget: &Budget, bar: &Bar) -> Result<Settings> {
    let mut pooling = (args.own, args.ridge);
    if let (Some(samples), Some(labels)) = (&args.tune, &args.tune_labels) {
        let labels = Some(labels.beside(samples));
        let arrays = Arrays { before: samples.clone(), after: None, labels };
        let mut samples = Features::open(vec![arrays], "tuning", budget, bar)?;
        samples.expect_dim(features.dim(), &format!("{} has features", features.name()))?;
        let chosen = Pooling::choose(&mut samples, budget)?;
        pooling = (chosen.map(|chosen| chosen.own), chosen.map(|chosen| chosen.ridge));
    }
    let prior = match args.prior {
        PriorArg::Uniform => Prior::Uniform,
        PriorArg::Counts => Prior::Counts,
    };
    let ((own, ridge), shrink) = (pooling, args.shrink.unwrap_or(Settings::default().shrink));
    Ok(Settings { shrink, own, ridge, rank: args.rank, prior })
}

/// Bytes of the predictions of `rows` features, and of their JSON if it is printed.
fn predicted_bytes(args: &Args, rows: u64) -> u64 {
    let json = args.run.json && args.output.is_none() && (args.labels.is_none() || args.predictions);
    rows.saturating_mul(if json { 4 + JSON_LABEL } else { 4 })
}

fn text(done: &Done, args: &Args) -> String {
    let mut rows = vec![("classifier", format!("{}, {} classes", done.classifier, done.classes))];
    rows.extend(done.variant.map(|variant| ("variant", variant.to_owned())));
    if let (Some(own), Some(ridge)) = (done.own, done.ridge) {
        rows.push(("weights", format!("own covariance {own:.3}, identity {ridge:.3}")));
    }
    let number = count(done.rows);
    let unknown = done.unknown.unwrap_or(0);
    rows.push(match (done.correct, done.accuracy) {
        (Some(correct), Some(accuracy)) => {
            let of = count(done.rows - unknown);
            ("accuracy", format!("{accuracy:.2} %: {} of {of} right", count(correct)))
        }
        _ => ("rows", number),
    });
    if unknown > 0 {
        let why = format!(
            "{} of classes that the statistics lack; they do not count",
            number_of(unknown, "sample")
        );
        rows.push(("unknown", why));
    }
    rows.push(("took", format!("{:.1} s", done.seconds)));
    if let Some(peak) = done.peak_memory_bytes {
        rows.push(("memory", format!("peak {} of {}", bytes(peak), bytes(done.memory_budget_bytes))));
    }
    if let Some(output) = &args.output {
        rows.push(("wrote", output.display().to_string()));
    }
    let mut text = facts(&rows);
    let tables = [("task", Some(&done.by_task)), ("class", done.by_class.as_ref())];
    for (first, rows) in
        tables.into_iter().filter_map(|(first, rows)| Some((first, rows.filter(|rows| !rows.is_empty())?)))
    {
        text += &format!("\n{}\n", shown(first, rows));
    }
    text
}

/// Labels, one on each line.
fn lines(out: &mut impl Write, labels: &[u32]) -> std::io::Result<()> {
    labels.iter().try_for_each(|label| writeln!(out, "{label}"))?;
    out.flush()
}

/// Labels, little-endian, in pieces.
fn pieces(labels: &[u32]) -> impl Iterator<Item = Vec<u8>> {
    labels.chunks(4096).map(|piece| piece.iter().flat_map(|label| label.to_le_bytes()).collect())
}

/// The format of predictions, from the file's suffix.
#[derive(Debug, Clone, Copy)]
enum Format {
    Npy,
    Safetensors,
    Text,
}

impl Format {
    fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|suffix| suffix.to_str()) {
            Some("npy") => Ok(Self::Npy),
            Some("safetensors") => Ok(Self::Safetensors),
            Some("txt") => Ok(Self::Text),
            _ => Err(Failure::usage(format!(
                "{}: predictions go to .npy, .safetensors or .txt files",
                path.display()
            ))),
        }
    }

    fn write(self, path: &Path, labels: &[u32]) -> Result {
        if let Self::Safetensors = self {
            let mut file = SafetensorsWriter::create(path, 256)?;
            file.begin("labels", Dtype::U32, &[labels.len()])?;
            pieces(labels).try_for_each(|piece| file.write(&piece))?;
            file.end()?;
            file.finish()?;
            return Ok(());
        }
        let mut file = AtomicFile::create(path)?;
        let written = match self {
            Self::Npy => npy(&mut file, labels),
            _ => lines(&mut BufWriter::new(&mut file), labels),
        };
        written.map_err(FileError::io(path, "write"))?;
        Ok(file.commit()?)
    }
}

fn npy(file: &mut AtomicFile, labels: &[u32]) -> std::io::Result<()> {
    NpyHeader::write(file, "<u4", &[labels.len()])?;
    pieces(labels).try_for_each(|piece| file.write_all(&piece))
}
