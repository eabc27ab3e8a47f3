//! What may be wrong with moved statistics, in words.

use std::collections::BTreeMap;
use std::fmt;

use nalgebra::DMatrix;
use residua_memory::{Budget, Reservation};
use serde::Serialize;

use super::{MOVING_ERROR, Uncertainty};
use crate::statistics::{ClassGaussian, ClassStatistics};
use crate::{Result, algebra};

/// Fewer pairs than so many for each dimension are few.
const PAIRS: u64 = 2;
/// Counts that differ by more than this factor are unequal.
const COUNTS: u64 = 2;
/// The share of the squared distance to the nearest class that an estimated squared error may have.
const SHARE: f64 = 0.25;
/// Classes that a message names.
const NAMED: usize = 8;
/// Classes whose distances are compared.
const COMPARED: usize = 2000;
/// The F statistic below which labels hardly tell classes apart.
const SEPARATED: f64 = 1.5;

/// What a warning is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WarningKind {
    /// Fewer pairs than two for each dimension.
    FewPairs,
    /// On pairs that are left out, moved means are no better than stale ones.
    NoHelp,
    /// Features before the task are less like the statistics than features after it.
    Swapped,
    /// Classes that lie farther from the pairs than their own classes do.
    FarClasses,
    /// Classes whose estimated error reaches far towards the next class.
    LargeErrors,
    /// Classes whose numbers of samples differ much.
    UnequalCounts,
    /// Labels that have nothing to do with the features.
    Labels,
    /// Samples of a known class that lie nearer to another class.
    OtherClass,
}

/// Something that may be wrong, and what helps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Warning {
    /// What it is about.
    pub kind: WarningKind,
    /// The reason and the advice.
    pub message: String,
    /// The classes that it is about, labels rising; empty if it is about all.
    pub classes: Vec<u32>,
}

impl Warning {
    pub(crate) fn new(kind: WarningKind, classes: Vec<u32>, message: String) -> Self {
        Self { kind, message, classes }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Labels for a message.
fn named(labels: &[u32]) -> String {
    let some: Vec<String> = labels.iter().take(NAMED).map(u32::to_string).collect();
    let more = labels.len().saturating_sub(NAMED);
    let noun = if labels.len() == 1 { "class" } else { "classes" };
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{noun} {}{rest}", some.join(", "))
}

/// Looks at classes while they are moved, one after the other, and then tells what may be wrong.
pub struct Checks<'a> {
    uncertainty: &'a Uncertainty,
    /// Whether statistics stay as they are where the map is no help.
    keeps: bool,
    far: Vec<u32>,
    labels: Vec<u32>,
    errors: Vec<f64>,
    /// Means of moved classes, one after the other.
    means: Vec<f64>,
    counts: Option<(u64, u64)>,
    held: Reservation,
}

impl<'a> Checks<'a> {
    /// Of what this uncertainty is about.
    ///
    /// # Errors
    /// When the budget has no room.
    pub fn new(uncertainty: &'a Uncertainty, keeps: bool, budget: &Budget) -> Result<Self> {
        let held = budget.reserve(0, MOVING_ERROR)?;
        let (far, labels, errors, means) = Default::default();
        Ok(Self { uncertainty, keeps, far, labels, errors, means, counts: None, held })
    }

    /// A class, as it was and as it is moved.
    pub fn add(&mut self, label: u32, old: &ClassGaussian, new: &ClassGaussian) {
        let added = (new.error() - old.error()) / self.uncertainty.level().max(f64::MIN_POSITIVE);
        let far = self.uncertainty.by_class() && added > self.uncertainty.usual_leverage();
        if far && self.grow(4) {
            self.far.push(label);
        }
        self.add_class(label, new);
    }

    /// A class that was not moved, such as one of the task itself.
    pub fn add_class(&mut self, label: u32, class: &ClassGaussian) {
        let count = class.count();
        let (least, most) = self.counts.unwrap_or((count, count));
        self.counts = Some((least.min(count), most.max(count)));
        if self.labels.len() < COMPARED && self.grow(16 + 16 * class.dim() as u64) {
            self.labels.push(label);
            self.errors.push(class.error());
            self.means.extend(class.mean().iter());
        }
    }

    /// Whether the budget has room; what has no room is not looked at.
    fn grow(&mut self, bytes: u64) -> bool {
        self.held.grow(bytes, MOVING_ERROR).is_ok()
    }

    /// What may be wrong. `spread` is that of the statistics before they were moved ([`ClassStatistics::spread`]), if it is
    /// known. Checks that the budget has no room for are left out.
    ///
    /// # Errors
    /// When a covariance of the pairs cannot be decomposed.
    pub fn finish(mut self, spread: Option<&DMatrix<f64>>, budget: &Budget) -> Result<Vec<Warning>> {
        let mut warnings = Vec::new();
        let (pairs, dim) = (self.uncertainty.pairs(), self.uncertainty.dim());
        let enough = PAIRS * dim as u64;
        if pairs < enough {
            let message = format!(
                "{pairs} pairs are few for {dim} dimensions: give {} more, such as auxiliary pairs of any unlabelled inputs",
                enough - pairs
            );
            warnings.push(Warning::new(WarningKind::FewPairs, Vec::new(), message));
        }
        let help = self.uncertainty.held_out_error();
        if self.uncertainty.is_no_help() {
            let done = if self.keeps {
                "they stay as they were"
            } else {
                "moved statistics may be worse than stale ones"
            };
            let what = match self.uncertainty.is_unrelated() {
                true => "the features before the task tell next to nothing about those after it".into(),
                false => {
                    format!(
                        "on pairs that are left out the map has {help:.2} times the squared error of no move"
                    )
                }
            };
            let message = format!(
                "{what}: {done}. Check that before and after have the same inputs in the same order, and give {enough} \
                 auxiliary pairs"
            );
            warnings.push(Warning::new(WarningKind::NoHelp, Vec::new(), message));
        }
        if let Some(spread) = spread
            && self.uncertainty.seems_swapped(spread, budget)?
        {
            let message = "the features after the task are spread more like the statistics than those before it: check \
                           that before and after are not swapped, and that the statistics are of the model before the task";
            warnings.push(Warning::new(WarningKind::Swapped, Vec::new(), message.into()));
        }
        if !self.far.is_empty() {
            let message = format!(
                "farther from the pairs than the pairs' own classes: {}. Give {enough} auxiliary pairs of inputs like \
                 these",
                named(&self.far)
            );
            warnings.push(Warning::new(WarningKind::FarClasses, std::mem::take(&mut self.far), message));
        }
        let large = self.large_errors();
        if !large.is_empty() {
            let message = format!(
                "the estimated squared error of {} is more than {:.0} % of the squared distance to the nearest class: give \
                 {enough} auxiliary pairs with every task, or collect these classes again",
                named(&large),
                100.0 * SHARE
            );
            warnings.push(Warning::new(WarningKind::LargeErrors, large, message));
        }
        if let Some((least, most)) = self.counts.filter(|(least, most)| *most > COUNTS * least) {
            let message = format!(
                "classes have from {least} to {most} samples: take a classifier that regards counts, such as qda-pooled or \
                 lda-shrink"
            );
            warnings.push(Warning::new(WarningKind::UnequalCounts, Vec::new(), message));
        }
        Ok(warnings)
    }

    /// Classes whose errors are a large share of the squared distance to the nearest class.
    fn large_errors(&self) -> Vec<u32> {
        let (count, dim) = (self.labels.len(), self.uncertainty.dim());
        if count < 2 {
            return Vec::new();
        }
        let means = algebra::columns(&self.means, dim);
        let squares: Vec<f64> =
            self.means.chunks_exact(dim).map(|mean| mean.iter().map(|v| v * v).sum()).collect();
        let mut large = Vec::new();
        for at in (0..count).filter(|&at| self.errors[at] > 0.0) {
            let own = DMatrix::from_column_slice(dim, 1, &self.means[at * dim..(at + 1) * dim]);
            let products = algebra::product(means.transpose(), algebra::n(&own));
            let others = (0..count).filter(|&other| other != at);
            let distances = others.map(|other| squares[at] + squares[other] - 2.0 * products[(other, 0)]);
            let nearest = distances.fold(f64::INFINITY, f64::min);
            if self.errors[at] > SHARE * nearest {
                large.push(self.labels[at]);
            }
        }
        large
    }
}

/// Looks at a task's labelled samples, beside the classes that the state has.
pub(crate) struct LabelChecks<'a> {
    new: &'a ClassStatistics,
    /// Squared distances of each of the task's classes: to what the state has of it, and to the nearest class.
    distances: BTreeMap<u32, (Option<f64>, f64)>,
}

impl<'a> LabelChecks<'a> {
    pub(crate) fn new(new: &'a ClassStatistics) -> Self {
        Self { new, distances: BTreeMap::new() }
    }

    /// A class of the state, as it is moved.
    pub(crate) fn add(&mut self, label: u32, moved: &ClassGaussian) {
        for (own, class) in self.new.iter() {
            let distance = (moved.mean() - class.mean()).norm_squared();
            let (known, nearest) = self.distances.entry(own).or_insert((None, f64::INFINITY));
            if own == label {
                *known = Some(distance);
            }
            *nearest = nearest.min(distance);
        }
    }

    /// What may be wrong.
    pub(crate) fn finish(self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if let Some(ratio) = self.new.separation().filter(|ratio| *ratio < SEPARATED) {
            let message = format!(
                "the task's classes differ no more than random labels would make them differ (F = {ratio:.2}): check that \
                 the labels are those of these features"
            );
            warnings.push(Warning::new(WarningKind::Labels, Vec::new(), message));
        }
        let strange = |(label, (own, nearest)): (u32, (Option<f64>, f64))| (nearest < own?).then_some(label);
        let strange: Vec<u32> = self.distances.into_iter().filter_map(strange).collect();
        if !strange.is_empty() {
            let message = format!(
                "the task's samples of {} lie nearer to another class than to what the state knows of them: check that \
                 the labels are those of these features",
                named(&strange)
            );
            warnings.push(Warning::new(WarningKind::OtherClass, strange, message));
        }
        warnings
    }
}
