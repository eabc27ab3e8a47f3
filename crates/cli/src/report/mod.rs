//! The HTML page about a file.
//!
//! A module for each kind of file makes its section of the page: [`residual`] about a split file ([`measure`]
//! reads it once, [`curves`] turns sums into error curves), [`drift`] about an evaluation of compensators,
//! [`statistics`] about class statistics. [`plots`] draws SVG, and [`page`] puts everything into one HTML text
//! without scripts.

pub(crate) mod curves;
pub(crate) mod drift;
pub(crate) mod measure;
pub(crate) mod page;
mod plots;
pub(crate) mod residual;
pub(crate) mod statistics;
