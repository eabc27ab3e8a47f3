//! Weights from a counter: element `i` of a tensor depends only on the seed, the name and `i`. So the bytes do not
//! depend on the number of threads, chunks or shards.

use std::str::FromStr;

use half::{bf16, f16};

use super::shapes::Tensor;

const STANDARD_DEVIATION: f32 = 0.02;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dtype {
    Bf16,
    F16,
    F32,
}

impl Dtype {
    pub(crate) fn size(self) -> u64 {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// As safetensors writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
            Self::F32 => "F32",
        }
    }
}

impl FromStr for Dtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            "f32" => Ok(Self::F32),
            _ => Err(format!("{text:?} is not one of bf16, f16, f32")),
        }
    }
}

/// Affine map from a standard normal number to the weights of one column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Column {
    scale: f32,
    offset: f32,
}

/// The columns of a tensor. A vector is a norm here: it has one column, with weights around 1.
pub(super) fn columns(seed: u64, tensor: &Tensor) -> Vec<Column> {
    let [_, columns] = tensor.shape[..] else {
        return vec![Column { scale: STANDARD_DEVIATION, offset: 1.0 }];
    };
    let key = mix(key(seed, &tensor.name));
    (0..columns)
        .map(|column| {
            // 24 bits convert to f32 without rounding.
            let uniform = (bits(key, column) >> 40) as f32 / (1_u64 << 24) as f32;
            Column { scale: STANDARD_DEVIATION * (0.6 + 0.8 * uniform), offset: 0.0 }
        })
        .collect()
}

/// The key of a tensor's stream (FNV-1a of the name, mixed with the seed).
pub(crate) fn key(seed: u64, name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(hash ^ mix(seed))
}

/// Output `index` of the SplitMix64 stream that starts at `key`.
pub(crate) fn bits(key: u64, index: u64) -> u64 {
    mix(key.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Nearly standard normal: the sum of four uniform 16-bit numbers, centred and scaled. It uses only integers and
/// single multiplications, so every platform rounds the same way.
fn normal(bits: u64) -> f32 {
    let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
    // Variance of one number is (2^32 - 1) / 12, so the sum deviates by 2^16 / sqrt(3).
    const ONE_OVER_DEVIATION: f32 = 1.732_050_8 / 65_536.0;
    (sum as i32 - 2 * 0xffff) as f32 * ONE_OVER_DEVIATION
}

/// Fills `buffer` with elements `start..` of the tensor.
pub(crate) fn fill(dtype: Dtype, key: u64, columns: &[Column], start: u64, buffer: &mut [u8]) {
    match dtype {
        Dtype::Bf16 => fill_as(key, columns, start, buffer, |x| bf16::from_f32(x).to_le_bytes()),
        Dtype::F16 => fill_as(key, columns, start, buffer, |x| f16::from_f32(x).to_le_bytes()),
        Dtype::F32 => fill_as(key, columns, start, buffer, f32::to_le_bytes),
    }
}

fn fill_as<const N: usize>(
    key: u64,
    columns: &[Column],
    start: u64,
    buffer: &mut [u8],
    encode: impl Fn(f32) -> [u8; N],
) {
    let mut index = start;
    let mut rest = buffer;
    while !rest.is_empty() {
        let column = (index % columns.len() as u64) as usize;
        let row = &columns[column..];
        let bytes = (row.len() * N).min(rest.len());
        let (now, later) = rest.split_at_mut(bytes);
        for (out, column) in now.chunks_exact_mut(N).zip(row) {
            out.copy_from_slice(&encode(normal(bits(key, index)) * column.scale + column.offset));
            index += 1;
        }
        rest = later;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(rows: u64, cols: u64) -> (Vec<f32>, Vec<Column>) {
        let tensor = Tensor { name: "w".into(), shape: vec![rows, cols] };
        let columns = columns(1, &tensor);
        let mut buffer = vec![0; (rows * cols * 4) as usize];
        fill(Dtype::F32, key(1, "w"), &columns, 0, &mut buffer);
        (buffer.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(), columns)
    }

    #[test]
    fn moments_are_those_of_the_columns() {
        let (rows, cols) = (20_000, 5);
        let (weights, columns) = weights(rows, cols);
        for (index, column) in columns.iter().enumerate() {
            let of_column = || weights.iter().skip(index).step_by(cols as usize).map(|&x| f64::from(x));
            let mean = of_column().sum::<f64>() / rows as f64;
            let deviation = (of_column().map(|x| x * x).sum::<f64>() / rows as f64).sqrt();
            assert!(mean.abs() < 0.001, "{mean}");
            assert!((deviation / f64::from(column.scale) - 1.0).abs() < 0.03, "{deviation} {column:?}");
        }
        let scales: Vec<f32> = columns.iter().map(|column| column.scale).collect();
        assert!(scales.iter().all(|scale| (0.012..0.028).contains(scale)), "{scales:?}");
        assert!(scales.windows(2).all(|pair| pair[0] != pair[1]), "{scales:?}");
    }

    #[test]
    fn any_cut_gives_the_same_bytes() {
        let columns = columns(0, &Tensor { name: "w".into(), shape: vec![9, 7] });
        let mut whole = [0; 9 * 7 * 2];
        fill(Dtype::Bf16, 5, &columns, 0, &mut whole);
        for cut in [1, 6, 7, 8, 40] {
            let mut parts = [0; 9 * 7 * 2];
            let (first, second) = parts.split_at_mut(cut * 2);
            fill(Dtype::Bf16, 5, &columns, 0, first);
            fill(Dtype::Bf16, 5, &columns, cut as u64, second);
            assert_eq!(parts, whole, "{cut}");
        }
    }

    #[test]
    fn the_stream_is_fixed() {
        // SplitMix64 seeded with 0 gives this first; a change would change every checkpoint.
        assert_eq!(bits(0, 1), 0xe220_a839_7b1d_cdaf);
    }
}
