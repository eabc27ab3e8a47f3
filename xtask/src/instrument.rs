//! Sanitizers and coverage counters in builds of our own crates.

use std::process::Command;

/// Makes cargo build `packages` with the compiler's `flags`. Crates from a registry stay as they are: with instrumentation
/// the large ones take minutes each, and they are not what is tested.
///
/// The flags are unstable; a stable compiler takes them, too. Name a `--target`: cargo then leaves build scripts and
/// macros alone.
pub(crate) fn instrument(command: &mut Command, profile: &str, packages: &[String], flags: &[&str]) {
    command.env("RUSTC_BOOTSTRAP", "1").arg("-Zprofile-rustflags");
    for package in packages {
        command.args(["--config", &format!("profile.{profile}.package.{package}.rustflags={flags:?}")]);
    }
}
