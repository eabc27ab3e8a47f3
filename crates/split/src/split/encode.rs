//! Encoding kept entries into the bytes of the sparse planes.

use half::{bf16, f16};
use residua_format::gap::RowPlan;
use residua_format::{BaseKind, ValueType, code_i8, scale_i8};

/// Encoded rows of a piece.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    pub(super) plans: Vec<RowPlan>,
    pub(super) index: Vec<u8>,
    pub(super) values: Vec<u8>,
    /// One per row, for i8 values.
    pub(super) scales: Vec<bf16>,
    /// By how much the residual of each row lowers the sum of squared errors.
    pub(super) gains: Vec<f64>,
    codes: Vec<i8>,
    /// Whether rows may have another mode than [`RowMode::Gap`](residua_format::gap::RowMode::Gap).
    modes: bool,
}

impl Encoded {
    /// Twice the maximum bytes of a row of `cols` columns, because a growing vector moves. No row has more than an
    /// entry for each column.
    pub(super) fn row_bytes(cols: usize, values: ValueType) -> u64 {
        let row = (cols * (1 + values.bytes())) as u64;
        2 * (row + (size_of::<RowPlan>() + 12) as u64) + cols as u64
    }

    /// Forgets all rows. `modes` says whether rows choose how their columns are stored.
    pub(super) fn reset(&mut self, modes: bool) {
        self.modes = modes;
        self.plans.clear();
        self.index.clear();
        self.values.clear();
        self.scales.clear();
        self.gains.clear();
    }

    /// Appends a row. `differences` are those between weights and base, usually the residuals.
    ///
    /// # Errors
    /// The position (in the row's entries) of the first residual that the value type cannot hold.
    pub(super) fn push_row(
        &mut self,
        columns: &[u32],
        (residuals, differences): (&[f32], &[f32]),
        cols: usize,
        values: ValueType,
    ) -> Result<(), usize> {
        let plan = match self.modes {
            true => RowPlan::new(columns, cols, values.bytes()),
            false => RowPlan::gap(columns),
        };
        let (index, out) = (&mut self.index, &mut self.values);
        let mut gain = 0.0;
        let mut overflow = None;
        let mut count = |i: usize, stored: f32| {
            let difference = f64::from(differences[i]);
            gain += difference * difference - (difference - f64::from(stored)).powi(2);
            if !stored.is_finite() {
                overflow = overflow.or(Some(i));
            }
        };
        match values {
            ValueType::F32 => plan.encode(columns, cols, index, |i| {
                let value = i.map_or(0.0, |i| residuals[i]);
                out.extend_from_slice(&value.to_le_bytes());
                i.into_iter().for_each(|i| count(i, value));
            }),
            ValueType::F16 => plan.encode(columns, cols, index, |i| {
                let value = i.map_or(f16::ZERO, |i| f16::from_f32(residuals[i]));
                out.extend_from_slice(&value.to_le_bytes());
                i.into_iter().for_each(|i| count(i, value.to_f32()));
            }),
            ValueType::Bf16 => plan.encode(columns, cols, index, |i| {
                let value = i.map_or(bf16::ZERO, |i| bf16::from_f32(residuals[i]));
                out.extend_from_slice(&value.to_le_bytes());
                i.into_iter().for_each(|i| count(i, value.to_f32()));
            }),
            ValueType::I8 => {
                // The rule is that of an INT8 base: one scale for the row.
                let codes = &mut self.codes;
                codes.resize(columns.len(), 0);
                let scale = scale_i8(residuals)
                    .ok_or_else(|| residuals.iter().position(|r| !r.is_finite()).unwrap_or(0))?;
                let stored = round_up(scale);
                let scale = stored.to_f32();
                code_i8(residuals, scale, codes);
                self.scales.push(stored);
                plan.encode(columns, cols, index, |i| {
                    out.push(i.map_or(0, |i| codes[i] as u8));
                    i.into_iter().for_each(|i| count(i, f32::from(codes[i]) * scale));
                });
            }
        }
        self.gains.push(gain);
        self.plans.push(plan);
        overflow.map_or(Ok(()), Err)
    }
}

/// The nearest bf16 that is not smaller; the largest that an i8 plane may hold, if that is too small.
fn round_up(scale: f32) -> bf16 {
    let largest = bf16::from_bits((BaseKind::Int8.max_scale().to_bits() >> 16) as u16);
    let down = bf16::from_bits((scale.to_bits() >> 16) as u16);
    let up = if down.to_f32() < scale { bf16::from_bits(down.to_bits() + 1) } else { down };
    if up.to_f32() > largest.to_f32() { largest } else { up }
}
