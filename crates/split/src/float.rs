//! Rows of floats, in the element types that can be split.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use residua_format::file::Dtype;
use residua_format::vectorised;

/// A floating-point element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Float {
    F32,
    F16,
    Bf16,
}

impl Float {
    pub(crate) fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Bytes of an element.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Little-endian elements as f32, exactly. F32 elements are borrowed where they are, others are converted into
    /// `out`.
    pub(crate) fn view<'a>(self, raw: &'a [u8], out: &'a mut Vec<f32>) -> &'a [f32] {
        if self == Self::F32
            && cfg!(target_endian = "little")
            && let Ok(values) = bytemuck::try_cast_slice(raw)
        {
            return values;
        }
        out.resize(raw.len() / self.bytes(), 0.0);
        self.widen(raw, out);
        out
    }

    /// Little-endian elements as f32, exactly. `raw` has as many elements as `out`.
    pub(crate) fn widen(self, raw: &[u8], out: &mut [f32]) {
        match self {
            Self::F32 => {
                for (out, bytes) in out.iter_mut().zip(raw.as_chunks().0) {
                    *out = f32::from_le_bytes(*bytes);
                }
            }
            Self::Bf16 => widen_bf16(raw, out),
            Self::F16 => {
                // The conversion of a slice uses the processor's instruction. The conversion of a single element does
                // not.
                let mut halves = [f16::ZERO; 256];
                for (out, raw) in out.chunks_mut(256).zip(raw.chunks(512)) {
                    let halves = &mut halves[..out.len()];
                    for (half, bytes) in halves.iter_mut().zip(raw.as_chunks().0) {
                        *half = f16::from_le_bytes(*bytes);
                    }
                    halves.convert_to_f32_slice(out);
                }
            }
        }
    }

    /// Rounds to the nearest element, ties to even, little-endian.
    ///
    /// # Errors
    /// The position of the first value that is not finite or rounds to infinity.
    pub(crate) fn narrow(self, values: &[f32], raw: &mut [u8]) -> Result<(), usize> {
        let finite = match self {
            Self::F32 => {
                for (value, bytes) in values.iter().zip(raw.as_chunks_mut().0) {
                    *bytes = value.to_le_bytes();
                }
                values.iter().fold(true, |all, v| all & v.is_finite())
            }
            Self::Bf16 => {
                let mut finite = true;
                for (value, bytes) in values.iter().zip(raw.as_chunks_mut().0) {
                    let value = bf16::from_f32(*value);
                    finite &= value.is_finite();
                    *bytes = value.to_le_bytes();
                }
                finite
            }
            Self::F16 => {
                let (mut finite, mut halves) = (true, [f16::ZERO; 256]);
                for (values, raw) in values.chunks(256).zip(raw.chunks_mut(512)) {
                    let halves = &mut halves[..values.len()];
                    halves.convert_from_f32_slice(values);
                    for (half, bytes) in halves.iter().zip(raw.as_chunks_mut().0) {
                        finite &= half.is_finite();
                        *bytes = half.to_le_bytes();
                    }
                }
                finite
            }
        };
        if finite { Ok(()) } else { Err(self.first_overflow(values)) }
    }

    fn first_overflow(self, values: &[f32]) -> usize {
        let overflows = |&value: &f32| match self {
            Self::F32 => !value.is_finite(),
            Self::F16 => !f16::from_f32(value).is_finite(),
            Self::Bf16 => !bf16::from_f32(value).is_finite(),
        };
        values.iter().position(overflows).unwrap_or(0)
    }
}

vectorised! {
    fn widen_bf16(raw: &[u8], out: &mut [f32]) {
        for (out, bytes) in out.iter_mut().zip(raw.as_chunks().0) {
            *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
        }
    }
}

vectorised! {
    /// Whether no value is NaN or infinite.
    pub(crate) fn all_finite(values: &[f32]) -> bool {
        // Without the sign the bits of NaN are largest, then those of infinity. An integer maximum may be reordered,
        // so the loop vectorises.
        let largest = values.iter().fold(0, |max, v| max.max((v.to_bits() & 0x7FFF_FFFF) as i32));
        f32::from_bits(largest as u32).is_finite()
    }
}

vectorised! {
    /// The sum of squares, in an order that depends on the length alone.
    pub(super) fn sum_of_squares(values: &[f32]) -> f64 {
        let mut sums = [0.0f64; 16];
        let (chunks, rest) = values.as_chunks::<16>();
        for chunk in chunks {
            for (sum, &v) in sums.iter_mut().zip(chunk) {
                *sum += f64::from(v) * f64::from(v);
            }
        }
        for (sum, &v) in sums.iter_mut().zip(rest) {
            *sum += f64::from(v) * f64::from(v);
        }
        sums.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Every 16-bit pattern but NaN survives, and f32 rounds as `half` does one at a time.
        #[test]
        fn widens_exactly_and_narrows_to_nearest(
            bits in prop::collection::vec(any::<u16>(), 0..600),
            values in prop::collection::vec(-70000f32..70000.0, 0..600),
        ) {
            for float in [Float::F16, Float::Bf16] {
                let one = |raw: u16| match float {
                    Float::F16 => f16::from_bits(raw).to_f32(),
                    _ => bf16::from_bits(raw).to_f32(),
                };
                let bits: Vec<u16> = bits.iter().copied().filter(|&b| one(b).is_finite()).collect();
                let raw: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
                let mut wide = vec![0.0; bits.len()];
                float.widen(&raw, &mut wide);
                prop_assert!(wide.iter().zip(&bits).all(|(w, &b)| w.to_bits() == one(b).to_bits()));
                let mut back = vec![0; raw.len()];
                prop_assert_eq!(float.narrow(&wide, &mut back), Ok(()));
                prop_assert_eq!(back, raw);

                let mut raw = vec![0; values.len() * 2];
                let narrowed = |v: f32| match float {
                    Float::F16 => f16::from_f32(v).to_bits(),
                    _ => bf16::from_f32(v).to_bits(),
                };
                let infinite = values.iter().position(|&v| !one(narrowed(v)).is_finite());
                prop_assert_eq!(float.narrow(&values, &mut raw).err(), infinite);
                let expected: Vec<u8> = values.iter().flat_map(|&v| narrowed(v).to_le_bytes()).collect();
                prop_assert_eq!(raw, expected);
            }
        }
    }

    #[test]
    fn f32_keeps_its_bits_and_infinities_are_found() {
        let values = [1.5f32, -0.0, f32::MIN_POSITIVE / 2.0];
        let mut raw = [0; 12];
        Float::F32.narrow(&values, &mut raw).unwrap();
        let mut back = [0.0; 3];
        Float::F32.widen(&raw, &mut back);
        assert_eq!(back.map(f32::to_bits), values.map(f32::to_bits));
        assert!(all_finite(&values));
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!all_finite(&[0.0, bad, 1.0]));
            assert_eq!(Float::F32.narrow(&[0.0, bad], &mut [0; 8]), Err(1));
        }
    }
}
