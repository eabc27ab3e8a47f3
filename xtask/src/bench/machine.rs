//! The machine of the measurements.

use std::fs;
use std::process::Command;

use crate::project::Project;

/// One `name: value` line per fact; unknown facts are left out.
pub(super) fn describe(project: &Project) -> Vec<(&'static str, String)> {
    let mut facts = vec![("CPU", cpu()), ("Caches", caches())];
    facts.push(("Memory", memory()));
    facts.push(("System", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)));
    facts.push(("Compiler", output(project, "rustc", &["--version"])));
    facts.push(("Commit", commit(project)));
    facts.push(("Date", output(project, "date", &["-u", "+%Y-%m-%d"])));
    facts.retain(|(_, value)| !value.is_empty());
    facts
}

fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    model.map(|model| format!("{model}, {cores} cores used")).unwrap_or_default()
}

/// The caches of the first core as Linux lists them.
fn caches() -> String {
    let read = |index: u32, file: &str| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{file}");
        fs::read_to_string(path).map(|text| text.trim().to_owned())
    };
    let cache = |index| -> std::io::Result<String> {
        let kind = read(index, "type")?;
        let letter = kind.chars().next().filter(|_| kind != "Unified");
        let level = read(index, "level")?;
        Ok(format!(
            "L{level}{} {}",
            letter.map(|c| c.to_lowercase().to_string()).unwrap_or_default(),
            read(index, "size")?
        ))
    };
    (0..8).map_while(|index| cache(index).ok()).collect::<Vec<_>>().join(", ")
}

fn memory() -> String {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let kib = total.and_then(|kib| kib.parse::<f64>().ok());
    kib.map(|kib| format!("{:.0} GiB", kib / f64::from(1 << 20))).unwrap_or_default()
}

pub(crate) fn commit(project: &Project) -> String {
    let commit = output(project, "git", &["rev-parse", "--short=12", "HEAD"]);
    let changed =
        !output(project, "git", &["status", "--porcelain", "--", "crates", "xtask", "Cargo.lock"]).is_empty();
    if changed && !commit.is_empty() { format!("{commit} with local changes") } else { commit }
}

fn output(project: &Project, program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(&project.root).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
