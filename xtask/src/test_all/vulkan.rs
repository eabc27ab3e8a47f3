//! A Vulkan driver for the shaders of the wgpu backend. On a machine without a GPU it is Mesa's software driver.

use std::path::Path;
use std::process::Command;

use super::apt;
use super::report::Outcome;
use super::rows::Row;

const PACKAGES: [&str; 2] = ["mesa-vulkan-drivers", "libvulkan1"];

/// Finds a driver, or installs one if possible: on Debian and its derivatives, as root.
pub(super) fn row() -> Row {
    Row {
        name: "vulkan".into(),
        what: "a Vulkan driver for the wgpu tests, installed if possible".into(),
        job: Box::new(|log| {
            if !cfg!(target_os = "linux") {
                return Ok(Outcome::not_here("drivers come with the system"));
            }
            if !driver() {
                apt::install(&PACKAGES, log)?;
            }
            Ok(match driver() {
                true => Outcome::Ran,
                false => {
                    Outcome::missing(format!("no Vulkan driver: apt-get install {}", PACKAGES.join(" ")))
                }
            })
        }),
    }
}

/// Whether the loader and some driver are there.
fn driver() -> bool {
    let named = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].iter().any(|name| std::env::var_os(name).is_some());
    let folders = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
    let drivers = named || folders.iter().any(|folder| holds_files(Path::new(folder)));
    let cache = Command::new("/sbin/ldconfig").arg("-p").output();
    let loader = cache.is_ok_and(|found| String::from_utf8_lossy(&found.stdout).contains("libvulkan.so.1"));
    drivers && loader
}

fn holds_files(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some())
}
