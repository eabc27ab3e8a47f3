//! Quantising: every code is the nearest, every weight is finite, what is coded decodes.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use residua_format::{BaseKind, FormatError, QuantizedBase, dequantize_row, quantize_row, strategies};

fn coded(weights: &[f32], kind: BaseKind) -> (Vec<u8>, Vec<f32>, Vec<f32>) {
    let mut codes = vec![0xAA; kind.row_bytes(weights.len())];
    let mut scales = vec![f32::NAN; kind.groups(weights.len())];
    quantize_row(weights, kind, &mut codes, &mut scales).unwrap();
    let mut back = vec![f32::NAN; weights.len()];
    dequantize_row(kind, &codes, &scales, &mut back);
    (codes, scales, back)
}

fn kinds() -> impl Strategy<Value = BaseKind> {
    prop::sample::select(BaseKind::ALL.to_vec())
}

proptest! {
    /// Half a scale is the worst error, for ordinary magnitudes and for those where f32 ends.
    #[test]
    fn error_is_at_most_half_a_scale(
        kind in kinds(),
        row in prop::collection::vec(-1.0f32..1.0, 0..300),
        magnitude in prop::sample::select(vec![1.0, 1e-3, 1e30, 1e-30]),
    ) {
        let row: Vec<f32> = row.iter().map(|w| w * magnitude).collect();
        let (_, scales, back) = coded(&row, kind);
        for (col, (&w, &b)) in row.iter().zip(&back).enumerate() {
            let scale = f64::from(scales[col / kind.group(row.len())]);
            let error = (f64::from(w) - f64::from(b)).abs();
            prop_assert!(error <= scale * 0.50001, "column {}: {} became {}, scale {}", col, w, b, scale);
        }
    }

    /// Any bits at all: an error that names the first bad column, or finite weights with codes in range.
    #[test]
    fn any_bits_give_finite_weights(kind in kinds(), bits in prop::collection::vec(any::<u32>(), 0..150)) {
        let row: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        let mut codes = vec![0; kind.row_bytes(row.len())];
        let mut scales = vec![0.0; kind.groups(row.len())];
        let done = quantize_row(&row, kind, &mut codes, &mut scales);
        prop_assert_eq!(done.err(), row.iter().position(|w| !w.is_finite()));
        let row: Vec<f32> = row.into_iter().map(|w| if w.is_finite() { w } else { f32::MAX }).collect();
        let (codes, scales, back) = coded(&row, kind);
        prop_assert!(back.iter().all(|w| w.is_finite()), "{:?}", back);
        let base = QuantizedBase::new(1, row.len(), kind, (&*codes).into(), (&*scales).into()).unwrap();
        for (col, &weight) in back.iter().enumerate() {
            prop_assert!(base.code(0, col).unsigned_abs() <= kind.max_code().unsigned_abs());
            prop_assert_eq!(base.weight(0, col), weight);
        }
    }

    /// Multiples of a power of two within the codes' range come back as they were.
    #[test]
    fn representable_rows_are_exact(kind in kinds(), row in prop::collection::vec(-7i8..=7, 1..200)) {
        let mut row: Vec<f32> = row.iter().map(|&code| f32::from(code) * 0.25).collect();
        let largest = f32::from(kind.max_code()) * 0.25;
        let group = kind.group(row.len());
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
