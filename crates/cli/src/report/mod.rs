//! The HTML page about a split file.
//!
//! [`measure`] reads the file once, [`curves`] turns sums into error curves, [`plots`] draws them as SVG and
//! [`page`] puts everything into one HTML text without scripts.

pub(crate) mod curves;
pub(crate) mod measure;
pub(crate) mod page;
mod plots;
