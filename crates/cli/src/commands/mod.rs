//! One file per command: its arguments, an example for `--help`, and what it does.

pub(crate) mod bench;
pub(crate) mod calibrate;
pub(crate) mod classify;
pub(crate) mod compensate;
pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod demo;
pub(crate) mod devices;
pub(crate) mod diff;
pub(crate) mod evaluate;
pub(crate) mod inspect;
pub(crate) mod materialize;
pub(crate) mod patch;
pub(crate) mod report;
pub(crate) mod split;
pub(crate) mod stats;
pub(crate) mod task;
pub(crate) mod verify;
