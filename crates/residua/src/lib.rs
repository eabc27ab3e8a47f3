//! Residua in one dependency.
