//! The native container: a safetensors file of planes with its structure in the metadata.
//!
//! `docs/format.md` describes it byte by byte.

mod meta;
mod plane;
mod reader;
mod rows;
mod writer;

pub use meta::{ContainerKind, MatrixMeta, Op};
pub use plane::Plane;
pub use reader::Container;
pub use writer::ContainerWriter;

/// Value of the metadata key `format`.
const FORMAT: &str = "residua";
/// Value of the metadata key `format_version`.
const VERSION: &str = "1";
/// Prefix of the metadata keys that hold a [`MatrixMeta`].
pub(super) const MATRIX: &str = "matrix:";
