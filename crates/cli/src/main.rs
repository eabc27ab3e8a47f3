//! The residua command line.
fn main() {}
