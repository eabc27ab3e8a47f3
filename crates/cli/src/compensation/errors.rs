//! Estimated errors of moved means in the output of commands.

use residua::compensate::compensator::{Uncertainty, Warning};
use serde::Serialize;

use crate::escape;
use crate::output::{complain, percent};

/// Estimated squared errors of means, summed up.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Errors {
    #[serde(skip)]
    classes: u64,
    #[serde(skip)]
    sum: f64,
    /// The largest one.
    largest: f64,
    /// Its class.
    largest_class: Option<u32>,
}

impl Errors {
    pub(crate) fn add(&mut self, label: u32, error: f64) {
        self.classes += 1;
        self.sum += error;
        if error > self.largest {
            (self.largest, self.largest_class) = (error, Some(label));
        }
    }

    pub(crate) fn mean(&self) -> f64 {
        self.sum / self.classes.max(1) as f64
    }

    /// For people; `None` if no class has an error.
    pub(crate) fn text(&self) -> Option<String> {
        let class = self.largest_class?;
        Some(format!("{:.3}, class {class}: {:.3}", self.mean(), self.largest))
    }
}

/// What the pairs of a fit tell about errors.
#[derive(Debug, Serialize)]
pub(crate) struct Estimate {
    /// The average of the estimated squared errors of moved means, in the unit of squared features.
    mean: f64,
    #[serde(flatten)]
    errors: Errors,
    /// The squared error of pairs or classes that are left out, as a share of what it would be without a move.
    held_out: f64,
    /// The same as a share of how far features after the task are spread.
    unexplained: f64,
    /// The squared error per leverage.
    level: f64,
    /// The leverage that 95 % of the groups that are left out do not exceed.
    usual_leverage: f64,
}

impl Estimate {
    pub(crate) fn new(known: &Uncertainty, errors: Errors) -> Self {
        let (held_out, unexplained) = (known.held_out_error(), known.unexplained());
        let (level, usual_leverage) = (known.level(), known.usual_leverage());
        Self { mean: errors.mean(), errors, held_out, unexplained, level, usual_leverage }
    }

    pub(crate) fn text(&self) -> String {
        let held_out = percent(self.held_out);
        let means = self
            .errors
            .text()
            .map_or_else(String::new, |text| format!("squared, of means: {text} (estimates); "));
        format!("{means}of pairs that are left out: {held_out} of no move")
    }
}

/// Prints warnings to stderr, for people. `variant` is what they are about.
pub(crate) fn warn(variant: Option<&str>, warning: &Warning) {
    let about = variant.map_or_else(String::new, |variant| format!("{variant}: "));
    complain(&escape::line(&format!("warning: {about}{warning}")));
}
