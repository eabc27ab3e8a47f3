//! Weights to codes, with the scale that fits the largest.

use super::coder::code_int8;
use super::{BaseKind, Coder, MULTIPLIERS};
use crate::vectorised;

/// Quantises one row. Per group `scale = max |w| / max_code`, and the codes are those nearest to the weights; see
/// [`Coder::code_row`] and [`plain_multipliers`]. A group of zeros has scale 0.
///
/// `weights` is one row. `codes` has [`BaseKind::row_bytes`] bytes, `scales` [`BaseKind::groups`] elements; the
/// function writes all of both. With integers, `|w − code·scale|` is at most half a scale and a few units in the last
/// place: scales below f32's normal range are rounded, scales above [`BaseKind::max_scale`] are cut.
///
/// # Errors
/// The column of the first weight that is NaN or infinite. The content of `codes` and `scales` is then unspecified.
///
/// # Panics
/// When `codes` or `scales` has the wrong length.
pub fn quantize_row(
    weights: &[f32],
    coder: &Coder,
    codes: &mut [u8],
    scales: &mut [f32],
) -> Result<(), usize> {
    let kind = coder.grid().kind();
    let group = kind.group(weights.len());
    assert_eq!(scales.len(), kind.groups(weights.len()), "scales for {} columns of {kind}", weights.len());
    for (number, (weights, scale)) in weights.chunks(group).zip(&mut *scales).enumerate() {
        *scale = scale_of(weights, kind).ok_or_else(|| {
            let bad = weights.iter().position(|w| !w.is_finite()).unwrap_or(0);
            number * group + bad
        })?;
    }
    let mut multipliers = vec![0; kind.blocks(weights.len())];
    plain_multipliers(weights, kind, scales, &mut multipliers);
    coder.code_row(weights, scales, &multipliers, codes);
    Ok(())
}

/// The number of each block's smallest multiplier with which the largest level reaches the block's largest magnitude.
/// `scales` is the row's scale, `multipliers` has [`BaseKind::blocks`] elements: none if the kind has no blocks.
pub fn plain_multipliers(weights: &[f32], kind: BaseKind, scales: &[f32], multipliers: &mut [u8]) {
    let (Some(block), [scale]) = (kind.block(), scales) else { return };
    for (weights, number) in weights.chunks(block).zip(multipliers) {
        let steps = weights.iter().fold(0.0f32, |largest, weight| largest.max(weight.abs())) / scale;
        let reaches = |&multiplier: &u16| f32::from(multiplier) * (127.0 / 256.0) >= steps;
        *number = MULTIPLIERS.iter().position(reaches).unwrap_or(MULTIPLIERS.len() - 1) as u8;
    }
}

/// The scale of a row of i8 values: the largest magnitude divided by 127. `None` when some value is not finite.
pub fn scale_i8(values: &[f32]) -> Option<f32> {
    scale_of(values, BaseKind::Int8)
}

/// The codes of a row of finite i8 values for a scale: the integer nearest to `value / scale`, ties to even, and at
/// most 127 in magnitude. With scale 0 all are 0.
///
/// # Panics
/// When `codes` has another length than `values`.
pub fn code_i8(values: &[f32], scale: f32, codes: &mut [i8]) {
    assert_eq!(codes.len(), values.len(), "one code per value");
    code_int8(values, scale, codes);
}

/// The scale of a group; `None` when some weight is not finite.
fn scale_of(weights: &[f32], kind: BaseKind) -> Option<f32> {
    Some((max_abs(weights)? / f32::from(kind.max_code())).min(kind.max_scale()))
}

vectorised! {
/// The largest magnitude; `None` when some weight is not finite.
fn max_abs(weights: &[f32]) -> Option<f32> {
    // The bits of floats without their sign order as integers do, infinities and NaN last. An integer maximum, unlike
    // a float maximum, may be reordered, so the loop vectorises.
    let bits = weights.iter().fold(0, |max, w| max.max((w.to_bits() & 0x7FFF_FFFF) as i32));
    Some(f32::from_bits(bits as u32)).filter(|max| max.is_finite())
}
}
