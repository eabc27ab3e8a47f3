//! Packages of Debian and its derivatives.

use std::process::Command;

use super::log::Log;
use crate::Result;

/// Installs packages, as root where there is apt. The caller checks whether they are there now.
pub(super) fn install(packages: &[&str], log: &mut Log) -> Result {
    let user = Command::new("id").arg("-u").output();
    let is_root = user.is_ok_and(|user| user.stdout.trim_ascii() == b"0");
    if !is_root || Command::new("apt-get").arg("--version").output().is_err() {
        return Ok(());
    }
    log.run(Command::new("apt-get").arg("update"))?;
    let mut command = Command::new("apt-get");
    command.args(["install", "-y", "--no-install-recommends"]).args(packages);
    log.run(command.env("DEBIAN_FRONTEND", "noninteractive"))?;
    Ok(())
}
