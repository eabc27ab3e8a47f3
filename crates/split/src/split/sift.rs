//! Finds the scores in a range: the inner loop of counting and of selecting.

use super::score::comparable;

/// Columns that are sifted together.
const WIDTH: usize = 1024;
/// Columns of one step.
const LANES: usize = 8;

/// Comparable scores from `low` to below `high`, as bits. The bits of non-negative floats order as signed integers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) low: i32,
    pub(super) high: i32,
}

impl Range {
    /// Every score of at least `score`.
    pub(super) fn from(score: f32) -> Self {
        Self { low: score.to_bits() as i32, high: f32::INFINITY.to_bits() as i32 + 1 }
    }
}

/// Calls `found` with the columns whose scores lie in `range`, in order, and with their residuals; any number of
/// times, for some columns each. Returns the number of scores above the range. `RARE` says that few scores lie
/// inside. It changes only the speed.
pub(super) fn sift<const RARE: bool>(
    residuals: &[f32],
    weights: &[f32],
    range: Range,
    mut found: impl FnMut(&[u32], &[f32]),
) -> u64 {
    let mut sifted = Sifted { columns: [0; WIDTH + LANES], residuals: [0.0; WIDTH + LANES], length: 0 };
    let mut above = 0;
    for (number, (r, w)) in residuals.chunks(WIDTH).zip(weights.chunks(WIDTH)).enumerate() {
        sifted.length = 0;
        let first = (number * WIDTH) as u32;
        let (r8, r_rest) = r.as_chunks::<LANES>();
        let (w8, w_rest) = w.as_chunks::<LANES>();
        above += lanes::<RARE>(r8, w8, range, first, &mut sifted);
        above += plain(r_rest, w_rest, range, first + (r8.len() * LANES) as u32, &mut sifted);
        if sifted.length > 0 {
            found(&sifted.columns[..sifted.length], &sifted.residuals[..sifted.length]);
        }
    }
    above
}

/// The found columns and residuals. They are gathered without a branch, because no processor can predict which scores
/// are kept. Elements beyond `length` are overwritten later.
struct Sifted {
    columns: [u32; WIDTH + LANES],
    residuals: [f32; WIDTH + LANES],
    length: usize,
}

fn lanes<const RARE: bool>(
    residuals: &[[f32; LANES]],
    weights: &[[f32; LANES]],
    range: Range,
    first: u32,
    sifted: &mut Sifted,
) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
        // SAFETY: the processor has AVX2 and POPCNT.
        return unsafe { avx2::sift::<RARE>(residuals, weights, range, first, sifted) };
    }
    plain(residuals.as_flattened(), weights.as_flattened(), range, first, sifted)
}

fn plain(residuals: &[f32], weights: &[f32], range: Range, first: u32, sifted: &mut Sifted) -> u64 {
    let (mut above, mut length) = (0, sifted.length);
    for ((&residual, &weight), column) in residuals.iter().zip(weights).zip(first..) {
        let score = comparable(residual, weight).to_bits() as i32;
        (sifted.columns[length], sifted.residuals[length]) = (column, residual);
        length += usize::from((score >= range.low) & (score < range.high));
        above += u64::from(score >= range.high);
    }
    sifted.length = length;
    above
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use bytemuck::cast;

    use super::{LANES, Range, Sifted};

    /// For each set of lanes: the numbers of its lanes, lowest first.
    static LEFT: [[u32; LANES]; 256] = {
        let mut table = [[0; LANES]; 256];
        let mut set = 0;
        while set < 256 {
            let (mut lane, mut length) = (0, 0);
            while lane < LANES {
                if set >> lane & 1 == 1 {
                    table[set][length] = lane as u32;
                    length += 1;
                }
                lane += 1;
            }
            set += 1;
        }
        table
    };

    #[target_feature(enable = "avx2,popcnt")]
    pub(super) fn sift<const RARE: bool>(
        residuals: &[[f32; LANES]],
        weights: &[[f32; LANES]],
        range: Range,
        first: u32,
        sifted: &mut Sifted,
    ) -> u64 {
        let magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX));
        // `x > bound - 1` is `x >= bound`. No bound is the smallest integer, so the subtraction does not overflow.
        let (low, high) = (_mm256_set1_epi32(range.low - 1), _mm256_set1_epi32(range.high - 1));
        let mut columns = _mm256_add_epi32(_mm256_set1_epi32(first as i32), cast([0, 1, 2, 3, 4, 5, 6, 7]));
        let (mut above, mut length) = (_mm256_setzero_si256(), sifted.length);
        for (&r, &w) in residuals.iter().zip(weights) {
            let r: __m256 = cast(r);
            let score = _mm256_and_ps(_mm256_mul_ps(r, cast(w)), magnitude);
            let score = _mm256_castps_si256(score);
            let over = _mm256_cmpgt_epi32(score, high);
            let inside = _mm256_andnot_si256(over, _mm256_cmpgt_epi32(score, low));
            above = _mm256_sub_epi32(above, over);
            let set = _mm256_movemask_ps(_mm256_castsi256_ps(inside)) as u8;
            if !RARE || set != 0 {
                let left = cast(LEFT[usize::from(set)]);
                let kept: [u32; LANES] = cast(_mm256_permutevar8x32_epi32(columns, left));
                sifted.columns[length..length + LANES].copy_from_slice(&kept);
                let kept: [f32; LANES] = cast(_mm256_permutevar8x32_ps(r, left));
                sifted.residuals[length..length + LANES].copy_from_slice(&kept);
                length += set.count_ones() as usize;
            }
            columns = _mm256_add_epi32(columns, _mm256_set1_epi32(LANES as i32));
        }
        sifted.length = length;
        cast::<_, [u32; LANES]>(above).iter().map(|&count| u64::from(count)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn score() -> impl Strategy<Value = f32> {
        prop_oneof![-1.0f32..1.0, Just(0.0), Just(-0.0), Just(0.5), -1e38f32..1e38, Just(f32::from_bits(1))]
    }

    proptest! {
        /// The rule, word for word, on both paths.
        #[test]
        fn what_lies_in_the_range_is_found(
            residuals in prop::collection::vec(score(), 0..2500), weight in prop_oneof![Just(1.0f32), 0.0f32..1.0],
            (a, b) in (0.0f32..1.0, prop_oneof![0.0f32..1.0, Just(f32::INFINITY)]), from in any::<bool>(),
        ) {
            let weights: Vec<f32> = (0..residuals.len()).map(|i| if i % 3 == 0 { weight } else { 1.0 }).collect();
            let (low, high) = (a.min(b).to_bits() as i32, a.max(b).to_bits() as i32);
            let range = if from { Range::from(a) } else { Range { low, high } };
            let bits = |i: usize| comparable(residuals[i], weights[i]).to_bits() as i32;
            let inside: Vec<(u32, u32)> = (0..residuals.len())
                .filter(|&i| bits(i) >= range.low && bits(i) < range.high)
                .map(|i| (i as u32, residuals[i].to_bits()))
                .collect();
            let over = (0..residuals.len()).filter(|&i| bits(i) >= range.high).count() as u64;

            let collect = |rare: bool| {
                let mut all = Vec::new();
                let found = |c: &[u32], r: &[f32]| all.extend(c.iter().copied().zip(r.iter().map(|r| r.to_bits())));
                let above = if rare {
                    sift::<true>(&residuals, &weights, range, found)
                } else {
                    sift::<false>(&residuals, &weights, range, found)
                };
                (all, above)
            };
            prop_assert_eq!(collect(true), (inside.clone(), over));
            prop_assert_eq!(collect(false), (inside.clone(), over));

            let mut all = Vec::new();
            for (number, (r, w)) in residuals.chunks(WIDTH).zip(weights.chunks(WIDTH)).enumerate() {
                let mut sifted = Sifted { columns: [0; WIDTH + LANES], residuals: [0.0; WIDTH + LANES], length: 0 };
                plain(r, w, range, (number * WIDTH) as u32, &mut sifted);
                let found = sifted.columns.iter().zip(&sifted.residuals).take(sifted.length);
                all.extend(found.map(|(&c, r)| (c, r.to_bits())));
            }
            prop_assert_eq!(all, inside);
        }
    }
}
