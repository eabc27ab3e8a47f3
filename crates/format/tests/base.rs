//! Quantising: every code is the nearest, every weight is finite, what is coded decodes.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use residua_format::{
    BaseKind, Coder, FormatError, Grid, MULTIPLIERS, QuantizedBase, quantize_row, strategies,
};

fn coded(weights: &[f32], kind: BaseKind) -> (Vec<u8>, Vec<f32>, Vec<f32>) {
    let mut codes = vec![0xAA; kind.row_bytes(weights.len())];
    let mut scales = vec![f32::NAN; kind.groups(weights.len())];
    let grid = Grid::from(kind);
    quantize_row(weights, &Coder::from(grid), &mut codes, &mut scales).unwrap();
    let mut back = vec![f32::NAN; weights.len()];
    grid.dequantize_row(&codes, &scales, &mut back);
    (codes, scales, back)
}

/// What the codes of a kind may stand for, as multiples of the scale.
fn multiples(grid: &Grid) -> Vec<f32> {
    match grid.levels() {
        [] => (-grid.kind().max_code()..=grid.kind().max_code()).map(f32::from).collect(),
        levels => levels.iter().copied().map(f32::from).collect(),
    }
}

/// The multiplier of a column in a row of codes.
fn multiplier(kind: BaseKind, codes: &[u8], col: usize) -> f32 {
    let number = |block: usize| codes[col / block / 2] >> (col / block % 2 * 4) & 15;
    kind.block().map_or(1.0, |block| f32::from(MULTIPLIERS[usize::from(number(block))]) / 256.0)
}

fn kinds() -> impl Strategy<Value = BaseKind> {
    prop::sample::select(BaseKind::ALL.to_vec())
}

proptest! {
    /// No other code is nearer, for ordinary magnitudes and for those where f32 ends.
    #[test]
    fn codes_are_the_nearest(
        kind in kinds(),
        row in prop::collection::vec(-1.0f32..1.0, 0..300),
        magnitude in prop::sample::select(vec![1.0, 1e-3, 1e30, 1e-30]),
    ) {
        let row: Vec<f32> = row.iter().map(|w| w * magnitude).collect();
        let (codes, scales, back) = coded(&row, kind);
        for (col, (&w, &b)) in row.iter().zip(&back).enumerate() {
            let scale = f64::from(scales[col / kind.group(row.len())]);
            let error = (f64::from(w) - f64::from(b)).abs();
            let factor = multiplier(kind, &codes, col);
            let multiples = multiples(&Grid::from(kind)).into_iter().map(|level| (level * factor + 0.5).floor());
            let errors = multiples.map(|m| (f64::from(w) - f64::from(m) * scale).abs());
            let least = errors.fold(f64::INFINITY, f64::min);
            prop_assert!(error <= least + scale * 1e-5, "column {}: {} became {}, scale {}", col, w, b, scale);
        }
    }

    /// Any bits at all: an error that names the first bad column, or finite weights with codes in range.
    #[test]
    fn any_bits_give_finite_weights(kind in kinds(), bits in prop::collection::vec(any::<u32>(), 0..150)) {
        let row: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        let mut codes = vec![0; kind.row_bytes(row.len())];
        let mut scales = vec![0.0; kind.groups(row.len())];
        let done = quantize_row(&row, &Coder::from(Grid::from(kind)), &mut codes, &mut scales);
        prop_assert_eq!(done.err(), row.iter().position(|w| !w.is_finite()));
        let row: Vec<f32> = row.into_iter().map(|w| if w.is_finite() { w } else { f32::MAX }).collect();
        let (codes, scales, back) = coded(&row, kind);
        prop_assert!(back.iter().all(|w| w.is_finite()), "{:?}", back);
        let base = QuantizedBase::new(1, row.len(), kind, (&*codes).into(), (&*scales).into()).unwrap();
        for (col, &weight) in back.iter().enumerate() {
            prop_assert!(base.multiple(0, col).unsigned_abs() <= kind.max_code().unsigned_abs());
            prop_assert_eq!(base.weight(0, col), weight);
        }
    }

    /// Multiples of a power of two within the codes' range come back as they were.
    #[test]
    fn representable_rows_are_exact(kind in kinds(), row in prop::collection::vec(any::<u8>(), 1..200)) {
        let multiples = multiples(&kind.into());
        let mut row: Vec<f32> =
            row.iter().map(|&code| multiples[usize::from(code) % multiples.len()] * 0.25).collect();
        let largest = f32::from(kind.max_code()) * 0.25;
        // Then multipliers are 1.
        let group = kind.block().unwrap_or(kind.group(row.len()));
        row.chunks_mut(group).for_each(|group| group[0] = largest);
        prop_assert_eq!(coded(&row, kind).2, row);
    }

    /// Codes that no quantiser of ours made, -8 and -128 among them.
    #[test]
    fn rows_decode_to_their_weights(base in strategies::quantized_base()) {
        let mut weights = vec![f32::NAN; base.cols()];
        for row in 0..base.rows() {
            base.dequantize_row(row, &mut weights);
            let expected: Vec<f32> = (0..base.cols()).map(|col| base.weight(row, col)).collect();
            prop_assert_eq!(&weights, &expected);
        }
    }

    /// Any levels, equal ones and ones that no pass over weights would choose among them.
    #[test]
    fn codebooks_of_any_levels_find_the_nearest(
        kind in prop::sample::select(vec![BaseKind::Lut2, BaseKind::Lut3, BaseKind::Lut6]),
        levels in prop::collection::vec(any::<i8>(), 64),
        weights in prop::collection::vec(-140.0f32..140.0, 1..40),
    ) {
        let mut levels = levels[..kind.levels()].to_vec();
        levels.sort_unstable();
        let grid = Grid::codebook(kind, &levels).unwrap();
        let coder = Coder::from(grid);
        let mut codes = vec![0; kind.row_bytes(weights.len())];
        coder.code_row(&weights, &[1.0], &[], &mut codes);
        let (mut back, mut multiples) = (vec![0.0; weights.len()], vec![0; weights.len()]);
        grid.dequantize_row(&codes, &[1.0], &mut back);
        grid.multiples(&codes, &mut multiples);
        for ((&weight, &found), &multiple) in weights.iter().zip(&back).zip(&multiples) {
            // Levels reach from -127 to 127 where a quantiser chooses them.
            let weight = weight.clamp(-127.0, 127.0);
            let least = levels.iter().map(|&l| (f32::from(l) - weight).abs()).fold(f32::INFINITY, f32::min);
            prop_assert!((found - weight).abs() <= least + 1e-4, "{} became {}", weight, found);
            prop_assert_eq!(found, f32::from(multiple));
            prop_assert_eq!(coder.nearest(weight, 0), found);
        }
    }

    #[test]
    fn matrices_are_their_rows(kind in kinds(), rows in 0usize..5, cols in 0usize..70, seed in any::<u32>()) {
        let dense: Vec<f32> =
            (0..rows * cols).map(|i| (seed.wrapping_mul(i as u32 + 1) % 97) as f32 - 48.0).collect();
        let base = QuantizedBase::quantize(rows, cols, &dense, kind).unwrap();
        for row in 0..rows {
            let mut weights = vec![0.0; cols];
            base.dequantize_row(row, &mut weights);
            prop_assert_eq!(&weights, &coded(&dense[row * cols..(row + 1) * cols], kind).2);
        }
    }
}

#[test]
fn levels_are_counted_and_never_fall() {
    let found = Grid::codebook(BaseKind::Lut2, &[-1, 0, 1]).unwrap_err();
    assert_eq!(found, FormatError::Length { what: "levels of a codebook", found: 3, expected: 4 });
    let found = Grid::codebook(BaseKind::Lut2, &[-1, 0, 5, 4]).unwrap_err();
    assert_eq!(found, FormatError::Level { position: 3 });
    assert_eq!(Grid::codebook(BaseKind::Int4, &[]).unwrap(), BaseKind::Int4.into());
}

#[test]
fn codes_of_three_bits_straddle_bytes() {
    // Codes 0, 1, 2 and 7: 111_010_001_000 from the highest bit to the lowest.
    let grid = Grid::codebook(BaseKind::Lut3, &[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
    let mut codes = [0xAA; 2];
    Coder::from(grid).code_row(&[0.0, 1.0, 2.0, 7.0], &[1.0], &[], &mut codes);
    assert_eq!(codes, [0b1000_1000, 0b1110]);
    let base = QuantizedBase::new(1, 4, grid, (&codes[..]).into(), (&[2.0][..]).into()).unwrap();
    assert_eq!((0..4).map(|col| base.weight(0, col)).collect::<Vec<_>>(), [0.0, 2.0, 4.0, 14.0]);
    let unclean = QuantizedBase::new(1, 4, grid, (&[0, 0x10][..]).into(), (&[2.0][..]).into());
    assert!(matches!(unclean, Err(FormatError::GapRow { row: 0, .. })));
}

/// Two blocks with their own multipliers, and what numpy gives for the products.
#[test]
fn blocks_have_multipliers() {
    let levels = [-127, -80, -33, 0, 20, 45, 90, 127];
    let grid = Grid::codebook(BaseKind::Lut3G16, &levels).unwrap();
    // Multipliers 1 and 117/256: -127, -80 and so on, and -58, -37, -15, 0, 9, 21, 41, 58.
    let mut weights: Vec<f32> = levels.iter().map(|&level| f32::from(level)).cycle().take(16).collect();
    weights.extend([-58.0, -37.0, -15.0, 0.0, 9.0, 21.0, 41.0, 58.0, 127.0]);
    let mut codes = vec![0xAA; 11];
    Coder::from(grid).code_row(&weights, &[1.0], &[15, 6], &mut codes);
    // Both numbers, the even one low; then eight codes of three bits: 0 to 7.
    assert_eq!(codes[..4], [0x6F, 0b1000_1000, 0b1100_0110, 0b1111_1010]);
    let base = QuantizedBase::new(1, 25, grid, (&*codes).into(), (&[2.0][..]).into()).unwrap();
    let mut expected: Vec<f32> = weights.iter().map(|weight| 2.0 * weight).collect();
    expected[24] = 2.0 * 58.0;
    let mut found = vec![0.0; 25];
    base.dequantize_row(0, &mut found);
    assert_eq!(found, expected);
    let mut multiples = vec![0; 25];
    base.multiples(0, &mut multiples);
    assert_eq!(multiples.iter().map(|&multiple| 2.0 * f32::from(multiple)).collect::<Vec<_>>(), expected);
    assert_eq!((0..25).map(|col| base.weight(0, col)).collect::<Vec<_>>(), expected);
}

#[test]
fn zeros_have_scale_zero_and_the_last_high_nibble_is_zero() {
    let (codes, scales, back) = coded(&[0.0, -0.0, 0.0], BaseKind::Int4);
    assert_eq!((codes, scales, back), (vec![0, 0], vec![0.0], vec![0.0; 3]));
    assert_eq!(coded(&[7.0, -7.0, -1.0], BaseKind::Int4).0, [0x97, 0x0F]);
    // Halves go to the even neighbour.
    assert_eq!(coded(&[127.0, 0.5, 1.5, -2.5], BaseKind::Int8).0, [127, 0, 2, 0xFE]);
}

#[test]
fn the_first_bad_weight_is_named() {
    let mut dense = vec![1.0; 4 * 50];
    (dense[60], dense[170]) = (f32::NAN, f32::INFINITY);
    let error = QuantizedBase::quantize(4, 50, &dense, BaseKind::Int4G32).unwrap_err();
    assert!(matches!(error, FormatError::NotFinite { row: 1, col: 10, value } if value.is_nan()), "{error}");
    let error = QuantizedBase::quantize(4, 51, &dense, BaseKind::Int8).unwrap_err();
    assert_eq!(error, FormatError::Length { what: "dense values", found: 200, expected: 204 });
}
