//! The variants that the reference implementation compares.

use crate::compensator::{Attention, Linear, Method, Mode, Rff, WeakNonlinear};

/// Sequential fine-tuning, alone or with a compensator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Sequential fine-tuning alone: old classes stay as they were.
    SeqFt,
    /// Moved by [`Linear`].
    Linear,
    /// Moved by [`WeakNonlinear`].
    WeakNonlinear,
    /// Moved by [`Attention`].
    Attention,
    /// Moved by [`Rff`].
    Rff,
}

impl Variant {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::SeqFt, Self::Linear, Self::WeakNonlinear, Self::Attention, Self::Rff];

    /// The name in tables: `SeqFT`, `SeqFT + linear` and so on.
    pub fn name(self) -> &'static str {
        match self {
            Self::SeqFt => "SeqFT",
            Self::Linear => "SeqFT + linear",
            Self::WeakNonlinear => "SeqFT + weak-nonlinear",
            Self::Attention => "SeqFT + attention",
            Self::Rff => "SeqFT + rff",
        }
    }

    /// The method with its default settings; none for [`SeqFt`](Self::SeqFt).
    pub fn method(self) -> Option<Box<dyn Method>> {
        self.method_in(Mode::default())
    }

    /// The method with the default settings of a mode.
    pub fn method_in(self, mode: Mode) -> Option<Box<dyn Method>> {
        match self {
            Self::SeqFt => None,
            Self::Linear => Some(Box::new(Linear::new(mode))),
            Self::WeakNonlinear => Some(Box::new(WeakNonlinear::new(mode))),
            Self::Attention => Some(Box::new(Attention::new(mode))),
            Self::Rff => Some(Box::new(Rff::new(mode))),
        }
    }
}
