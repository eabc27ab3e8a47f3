//! Classes with different numbers of samples.
//!
//! The mean of a class of n samples is uncertain by `Σ/n`. On average that adds `tr(M⁻¹·Σ)/n` to the squared distance of the
//! class's features from its mean, in the metric M of a classifier, so classes of few samples lose to others. And a
//! covariance of few samples is empty in most directions. Both only matter between classes whose numbers differ.

use crate::statistics::ClassStatistics;

/// The samples for each dimension at which half of a covariance counts as known.
const HALF: f64 = 16.0;

/// The smallest and the largest number of samples of a class.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    least: f64,
    most: f64,
}

impl Counts {
    /// The counts of these classes; `None` if all are equal.
    pub(super) fn unequal(statistics: &ClassStatistics) -> Option<Self> {
        let counts = || statistics.iter().map(|(_, class)| class.count());
        let (least, most) = (counts().min()? as f64, counts().max()? as f64);
        (least < most).then_some(Self { least, most })
    }

    /// How much more uncertain the mean of a class of `count` samples is than that of the largest class: what `Σ` is
    /// multiplied with.
    pub(super) fn excess(self, count: u64) -> f64 {
        1.0 / count as f64 - 1.0 / self.most
    }

    /// The weight that covariances keep: all classes follow the smallest, so that none is more regular than others.
    pub(super) fn share(self, dim: usize) -> f64 {
        let known = |count: f64| count / (count + HALF * dim as f64);
        known(self.least) / known(self.most)
    }
}
