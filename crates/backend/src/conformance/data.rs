//! Reproducible numbers.

/// SplitMix64 (G. L. Steele, D. Lea, C. H. Flood, *Fast splittable pseudorandom number generators*, OOPSLA 2014).
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// The kind of numbers in a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    /// Small integers: every sum is exact in f32.
    Exact,
    /// Fractions of either sign.
    Rough,
}

impl Data {
    pub(super) const ALL: [Self; 2] = [Self::Exact, Self::Rough];

    /// A value of a vector.
    pub(super) fn number(self, random: &mut Random) -> f32 {
        match self {
            Self::Exact => random.below(7) as f32 - 3.0,
            // 24 bits, so that the division is exact.
            Self::Rough => (random.below(1 << 24) as f32 - (1 << 23) as f32) / (1 << 22) as f32,
        }
    }

    /// `len` values of a vector.
    pub(super) fn vector(self, seed: u64, len: usize) -> Vec<f32> {
        let mut random = Random(seed);
        (0..len).map(|_| self.number(&mut random)).collect()
    }

    /// A stored value other than 0. In exact data the first of a row is 127, so the scale of an i8 row is 1.
    pub(super) fn stored(self, random: &mut Random, first: bool) -> f32 {
        match self {
            Self::Exact if first => 127.0,
            Self::Exact => [-3.0, -2.0, -1.0, 1.0, 2.0, 3.0][random.below(6)],
            Self::Rough => match self.number(random) {
                0.0 => 1.0,
                number => number,
            },
        }
    }
}
