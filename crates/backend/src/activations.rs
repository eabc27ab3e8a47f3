//! How inputs take part in a product with a quantised base.

use std::fmt;

/// How a backend takes the inputs of a layer with a quantised base. The residual takes them as f32 either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activations {
    /// As they are.
    #[default]
    F32,
    /// Rounded to 8-bit integers with one scale for every 32 columns of an input. The products with the base's codes are
    /// then sums of integers: faster, and the output of an ordinary layer moves by about 0.5 %.
    I8,
}

impl Activations {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::F32, Self::I8];

    /// Its name: `f32` or `i8`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::I8 => "i8",
        }
    }

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|activations| activations.name() == name)
    }
}

impl fmt::Display for Activations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
