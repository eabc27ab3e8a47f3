//! The conformance suite in a separate process. It takes the arguments of a test program.

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Result;

/// Environment variable of the suite's process: the device.
const DEVICE: &str = "RESIDUA_DEVICE_CONFORMANCE";

/// The device for the suite, when this process is to run it.
pub(crate) fn asked() -> Option<String> {
    std::env::var(DEVICE).ok()
}

/// Runs this program as the suite, with the tests whose names contain `filter`. Returns whether all passed.
pub(crate) fn run(device: &str, filter: Option<&str>) -> Result<bool> {
    let mut child = Command::new(std::env::current_exe()?);
    child.env(DEVICE, device).args(["--format", "terse"]).args(filter);
    Ok(child.status()?.success())
}

/// The same inside another program; `None` when it takes longer than `limit`.
#[allow(dead_code)] // One of the programs has nothing to run it in.
pub(crate) fn run_inside(wrapper: &[OsString], device: &str, limit: Duration) -> Result<Option<bool>> {
    let [program, arguments @ ..] = wrapper else { return Err("no program to run the suite in".into()) };
    let mut child = Command::new(program)
        .args(arguments)
        .arg(std::env::current_exe()?)
        .env(DEVICE, device)
        .args(["--format", "terse"])
        .stdout(Stdio::null())
        .spawn()?;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
