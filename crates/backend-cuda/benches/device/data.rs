//! Shapes, and matrices of random places.

use residua_format::{BaseKind, Csr, QuantizedBase};

/// What to time.
pub(crate) struct Plan {
    pub(crate) shapes: Vec<[usize; 2]>,
    pub(crate) densities: Vec<f64>,
    /// Vectors of a product, 1 for SpMV.
    pub(crate) batches: Vec<usize>,
    /// Repetitions of which the median counts.
    pub(crate) rounds: usize,
    /// Bytes of matrices that one after another push each other out of the second-level cache.
    pub(crate) cold_bytes: usize,
}

pub(crate) fn plan(quick: bool, emulate: bool) -> Plan {
    let (shapes, densities, rounds, cold_bytes) = match (emulate, quick) {
        (true, _) => (vec![[64, 96]], vec![0.05, 0.5], 2, 64 << 10),
        (false, true) => (vec![[4096, 11008]], vec![0.05, 0.5], 5, 256 << 20),
        (false, false) => {
            (vec![[4096, 4096], [4096, 11008], [8192, 28672]], vec![0.01, 0.05, 0.1, 0.5], 15, 256 << 20)
        }
    };
    let batches = if emulate { vec![1, 8] } else { vec![1, 8, 32, 128] };
    Plan { shapes, densities, batches, rounds, cold_bytes }
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

/// A matrix of which every place is filled with probability `density`.
pub(crate) fn matrix([rows, cols]: [usize; 2], density: f64, seed: u64) -> super::Result<Csr<f32, u32>> {
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
pub(crate) fn base([rows, cols]: [usize; 2]) -> super::Result<QuantizedBase> {
    let (kind, mut random) = (BaseKind::Int4G128, Random(3));
    // Shapes here have even columns, so that every byte is two codes.
    let codes = (0..rows * kind.row_bytes(cols)).map(|_| random.next() as u8).collect();
    let scales = (0..rows * kind.groups(cols)).map(|_| random.number().abs() / 8.0).collect();
    Ok(QuantizedBase::new(rows, cols, kind, codes, scales)?)
}
