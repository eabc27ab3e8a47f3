//! Weights to codes and back, row by row.

use super::BaseKind;
use crate::vectorised;

/// Quantises one row. Per group `scale = max |w| / max_code`, and `code` is the integer nearest to `w / scale`, ties
/// to even. A group of zeros has scale 0 and codes 0.
///
/// `weights` is one row. `codes` has [`BaseKind::row_bytes`] bytes, `scales` [`BaseKind::groups`] elements; the
/// function writes all of both. `|w − code·scale|` is at most half a scale and a few units in the last place: scales
/// below f32's normal range are rounded, scales above [`BaseKind::max_scale`] are cut.
///
/// # Errors
/// The column of the first weight that is NaN or infinite. The content of `codes` and `scales` is then unspecified.
///
/// # Panics
/// When `codes` or `scales` has the wrong length.
pub fn quantize_row(
    weights: &[f32],
    kind: BaseKind,
    codes: &mut [u8],
    scales: &mut [f32],
) -> Result<(), usize> {
    let group = kind.group(weights.len());
    assert_eq!(scales.len(), kind.groups(weights.len()), "scales for {} columns of {kind}", weights.len());
    for (number, (weights, scale)) in weights.chunks(group).zip(&mut *scales).enumerate() {
        *scale = scale_of(weights, kind).ok_or_else(|| {
            let bad = weights.iter().position(|w| !w.is_finite()).unwrap_or(0);
            number * group + bad
        })?;
    }
    code_row(weights, kind, scales, codes);
    Ok(())
}

/// The codes of one row for given scales: the integer nearest to `w / scale`, ties to even, and at most
/// [`BaseKind::max_code`] in magnitude. A group with scale 0 has codes 0.
///
/// `weights` is one row of finite weights, `scales` its [`BaseKind::groups`] scales, each finite and at least 0. The
/// function writes all [`BaseKind::row_bytes`] of `codes`.
///
/// # Panics
/// When `codes` or `scales` has the wrong length.
pub fn code_row(weights: &[f32], kind: BaseKind, scales: &[f32], codes: &mut [u8]) {
    check_lengths(weights.len(), kind, codes, scales);
    let group = kind.group(weights.len());
    let groups = weights.chunks(group).zip(codes.chunks_mut(kind.row_bytes(group))).zip(scales);
    for ((weights, codes), &scale) in groups {
        match kind {
            BaseKind::Int8 => code_int8(weights, scale, bytemuck::cast_slice_mut(codes)),
            _ => code_int4(weights, scale, codes),
        }
    }
}

/// The weights of one row: `code · scale`, exactly what [`QuantizedBase::weight`](super::QuantizedBase::weight)
/// gives.
///
/// `codes` is the row's [`BaseKind::row_bytes`], `scales` its [`BaseKind::groups`] for `weights.len()` columns.
///
/// # Panics
/// When `codes` or `scales` has the wrong length.
pub fn dequantize_row(kind: BaseKind, codes: &[u8], scales: &[f32], weights: &mut [f32]) {
    check_lengths(weights.len(), kind, codes, scales);
    let group = kind.group(weights.len());
    let group_bytes = kind.row_bytes(group);
    for ((weights, codes), &scale) in weights.chunks_mut(group).zip(codes.chunks(group_bytes)).zip(scales) {
        if kind == BaseKind::Int8 {
            for (weight, &code) in weights.iter_mut().zip(codes) {
                *weight = f32::from(code as i8) * scale;
            }
            continue;
        }
        let (pairs, odd) = weights.as_chunks_mut::<2>();
        for (pair, &byte) in pairs.iter_mut().zip(codes) {
            *pair = [f32::from((byte << 4) as i8 >> 4) * scale, f32::from(byte as i8 >> 4) * scale];
        }
        if let ([odd], Some(&byte)) = (odd, codes.last()) {
            *odd = f32::from((byte << 4) as i8 >> 4) * scale;
        }
    }
}

fn check_lengths(cols: usize, kind: BaseKind, codes: &[u8], scales: &[f32]) {
    assert_eq!(codes.len(), kind.row_bytes(cols), "bytes of codes for {cols} columns of {kind}");
    assert_eq!(scales.len(), kind.groups(cols), "scales for {cols} columns of {kind}");
}

/// The scale of a group; `None` when some weight is not finite.
pub(crate) fn scale_of(weights: &[f32], kind: BaseKind) -> Option<f32> {
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

/// The code nearest to a weight. `scale` must be above 0. The function divides by the scale: multiplying by the
/// inverse could overflow for subnormal scales, and division is as fast as memory.
#[inline(always)]
fn code(weight: f32, scale: f32, limit: f32) -> i8 {
    // 1.5·2²³ leaves no bits for fractions, so the addition rounds, and the low byte is the integer in two's
    // complement. `f32::round` is a function call on plain x86-64 and keeps the loop scalar.
    const ROUND: f32 = 12_582_912.0;
    let steps = (weight / scale).clamp(-limit, limit);
    (steps + ROUND).to_bits() as i8
}

vectorised! {
/// Codes of one byte each, also those of an i8 value plane.
pub(crate) fn code_int8(weights: &[f32], scale: f32, codes: &mut [i8]) {
    if scale == 0.0 {
        return codes.fill(0);
    }
    for (out, &weight) in codes.iter_mut().zip(weights) {
        *out = code(weight, scale, 127.0);
    }
}
}

vectorised! {
fn code_int4(weights: &[f32], scale: f32, codes: &mut [u8]) {
    if scale == 0.0 {
        return codes.fill(0);
    }
    let (pairs, odd) = weights.as_chunks::<2>();
    for (out, &[low, high]) in codes.iter_mut().zip(pairs) {
        let (low, high) = (code(low, scale, 7.0), code(high, scale, 7.0));
        *out = (low as u8 & 15) | (high as u8) << 4;
    }
    if let ([odd], Some(out)) = (odd, codes.last_mut()) {
        *out = code(*odd, scale, 7.0) as u8 & 15;
    }
}
}
