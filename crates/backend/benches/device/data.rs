//! Shapes, and matrices of random places.

use residua_format::{BaseKind, Csr, QuantizedBase};

use super::Result;

/// What to time.
pub(crate) struct Plan {
    pub(crate) shapes: Vec<[usize; 2]>,
    pub(crate) densities: Vec<f64>,
    /// Vectors of a product, 1 for SpMV.
    pub(crate) batches: Vec<usize>,
    /// Shapes whose kernels are over before the next is launched.
    pub(crate) small: Vec<[usize; 2]>,
    /// Number of rounds, and seconds of a round. The median round counts.
    pub(crate) rounds: usize,
    pub(crate) round: f64,
    /// Bytes of matrices that together exceed the second-level cache.
    pub(crate) cold_bytes: usize,
    /// Bytes of each end of a copy that measures bandwidth.
    pub(crate) copy_bytes: usize,
}

impl Plan {
    pub(crate) fn full() -> Self {
        Self {
            shapes: vec![[4096, 4096], [4096, 11008], [8192, 28672]],
            densities: vec![0.01, 0.05, 0.1, 0.5],
            batches: vec![1, 8, 32, 128],
            small: vec![[256, 256], [512, 512], [1024, 1024], [2048, 2048]],
            rounds: 9,
            round: 0.01,
            cold_bytes: 256 << 20,
            copy_bytes: 512 << 20,
        }
    }

    /// One shape, two densities.
    pub(crate) fn quick() -> Self {
        Self {
            shapes: vec![[4096, 11008]],
            densities: vec![0.05, 0.5],
            small: vec![[512, 512]],
            rounds: 5,
            ..Self::full()
        }
    }

    /// Little, for a device that software plays. It tests the program; its figures mean nothing.
    pub(crate) fn tiny(shape: [usize; 2], batches: Vec<usize>) -> Self {
        Self {
            shapes: vec![shape],
            densities: vec![0.05, 0.5],
            batches,
            small: vec![shape],
            rounds: 2,
            round: 0.0,
            cold_bytes: 64 << 10,
            copy_bytes: 8 << 20,
        }
    }
}

/// SplitMix64 (G. L. Steele, D. Lea, C. H. Flood, *Fast splittable pseudorandom number generators*, OOPSLA 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from −1 to 1.
    pub(crate) fn number(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn numbers(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.number()).collect()
    }
}

/// A matrix that has an entry at every place with probability `density`.
pub(crate) fn matrix([rows, cols]: [usize; 2], density: f64, seed: u64) -> Result<Csr<f32, u32>> {
    let mut random = Random(seed);
    let bound = (density * 2f64.powi(64)) as u64;
    let (mut row_ptr, mut columns) = (vec![0u32], Vec::new());
    for _ in 0..rows {
        columns.extend((0..cols as u32).filter(|_| random.next() < bound));
        row_ptr.push(columns.len() as u32);
    }
    let values = random.numbers(columns.len());
    Ok(Csr::new(rows, cols, row_ptr, columns, values)?)
}

/// An INT4 base with groups of 128 columns.
pub(crate) fn base([rows, cols]: [usize; 2]) -> Result<QuantizedBase> {
    let (kind, mut random) = (BaseKind::Int4G128, Random(3));
    // Shapes here have even columns, so that every byte is two codes.
    let codes = (0..rows * kind.row_bytes(cols)).map(|_| random.next() as u8).collect();
    let scales = (0..rows * kind.groups(cols)).map(|_| random.number().abs() / 8.0).collect();
    Ok(QuantizedBase::new(rows, cols, kind, codes, scales)?)
}
