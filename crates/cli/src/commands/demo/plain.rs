//! Plain quantisers beside the split: every weight takes the nearest level, each group of columns has an f16 scale by
//! its largest magnitude, and there is no residual.

use half::f16;
use residua::format::file::Checkpoint;
use residua::memory::Budget;
use serde::Serialize;

use crate::dense_rows::{read_rows, row_bytes};
use crate::failure::Result;

/// The levels of NF4 (Dettmers et al. 2023).
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// What a way to store the weights takes, and how far it is off.
#[derive(Debug, Serialize)]
pub(super) struct Stored {
    pub(super) name: &'static str,
    /// Bits per weight, with everything.
    pub(super) bits: f64,
    /// Relative Frobenius error of all layers together.
    pub(super) error: f64,
}

struct Quantiser {
    name: &'static str,
    code_bits: usize,
    /// They rise; the last is the largest magnitude.
    levels: Vec<f32>,
    /// Columns of a group; `None` for whole rows.
    group: Option<usize>,
}

fn quantisers() -> [Quantiser; 4] {
    let integers = |most: i8| (-most..=most).map(f32::from).collect();
    let new = |name, code_bits, levels, group| Quantiser { name, code_bits, levels, group };
    [
        new("int4, groups of 64", 4, integers(7), Some(64)),
        new("NF4, groups of 64", 4, NF4.to_vec(), Some(64)),
        new("int4, groups of 32", 4, integers(7), Some(32)),
        new("int5, a scale per row", 5, integers(15), None),
    ]
}

/// Quantises the tensors with these `names` in every way.
pub(super) fn measure<'a>(
    weights: &Checkpoint,
    names: impl Iterator<Item = &'a str>,
    budget: &Budget,
) -> Result<Vec<Stored>> {
    let quantisers = quantisers();
    let mut sums = [Sums::default(); 4];
    let mut dense = Vec::new();
    for name in names {
        let tensor = weights.expect_tensor(name)?;
        let (rows, cols) = (tensor.shape[0], tensor.shape[1]);
        let _held = budget.reserve(rows as u64 * row_bytes(tensor), "dense weights")?;
        read_rows(weights, tensor, 0, rows, &mut dense)?;
        for (quantiser, sums) in quantisers.iter().zip(&mut sums) {
            dense.chunks(cols).for_each(|row| quantiser.add(row, sums));
        }
    }
    let stored = quantisers.iter().zip(sums).map(|(quantiser, sums)| Stored {
        name: quantiser.name,
        bits: sums.bits as f64 / sums.weights as f64,
        error: (sums.error / sums.squares).sqrt(),
    });
    Ok(stored.collect())
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    weights: usize,
    bits: usize,
    error: f64,
    squares: f64,
}

impl Quantiser {
    /// Adds what a row takes, and its squared errors.
    fn add(&self, row: &[f32], sums: &mut Sums) {
        sums.weights += row.len();
        let halves: Vec<f32> = self.levels.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
        let largest = self.levels[halves.len()];
        for group in row.chunks(self.group.unwrap_or(row.len())) {
            sums.bits += 16 + self.code_bits * group.len();
            let most = group.iter().fold(0.0f32, |most, weight| most.max(weight.abs()));
            let scale = f16::from_f32(most / largest).to_f32();
            for &weight in group {
                // With a scale of 0 the level does not matter.
                let level = self.levels[halves.partition_point(|&half| half < weight / scale)];
                sums.error += f64::from(weight - level * scale).powi(2);
                sums.squares += f64::from(weight).powi(2);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scale 0.5, so the levels are multiples of 0.5: 0.75 and 0.2 are off by 0.25 and 0.2.
    #[test]
    fn errors_and_bits_of_a_row_are_right() {
        let mut sums = Sums::default();
        let int4 = &quantisers()[0];
        int4.add(&[-3.5, 0.75, 0.2, 1.0], &mut sums);
        int4.add(&[0.0, 0.0], &mut sums);
        assert_eq!((sums.weights, sums.bits), (6, 2 * 16 + 6 * 4));
        assert!((sums.error - (0.0625 + 0.04)).abs() < 1e-6, "{sums:?}");
        assert!((sums.squares - (12.25 + 0.5625 + 0.04 + 1.0)).abs() < 1e-6, "{sums:?}");
    }
}
