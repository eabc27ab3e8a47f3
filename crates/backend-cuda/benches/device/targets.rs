//! The targets of the kernels at 5 % with bf16 values, and whether this device reaches them.

use super::peers::SPARSE;
use super::shared::data::Plan;
use super::shared::report::{BASE_ALONE, Bound, Report, Target, shape_text};

/// A peer that targets compare with.
pub(crate) const PER_ENTRY: &str = "COO, a thread per entry";
/// The row of a conversion and the products after it.
pub(crate) const COO_TOTAL: [&str; 3] = ["coo to csr + 100 spmv", "f32", "warm, mean of a product"];

const DENSITY: f64 = 0.05;
const WARM: [usize; 2] = [4096, 4096];

/// Every target with the measurement of the report.
pub(crate) fn judge(report: &Report, plan: &Plan) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut push = |what: &str, at: String, wanted, unit, measured| {
        targets.push(Target { what: what.into(), at, wanted, unit, measured });
    };
    // Shapes that are not timed also appear, so that no target is forgotten.
    let mut shapes = Plan::full().shapes;
    if plan.shapes.iter().any(|shape| !shapes.contains(shape)) {
        shapes.clone_from(&plan.shapes);
    }
    for &shape in &shapes {
        let row = |operation: &str, mode: &str| report.find(shape, DENSITY, [operation, "bf16", mode]);
        let against = |operation, mode, peer: &str| row(operation, mode)?.times_faster_than(peer);
        let at = |how: &str| format!("{}, {how}", shape_text(shape));
        let cold = at("sets out of L2");
        push(
            "SpMV against cuSPARSE CSR f32",
            cold.clone(),
            Bound::AtLeast(2.5),
            "×",
            against("spmv", "cold", SPARSE),
        );
        let share = row("spmv", "cold").and_then(|row| report.share(row)).map(|share| 100.0 * share);
        push("SpMV, part of the copy's bandwidth", cold.clone(), Bound::AtLeast(75.0), "%", share);
        if shape == WARM {
            push(
                "SpMV against cuSPARSE CSR f32",
                at("warm"),
                Bound::AtLeast(1.5),
                "×",
                against("spmv", "warm", SPARSE),
            );
        }
        let cost = against("layer 1", "cold", BASE_ALONE).map(|times| 1.0 / times);
        push(
            "the fused layer's time over that of its INT4 base",
            cold.clone(),
            Bound::AtMost(1.35),
            "×",
            cost,
        );
        for operation in ["spmm 8", "spmm 32"] {
            let what = format!("{operation} against cuSPARSE SpMM, CSR f32");
            push(&what, cold.clone(), Bound::AtLeast(2.0), "×", against(operation, "cold", SPARSE));
        }
        let coo = report.find(shape, DENSITY, COO_TOTAL).and_then(|row| row.times_faster_than(PER_ENTRY));
        push(
            "conversion from COO and 100 products with CSR, against 100 with a kernel per entry",
            at("warm"),
            Bound::AtLeast(2.0),
            "×",
            coo,
        );
    }
    targets
}
