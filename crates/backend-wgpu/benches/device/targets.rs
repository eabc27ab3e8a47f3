//! The targets of the shaders, and whether they are met.

use super::shared::data::Plan;
use super::shared::report::{Bound, Report, Target, shape_text};

/// The targets, with the measurements in the report's rows.
pub(crate) fn judge(report: &Report, plan: &Plan) -> Vec<Target> {
    let mut targets = Vec::new();
    for &shape in &plan.shapes {
        for &density in &plan.densities {
            let row = report.find(shape, density, ["spmv", "bf16", "cold"]);
            targets.push(Target {
                what: "SpMV, bf16, part of the copy's bandwidth".into(),
                at: format!("{} at {} %, sets out of L2", shape_text(shape), 100.0 * density),
                wanted: Bound::AtLeast(70.0),
                unit: "%",
                measured: row.and_then(|row| report.share(row)).map(|share| 100.0 * share),
            });
        }
    }
    targets
}
