//! The evaluation protocol on the features of one file: the accuracy of classifiers with statistics of old classes that
//! are stale, moved, or true (collected after the task).
//!
//! | tensor | what |
//! |---|---|
//! | `old_before`, `old_after_V` `[n, d]`, `y_old` `[n]` | old classes before the task, and the truth after it |
//! | `cur_before`, `cur_after_V` `[n, d]`, `y_cur` `[n]` | the task's own samples, before and after it |
//! | `test_after_V` `[n, d]`, `y_test` `[n]` | test samples of old and new classes |

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ValueEnum;
use residua::compensate::classify::Pooling;
use residua::compensate::source::for_each_block;
use residua::compensate::{ClassStatistics, FeatureSource, Side, StatisticsOptions};
use residua::format::file::Checkpoint;
use residua::memory::{Budget, process};
use residua::split::Progress;
use serde::Serialize;

use super::arrays::{ArrayRef, Arrays};
use super::classifiers::{ClassifierArg, Settings};
use super::features::Features;
use super::methods::{MethodArg, ModeArg};
use super::timeline::{Timeline, Watch};
use crate::failure::{Failure, Result};
use crate::progress::Bar;

/// Rows per block to classify.
const ROWS: usize = 1024;

/// The fine-tune that produced the features after the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    /// All weights tuned: tensors `…_after_full`
    Full,
    /// Tuned by LoRA: tensors `…_after_lora`
    Lora,
}

impl Variant {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Lora => "lora",
        }
    }
}

/// Accuracy of one classifier, in percent.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// `stale`, `true`, or the name of the method that moved the old classes' statistics.
    pub(crate) statistics: String,
    pub(crate) classifier: &'static str,
    /// Over all test samples.
    pub(crate) all: f64,
    /// Over test samples of old classes.
    pub(crate) old: f64,
    /// Over test samples of new classes.
    pub(crate) new: f64,
}

/// One way to get statistics of the old classes.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) name: String,
    pub(crate) rows: Vec<Row>,
    /// Time to get the statistics: to collect them, or to fit a method and move them.
    pub(crate) seconds: f64,
    /// Peak memory of the process during that time.
    pub(crate) peak_bytes: Option<u64>,
    /// Eigenvalues of the old classes' average covariance, in descending order.
    pub(crate) spectrum: Vec<f64>,
}

/// The results.
#[derive(Debug)]
pub(crate) struct Evaluation {
    pub(crate) file: PathBuf,
    pub(crate) variant: Variant,
    pub(crate) dim: usize,
    pub(crate) old_classes: usize,
    pub(crate) new_classes: usize,
    /// The number of the task's samples; methods are fitted on them.
    pub(crate) pairs: u64,
    /// Test samples.
    pub(crate) tests: u64,
    pub(crate) stages: Vec<Stage>,
    pub(crate) timeline: Timeline,
    /// The weights of qda-pooled, chosen on the task's own samples before it.
    pub(crate) pooling: Pooling,
    /// The budget's limit.
    pub(crate) budget_bytes: u64,
}

impl Evaluation {
    /// All rows, statistics by statistics.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.stages.iter().flat_map(|stage| &stage.rows)
    }

    /// Peak memory of the process over all stages.
    pub(crate) fn peak_bytes(&self) -> Option<u64> {
        self.stages.iter().filter_map(|stage| stage.peak_bytes).max()
    }
}

/// Whether a file has the protocol's tensors.
pub(crate) fn is_protocol(file: &Checkpoint) -> bool {
    ["old_before", "cur_before", "y_old", "y_cur", "y_test"].iter().all(|name| file.tensor(name).is_some())
}

/// The settings of an evaluation.
pub(crate) struct Protocol<'a> {
    pub(crate) file: &'a Path,
    pub(crate) variant: Variant,
    pub(crate) methods: &'a [MethodArg],
    pub(crate) mode: ModeArg,
    /// The share of the unexplained covariance to restore by stretching moved covariances.
    pub(crate) noise: f64,
    /// Auxiliary features before and after the task, which methods learn from, too.
    pub(crate) auxiliary: &'a [ArrayRef],
    /// Whether to compute eigenvalues too.
    pub(crate) spectra: bool,
}

impl Protocol<'_> {
    /// Runs the evaluation.
    pub(crate) fn run(&self, budget: &Budget, bar: &Bar) -> Result<Evaluation> {
        let mut watch = Watch::start();
        let quiet = Bar::new(true);
        bar.begin_steps("evaluating", self.methods.len() + 2);
        let mut stages = Vec::new();

        bar.tensor("stale");
        watch.stage("stale");
        let clock = Clock::start();
        let stale = self.collect("old_before", "y_old", budget, &quiet)?;
        let (seconds, peak) = clock.stop();
        let new = self.collect(&self.after("cur"), "y_cur", budget, &quiet)?;
        if let Some((label, _)) = new.iter().find(|(label, _)| stale.get(*label).is_some()) {
            let problem = format!("class {label} is both in y_old and in y_cur");
            return Err(Failure::input(self.file, problem));
        }
        // On samples that the model was not trained on: those of the task, before it.
        let mut samples = Features::open(vec![self.labelled("cur_before", "y_cur")], "", budget, &quiet)?;
        let chosen = Pooling::choose(&mut samples, budget)?;
        let (own, ridge) = (chosen.map(|chosen| chosen.own), chosen.map(|chosen| chosen.ridge));
        let settings = Settings { own, ridge, ..Settings::default() };
        drop(samples);
        let pooling = settings.pooling(&stale.merge(&new, budget)?);
        let mut tests = 0;
        let mut add =
            |name: &str, old: &ClassStatistics, (seconds, peak_bytes): (f64, Option<u64>)| -> Result {
                let all = old.merge(&new, budget)?;
                let test = self.labelled(&self.after("test"), "y_test");
                let is_old = |label| old.get(label).is_some();
                let (rows, count) = measure(name, &all, &is_old, settings, test, budget, &quiet)?;
                tests = count;
                let spectrum = if self.spectra { old.spectrum(budget)? } else { Vec::new() };
                stages.push(Stage { name: name.into(), rows, seconds, peak_bytes, spectrum });
                bar.advance(1);
                Ok(())
            };
        add("stale", &stale, (seconds, peak))?;
        let mut pairs = 0;
        for &method in self.methods {
            let method = method.method(self.mode, self.noise);
            bar.tensor(method.name());
            watch.stage(method.name());
            let clock = Clock::start();
            let arrays = Arrays {
                before: self.tensor("cur_before"),
                after: Some(self.tensor(&self.after("cur"))),
                labels: None,
            };
            let auxiliary = self.auxiliary.chunks_exact(2).map(|pair| Arrays {
                before: pair[0].clone(),
                after: Some(pair[1].clone()),
                labels: None,
            });
            let arrays = std::iter::once(arrays).chain(auxiliary).collect();
            let mut source = Features::open(arrays, "", budget, &quiet)?;
            source.expect_dim(stale.dim(), "the old classes")?;
            pairs = source.rows().unwrap_or(0);
            let fitted = method.fit(&mut source, budget)?;
            let moved = fitted.apply(&stale, budget)?;
            drop(fitted);
            add(method.name(), &moved, clock.stop())?;
        }
        bar.tensor("true");
        watch.stage("true");
        let clock = Clock::start();
        let truth = self.collect(&self.after("old"), "y_old", budget, &quiet)?;
        add("true", &truth, clock.stop())?;
        bar.end();
        Ok(Evaluation {
            file: self.file.to_owned(),
            variant: self.variant,
            dim: stale.dim(),
            old_classes: stale.len(),
            new_classes: new.len(),
            pairs,
            tests,
            stages,
            timeline: watch.finish(),
            pooling,
            budget_bytes: budget.limit(),
        })
    }

    fn after(&self, which: &str) -> String {
        format!("{which}_after_{}", self.variant.name())
    }

    fn tensor(&self, name: &str) -> ArrayRef {
        ArrayRef::tensor(self.file, name)
    }

    fn labelled(&self, features: &str, labels: &str) -> Arrays {
        Arrays { before: self.tensor(features), after: None, labels: Some(self.tensor(labels)) }
    }

    fn collect(&self, features: &str, labels: &str, budget: &Budget, bar: &Bar) -> Result<ClassStatistics> {
        let mut source = Features::open(vec![self.labelled(features, labels)], "", budget, bar)?;
        Ok(ClassStatistics::collect(&mut source, &StatisticsOptions::default(), budget)?)
    }
}

/// Accuracy of every classifier, and the number of test samples.
pub(crate) fn measure(
    name: &str,
    all: &ClassStatistics,
    is_old: &dyn Fn(u32) -> bool,
    settings: Settings,
    test: Arrays,
    budget: &Budget,
    bar: &Bar,
) -> Result<(Vec<Row>, u64)> {
    let classifiers = ClassifierArg::EVALUATED;
    let built = classifiers
        .iter()
        .map(|classifier| classifier.build(all, settings, budget))
        .collect::<Result<Vec<_>>>()?;
    let mut counts = [Counts::default(); ClassifierArg::EVALUATED.len()];
    let mut test = Features::open(vec![test], "", budget, bar)?;
    test.expect_dim(all.dim(), "the old classes")?;
    let known: Vec<u32> = all.iter().map(|(label, _)| label).collect();
    let (labels_name, mut first) = (test.labels().to_owned(), 0);
    for_each_block(&mut test, ROWS, budget, |block| {
        let labels = block.labels()?;
        Features::expect_known(&known, labels, first, &labels_name, "the statistics")?;
        for (classifier, counts) in built.iter().zip(&mut counts) {
            let predicted = classifier.predict_floats(block.floats(Side::Before)?, budget)?;
            for (&label, predicted) in labels.iter().zip(predicted) {
                counts.add(is_old(label), label == predicted);
            }
        }
        first += block.rows() as u64;
        Ok(())
    })?;
    let row = |(classifier, counts): (&ClassifierArg, &Counts)| Row {
        statistics: name.to_owned(),
        classifier: classifier.name(),
        all: counts.percent(&[true, false]),
        old: counts.percent(&[true]),
        new: counts.percent(&[false]),
    };
    Ok((classifiers.iter().zip(&counts).map(row).collect(), counts[0].samples()))
}

/// Time and the process's memory between two moments.
struct Clock(Instant, bool);

impl Clock {
    fn start() -> Self {
        Self(Instant::now(), process::reset_peak_rss())
    }

    fn stop(self) -> (f64, Option<u64>) {
        (self.0.elapsed().as_secs_f64(), process::peak_rss().filter(|_| self.1))
    }
}

/// Number of right predictions and of all predictions, for new and for old classes.
#[derive(Debug, Clone, Copy, Default)]
struct Counts([(u64, u64); 2]);

impl Counts {
    fn add(&mut self, old: bool, right: bool) {
        let (rights, all) = &mut self.0[usize::from(old)];
        *rights += u64::from(right);
        *all += 1;
    }

    fn samples(&self) -> u64 {
        self.0.iter().map(|(_, all)| all).sum()
    }

    fn percent(&self, old: &[bool]) -> f64 {
        let sum = |(a, b): (u64, u64), (c, d): (u64, u64)| (a + c, b + d);
        let (right, all) = old.iter().map(|&old| self.0[usize::from(old)]).fold((0, 0), sum);
        // A first task has no old classes.
        if all == 0 { 0.0 } else { 100.0 * right as f64 / all as f64 }
    }
}
