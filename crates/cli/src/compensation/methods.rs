//! Compensators by name.

use clap::ValueEnum;
use residua::compensate::{Attention, Linear, Method, Mode, Rff, Variant, WeakNonlinear};

use crate::failure::{Failure, Result};

/// The method that moves statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MethodArg {
    /// The drift as a linear function of the feature, by ridge regression
    Linear,
    /// The drift of the nearest samples, weighted by softmax
    Attention,
    /// The drift as a smooth function of the feature: ridge regression on random Fourier features
    Rff,
    /// The drift as a linear function plus a small hidden layer of rectified units
    WeakNonlinear,
}

impl MethodArg {
    /// All of them.
    pub(crate) fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// The method with the defaults of a mode, and with `noise` if it [takes it](Self::takes_noise).
    pub(crate) fn method(self, mode: ModeArg, noise: f64) -> Box<dyn Method> {
        match self {
            Self::Linear => Box::new(Linear::new(mode.into()).with_noise(noise)),
            Self::Attention => Box::new(Attention::new(mode.into())),
            Self::Rff => Box::new(Rff::new(mode.into()).with_noise(noise)),
            Self::WeakNonlinear => Box::new(WeakNonlinear::new(mode.into()).with_noise(noise)),
        }
    }

    /// Whether the method stretches covariances to restore the unexplained part.
    fn takes_noise(self, mode: ModeArg) -> bool {
        self != Self::Attention && mode == ModeArg::Exact
    }
}

/// A variant of a state of tasks: a method, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VariantArg {
    /// Old classes stay as they were collected
    None,
    /// As in compensate
    Linear,
    /// As in compensate
    Attention,
    /// As in compensate
    Rff,
    /// As in compensate
    WeakNonlinear,
}

impl VariantArg {
    /// The variant in a [`TaskSequence`](residua::compensate::TaskSequence).
    pub(crate) fn variant(self) -> Variant {
        match self {
            Self::None => Variant::SeqFt,
            Self::Linear => Variant::Linear,
            Self::Attention => Variant::Attention,
            Self::Rff => Variant::Rff,
            Self::WeakNonlinear => Variant::WeakNonlinear,
        }
    }

    /// The name on the command line of a variant.
    pub(crate) fn name_of(variant: &str) -> Option<String> {
        let all = Self::value_variants().iter();
        let found = all.copied().find(|argument| argument.variant().name() == variant)?;
        Some(found.to_possible_value()?.get_name().to_owned())
    }
}

/// Refuses a method that is given twice.
pub(crate) fn expect_distinct<T: ValueEnum + PartialEq>(methods: &[T]) -> Result {
    let twice = methods.iter().enumerate().find(|(at, method)| methods[..*at].contains(*method));
    match twice.and_then(|(_, method)| method.to_possible_value()) {
        Some(value) => Err(Failure::usage(format!("--method {} is given twice", value.get_name()))),
        None => Ok(()),
    }
}

/// Refuses `--noise` if no method uses it.
pub(crate) fn expect_noisy(methods: &[MethodArg], mode: ModeArg, noise: Option<f64>) -> Result {
    if noise.is_some() && !methods.iter().any(|method| method.takes_noise(mode)) {
        return Err(Failure::usage("--noise is for linear, rff and weak-nonlinear in exact mode"));
    }
    Ok(())
}

/// The definition of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// The more accurate definition
    Exact,
    /// The definition of the reference implementation, to reproduce its numbers
    Compat,
}

impl ModeArg {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Compat => "compat",
        }
    }
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Exact => Self::Exact,
            ModeArg::Compat => Self::Compat,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_the_command_line_are_the_methods_own() {
        for method in MethodArg::all() {
            let name = method.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(name.as_deref(), Some(method.method(ModeArg::Exact, 1.0).name()));
        }
    }
}
