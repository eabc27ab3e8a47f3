//! The WGSL half: shaders are parsed and validated by naga, in every variant, and translated for every interface.
//!
//! The work is a test of the backend's crate, which knows the variants; this way the tools do not build naga.

use std::process::Command;

use crate::Result;
use crate::project::cargo;

/// Whether every shader is valid; what is wrong is printed.
pub(crate) fn validate() -> Result<bool> {
    let args = ["test", "--quiet", "-p", "residua-backend-wgpu", "--test", "shaders"];
    Ok(Command::new(cargo()).args(args).status()?.success())
}
