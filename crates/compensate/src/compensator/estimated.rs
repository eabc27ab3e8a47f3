//! A fitted map with what it knows about its pairs.

use std::path::Path;

use residua_memory::Budget;

use super::uncertainty::Uncertainty;
use super::watch::{self, Watched};
use super::{Compensator, MOVING_ERROR, Method};
use crate::source::{FeatureSource, Fingerprint};
use crate::statistics::{ClassGaussian, ClassStatistics};
use crate::{Result, Tag};

/// Adds to a map what moved statistics need: the tag of their new space, and the estimated errors of their means.
pub(super) struct Estimated {
    map: Box<dyn Compensator>,
    uncertainty: Uncertainty,
    pairs: Vec<Fingerprint>,
    keep_if_worse: bool,
}

impl Estimated {
    /// Fits a method.
    pub(super) fn new<M: Method + ?Sized>(
        method: &M,
        source: &mut dyn FeatureSource,
        budget: &Budget,
    ) -> Result<Self> {
        // Where there is no room for the watch, the error states the whole need.
        if budget.available() < watch::bytes(source.dim()) {
            let all = method.bytes(source, None).saturating_add(watch::bytes(source.dim()));
            budget.require(all, MOVING_ERROR)?;
        }
        let mut watched = Watched::new(source, budget)?;
        let map = method.learn(&mut watched, budget)?;
        let pairs = watched.fingerprints();
        let uncertainty = Uncertainty::of(&*map, watched.finish(), budget)?;
        Ok(Self { map, uncertainty, pairs, keep_if_worse: false })
    }

    /// The statistics as they are, with the drift as their error.
    fn keep(&self, statistics: &ClassStatistics, budget: &Budget) -> Result<ClassStatistics> {
        let kept = statistics.map(0, budget, |_, class| {
            ClassGaussian::new(class.count(), class.mean().clone(), class.covariance().clone(), budget)
        })?;
        let errors = statistics.iter().map(|(_, class)| class.error() + self.uncertainty.drift());
        Ok(kept.with_errors(errors))
    }
}

impl Compensator for Estimated {
    fn dim(&self) -> usize {
        self.map.dim()
    }

    /// The map alone: its file has no place for what it knows about errors.
    fn save(&self, path: &Path) -> Result<u64> {
        self.map.save(path)
    }

    fn apply(&self, statistics: &ClassStatistics, budget: &Budget) -> Result<ClassStatistics> {
        let tag = self.moved_tag(statistics.tag())?;
        if self.keep_if_worse && self.uncertainty.is_no_help() {
            return Ok(self.keep(statistics, budget)?.with_tag(tag));
        }
        let moved = self.map.apply(statistics, budget)?;
        let leverages = self.uncertainty.leverages_of(statistics, budget)?;
        let added = leverages.iter().map(|leverage| leverage * self.uncertainty.level());
        let errors = statistics.iter().zip(added).map(|((_, class), added)| class.error() + added);
        Ok(moved.with_errors(errors).with_tag(tag))
    }

    fn apply_features(&self, features: &[f32], budget: &Budget) -> Result<Vec<f32>> {
        self.map.apply_features(features, budget)
    }

    fn moved_tag(&self, tag: &Tag) -> Result<Tag> {
        tag.moved(&self.pairs, None)
    }

    fn uncertainty(&self) -> Option<&Uncertainty> {
        Some(&self.uncertainty)
    }

    fn keep_if_worse(&mut self) {
        self.keep_if_worse = true;
    }
}
