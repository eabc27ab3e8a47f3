//! Classifiers by name.

use clap::ValueEnum;
use residua::compensate::classify::{Metric, Prior, Ridge};
use residua::compensate::{ClassStatistics, Classifier, Lda, Ncm, Qda};
use residua::memory::Budget;

use crate::failure::Result;

/// How far [`ClassifierArg::LdaShrink`] and [`ClassifierArg::QdaShrink`] shrink where nothing else is said.
pub(crate) const SHRINK: f64 = 0.1;
/// What keeps the average covariance invertible where nothing is to be shrunk, in units of its mean variance.
const FLOOR: f64 = 1e-6;
/// Of the reference: the weight of the average covariance, and the rank of its low-rank classifier.
const POOLED: f64 = 2.0;
const RANK: usize = 64;

/// A classifier rebuilt from class statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClassifierArg {
    /// Nearest class mean
    Ncm,
    /// Nearest class mean by the angle, as the reference has it
    NcmCosine,
    /// Linear discriminant: one covariance for all classes
    Lda,
    /// The same, with the covariance shrunk
    LdaShrink,
    /// Quadratic discriminant: a covariance for each class
    Qda,
    /// The same, with the covariances shrunk
    QdaShrink,
    /// Regularised Gaussian discriminant, as the reference has it: 0.2·Σ + 2·Σ̄ + 0.5·I
    Rgda,
    /// The same, from the 64 directions of largest variance of each class
    RgdaLowRank,
}

impl ClassifierArg {
    /// Those that `evaluate` compares.
    pub(crate) const EVALUATED: [Self; 4] = [Self::Ncm, Self::Lda, Self::LdaShrink, Self::QdaShrink];

    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ncm => "ncm",
            Self::NcmCosine => "ncm-cosine",
            Self::Lda => "lda",
            Self::LdaShrink => "lda-shrink",
            Self::Qda => "qda",
            Self::QdaShrink => "qda-shrink",
            Self::Rgda => "rgda",
            Self::RgdaLowRank => "rgda-low-rank",
        }
    }

    /// Whether there is a choice of how far to shrink.
    pub(crate) fn takes_shrink(self) -> bool {
        matches!(self, Self::LdaShrink | Self::QdaShrink)
    }

    /// The classifier for these classes.
    pub(crate) fn build(
        self,
        statistics: &ClassStatistics,
        shrink: f64,
        prior: Prior,
        budget: &Budget,
    ) -> Result<Box<dyn Classifier>> {
        let floor = Ridge::relative(FLOOR);
        Ok(match self {
            Self::Ncm => Box::new(Ncm::new(statistics, Metric::Euclidean, prior, budget)?),
            Self::NcmCosine => Box::new(Ncm::new(statistics, Metric::Cosine, prior, budget)?),
            Self::Lda => Box::new(Lda::new(statistics, floor, prior, budget)?),
            Self::LdaShrink => Box::new(Lda::new(statistics, Ridge::relative(shrink), prior, budget)?),
            Self::Qda => Box::new(Qda::new(statistics, floor, 0.0, prior, budget)?),
            Self::QdaShrink => Box::new(Qda::new(statistics, Ridge::shrink(shrink), 0.0, prior, budget)?),
            Self::Rgda => Box::new(Qda::new(statistics, Qda::REFERENCE, POOLED, prior, budget)?),
            Self::RgdaLowRank => {
                Box::new(Qda::low_rank(statistics, RANK, Qda::REFERENCE, POOLED, prior, budget)?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for classifier in ClassifierArg::value_variants() {
            let name = classifier.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(name.as_deref(), Some(classifier.name()));
        }
    }
}
