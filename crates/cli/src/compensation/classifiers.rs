//! Classifiers by name.

use clap::ValueEnum;
use residua::compensate::classify::{
    LdaOptions, LowRankQda, Metric, NcmOptions, Pooling, Prior, QdaOptions, Ridge, Room,
};
use residua::compensate::statistics::Extent;
use residua::compensate::{ClassStatistics, Classifier, CompensateError, Lda, Ncm, Qda};
use residua::memory::Budget;

use crate::failure::Result;

/// Keeps covariances invertible when nothing shrinks them, in units of their mean variance.
const FLOOR: f64 = 1e-6;
/// The rank of the reference's low-rank classifier.
const RANK: usize = 64;

/// The settings of a classifier. Each has an effect on some classifiers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// How far [`ClassifierArg::LdaShrink`] and [`ClassifierArg::QdaShrink`] shrink.
    pub(crate) shrink: f64,
    /// The weights of [`ClassifierArg::QdaPooled`], if they are not those by the statistics' counts.
    pub(crate) own: Option<f64>,
    pub(crate) ridge: Option<f64>,
    /// The directions of each class that [`ClassifierArg::QdaPooled`] keeps, if not all.
    pub(crate) rank: Option<usize>,
    pub(crate) prior: Prior,
}

impl Settings {
    /// The weights for these statistics.
    pub(crate) fn pooling(&self, statistics: &ClassStatistics) -> Pooling {
        let default = Pooling::of(statistics);
        Pooling::new(self.own.unwrap_or(default.own), self.ridge.unwrap_or(default.ridge))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { shrink: 0.1, own: None, ridge: None, rank: None, prior: Prior::Uniform }
    }
}

/// A classifier rebuilt from class statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClassifierArg {
    /// Nearest class mean
    Ncm,
    /// Nearest class mean by angle, like the reference
    NcmCosine,
    /// Linear discriminant: one covariance for all classes
    Lda,
    /// lda with shrunk covariance
    LdaShrink,
    /// Quadratic discriminant: a covariance for each class
    Qda,
    /// qda with shrunk covariances
    QdaShrink,
    /// qda with covariances pulled towards their average: the most accurate here
    QdaPooled,
    /// Regularised Gaussian discriminant of the reference: 0.2·Σ + 2·Σ̄ + 0.5·I
    Rgda,
    /// rgda with the 64 directions of largest variance of each class
    RgdaLowRank,
}

impl ClassifierArg {
    /// The classifiers that `evaluate` compares.
    pub(crate) const EVALUATED: [Self; 5] =
        [Self::Ncm, Self::Lda, Self::LdaShrink, Self::QdaShrink, Self::QdaPooled];

    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ncm => "ncm",
            Self::NcmCosine => "ncm-cosine",
            Self::Lda => "lda",
            Self::LdaShrink => "lda-shrink",
            Self::Qda => "qda",
            Self::QdaShrink => "qda-shrink",
            Self::QdaPooled => "qda-pooled",
            Self::Rgda => "rgda",
            Self::RgdaLowRank => "rgda-low-rank",
        }
    }

    /// Whether the user can choose how far to shrink.
    pub(crate) fn takes_shrink(self) -> bool {
        matches!(self, Self::LdaShrink | Self::QdaShrink)
    }

    /// What the classifier takes for statistics of this size.
    pub(crate) fn room(self, extent: &Extent, rank: Option<usize>) -> Room {
        match (self, rank) {
            (Self::QdaPooled, Some(rank)) => LowRankQda::room(extent, rank),
            (Self::Ncm | Self::NcmCosine, _) => Ncm::room(extent),
            (Self::Lda | Self::LdaShrink, _) => Lda::room(extent),
            (Self::Qda | Self::QdaShrink | Self::QdaPooled | Self::Rgda, _) => Qda::room(extent, false),
            (Self::RgdaLowRank, _) => Qda::room(extent, true),
        }
    }

    /// The classifier of these classes.
    pub(crate) fn build(
        self,
        statistics: &ClassStatistics,
        settings: Settings,
        budget: &Budget,
    ) -> Result<Box<dyn Classifier>> {
        Ok(self.of(statistics, settings, budget).map_err(advised)?)
    }

    fn of(
        self,
        statistics: &ClassStatistics,
        settings: Settings,
        budget: &Budget,
    ) -> Result<Box<dyn Classifier>, CompensateError> {
        let Settings { shrink, prior, .. } = settings;
        let floor = Ridge::relative(FLOOR);
        let ncm = |metric| NcmOptions::default().with_metric(metric).with_prior(prior);
        let lda = |ridge| LdaOptions::default().with_ridge(ridge).with_prior(prior);
        let qda = |ridge| QdaOptions::default().with_ridge(ridge).with_prior(prior);
        let pooled = QdaOptions::pooled(settings.pooling(statistics)).with_prior(prior);
        let rgda = QdaOptions::reference().with_prior(prior);
        Ok(match self {
            Self::Ncm => Box::new(Ncm::new(statistics, ncm(Metric::Euclidean), budget)?),
            Self::NcmCosine => Box::new(Ncm::new(statistics, ncm(Metric::Cosine), budget)?),
            Self::Lda => Box::new(Lda::new(statistics, lda(floor), budget)?),
            Self::LdaShrink => Box::new(Lda::new(statistics, lda(Ridge::relative(shrink)), budget)?),
            Self::Qda => Box::new(Qda::new(statistics, qda(floor), budget)?),
            Self::QdaShrink => Box::new(Qda::new(statistics, qda(Ridge::shrink(shrink)), budget)?),
            Self::QdaPooled => {
                let qda = Qda::new(statistics, pooled, budget)?;
                match settings.rank {
                    Some(rank) => Box::new(qda.low_rank(rank, budget)?),
                    None => Box::new(qda),
                }
            }
            Self::Rgda => Box::new(Qda::new(statistics, rgda, budget)?),
            Self::RgdaLowRank => Box::new(Qda::new(statistics, rgda.with_rank(RANK), budget)?),
        })
    }
}

/// The error of a classifier, with advice that the command line can follow.
pub(crate) fn advised(error: CompensateError) -> CompensateError {
    match error {
        CompensateError::Singular { what, .. } => {
            CompensateError::Singular { what, remedy: "--classifier rgda regularises every covariance" }
        }
        other => other,
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
