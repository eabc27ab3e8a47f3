//! Paths that say what they are for, so that two of them cannot be swapped by mistake.

/// The path of the checkpoint that a delta starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Old<P>(pub P);

/// The path of the checkpoint that a delta leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct New<P>(pub P);

/// The path of a delta to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delta<P>(pub P);

/// The path of the file to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output<P>(pub P);
