//! Runs the real binary with random arguments, right and wrong ones, on a folder of sound and damaged files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;
use crate::random::Random;
use crate::workbench::Workbench;

/// More than any command needs on such small files, in a debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
/// Rows of the sound files.
const ROWS: usize = 40;

/// A wrong result of a run.
pub(super) struct Finding {
    pub(super) line: String,
    pub(super) problem: String,
}

/// Runs until the time is up. Returns the number of runs and the findings.
pub(super) fn run(binary: &Path, folder: &Path, time: Duration, seed: u64) -> Result<(u64, Vec<Finding>)> {
    let bench = Workbench::create(binary, folder, ROWS)?;
    let mut random = Random::new(seed);
    damage(&bench.folder, &mut random)?;
    let state = State { files: names(&bench.folder)?, contents: contents(&bench.folder)?, bench };
    let (start, mut runs, mut findings) = (Instant::now(), 0, Vec::new());
    while start.elapsed() < time {
        let arguments = arguments(&state.files, &mut random);
        if let Some(problem) = state.check(&arguments)? {
            findings.push(Finding { line: format!("residua {}", quoted(&arguments)), problem });
        }
        runs += 1;
    }
    Ok((runs, findings))
}

fn quoted(arguments: &[String]) -> String {
    arguments.iter().map(|argument| format!("{argument:?}")).collect::<Vec<_>>().join(" ")
}

/// Damaged copies of every file, and paths that are not regular files.
fn damage(folder: &Path, random: &mut Random) -> Result {
    for name in names(folder)? {
        let path = folder.join(&name);
        if !path.is_file() {
            continue;
        }
        let bytes = fs::read(&path)?;
        let mut cut = bytes.clone();
        cut.truncate(random.below(bytes.len().max(1)));
        fs::write(folder.join(format!("cut-{name}")), cut)?;
        for copy in 0..2 {
            let mut flipped = bytes.clone();
            for _ in 0..1 + random.below(4) {
                // Mostly in the header: it holds numbers and names.
                let end = if random.once_in(4) { flipped.len() } else { flipped.len().min(600) };
                if end > 0 {
                    flipped[random.below(end)] ^= 1 << random.below(8);
                }
            }
            fs::write(folder.join(format!("flipped{copy}-{name}")), flipped)?;
        }
    }
    fs::write(folder.join("empty.safetensors"), "")?;
    fs::write(folder.join("empty.npy"), "")?;
    fs::write(
        folder.join("two\nlines\u{1b}[31m\u{202e}.safetensors"),
        fs::read(folder.join("model.safetensors"))?,
    )?;
    fs::create_dir_all(folder.join("folder.safetensors"))?;
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", folder.join("dangling.safetensors"))?;
        std::os::unix::fs::symlink("loop.safetensors", folder.join("loop.safetensors"))?;
        std::os::unix::fs::symlink("model.safetensors", folder.join("link.safetensors"))?;
        for name in ["pipe.safetensors", "pipe.npy"] {
            Command::new("mkfifo").arg(folder.join(name)).status()?;
        }
    }
    Ok(())
}

/// Everything in the folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

/// Bytes of every regular file.
fn contents(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut contents = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if fs::symlink_metadata(&path)?.is_file() {
            contents.insert(path.clone(), fs::read(&path)?);
        }
    }
    Ok(contents)
}

/// A command, its arguments and options: `I` is a file of any kind, `F` features or labels, `O` an output, `N` a
/// number, `S` a size, `W` a word, `=F` a tensor and its inputs; a `|` stands between options.
const GRAMMAR: [&str; 20] = [
    "split I -o O|--density N|--threshold N|--bits N|--size S|--base W|--base I|--values W|--calibration I|--importance W|--exclude W|\
     --include W|--no-hashes|--memory-budget S|--threads N|--json|--quiet",
    "calibrate =F -o O|=F|--second-moments|--block N|--memory-budget S|--threads N|--json",
    "inspect I|--memory-budget S|--json|--threads N",
    "verify I|--against I|--calibration I|--base I|--follow-base|--memory-budget S|--json|--threads N",
    "materialize I -o O|--alpha N|--base I|--follow-base|--memory-budget S|--json",
    "diff I I -o O|--op W|--memory-budget S|--json|--threads N",
    "patch I I -o O|--memory-budget S|--json",
    "convert I O|--tensor W|--values W|--memory-budget S|--json",
    "stats F -o O|--labels F|--storage W|--precision W|--shrinkage W|--shrinkage N|--model W|--memory-budget S|--json",
    "stats F -o O --partial 1/1|--labels F|--leaf-rows N|--memory-budget S|--json",
    "stats merge I I -o O|--partial|--precision W|--memory-budget S|--json",
    "stats extract I -o O|--method W|--memory-budget S|--json",
    "compensate I --method W --before F --after F -o O|--mode W|--noise N|--model W|--memory-budget S|--json|--seed N",
    "task O --after F --labels F|--before F|--auxiliary F F|--pairs W|--method W|--name W|--model W|--again|--dry-run|--undo|\
     --memory-budget S|--json",
    "classify I F --classifier W|--labels F|--method W|--by-class|--predictions|--shrink N|--prior W|-o O|--memory-budget S|--json",
    "evaluate I --method W|--mode W|--variant W|--noise N|--auxiliary F F|--sequence|--no-auxiliary|--memory-budget S|--json",
    "report I -o O|--against I|--calibration I|--base I|--follow-base|--variant W|--memory-budget S|--json",
    "bench I --repetitions 1|--tensor W|--values W|--batch N|--memory-budget S|--json|--threads N",
    "devices|--json",
    "completions W",
];

const WORDS: [&str; 53] = [
    "lut2",
    "lut3-g16",
    "lut4-g32",
    "lut3",
    "lut4",
    "lut6",
    "*=lut5",
    "int4",
    "int4-g32",
    "int4-g64",
    "int4-g128",
    "int8",
    "f32",
    "f16",
    "bf16",
    "i8",
    "f64",
    "column",
    "uniform",
    "*",
    "layer.*",
    "*=int8",
    "layer.weight",
    "other.weight",
    "overwrite",
    "xor",
    "smallest",
    "packed",
    "low-rank:2",
    "low-rank:0",
    "ledoit-wolf",
    "oas",
    "linear",
    "attention",
    "rff",
    "weak-nonlinear",
    "exact",
    "compat",
    "current",
    "auxiliary",
    "both",
    "ncm",
    "lda",
    "lda-shrink",
    "qda",
    "qda-shrink",
    "qda-pooled",
    "counts",
    "full",
    "bash",
    "",
    "\u{1b}]0;x\u{7}\n",
    "-",
];

const NUMBERS: [&str; 18] = [
    "0",
    "1",
    "2",
    "0.05",
    "0.5",
    "-1",
    "-0.0",
    "1e-30",
    "1e30",
    "nan",
    "inf",
    "4294967296",
    "99999999999999999999",
    "3",
    "1,2",
    "",
    "0x10",
    "1.0000001",
];

const SIZES: [&str; 10] =
    ["1MiB", "16MiB", "40MiB", "64MiB", "256MiB", "1GiB", "0", "16EiB", "1 parsec", "18446744073709551615"];

const OUTPUTS: [&str; 12] = [
    "out.safetensors",
    "out.npz",
    "out.mtx",
    "out.npy",
    "out.html",
    "out.txt",
    "absent/out.safetensors",
    "shards",
    "dangling.safetensors",
    "out",
    "state-of-tasks.safetensors",
    "",
];

fn arguments(files: &[String], random: &mut Random) -> Vec<String> {
    let line = random.pick(&GRAMMAR);
    let mut parts = line.split('|');
    let mut words: Vec<&str> = parts.next().unwrap_or_default().split(' ').collect();
    let options: Vec<&str> = parts.collect();
    if !options.is_empty() {
        for _ in 0..random.below(4) {
            words.extend(random.pick(&options).trim().split(' '));
        }
    }
    let suits = |name: &&String, kinds: &[&str]| kinds.iter().any(|kind| name.contains(kind));
    let mut arguments = Vec::new();
    for (index, word) in words.into_iter().enumerate() {
        // Without a command the demo runs, and without a file `bench` makes a large one: both take long.
        if index > 0 && !line.starts_with("bench") && random.once_in(60) {
            // Something left out.
            continue;
        }
        let (before, word) = if word == "=F" { ("layer.weight=", "F") } else { ("", word) };
        let argument = match word {
            "I" if random.once_in(2) => {
                let sound: Vec<_> = files.iter().filter(|name| !suits(name, &["cut-", "flipped"])).collect();
                (*random.pick(&sound)).clone()
            }
            "I" => random.pick(files).clone(),
            "F" => {
                let kinds: &[&str] = match random.below(3) {
                    0 => &["before.npy", "after.npy"],
                    1 => &["labels.npy"],
                    _ => &["npy", "features", "drift"],
                };
                let arrays: Vec<_> = files.iter().filter(|name| suits(name, kinds)).collect();
                let file = (*random.pick(&arrays)).clone();
                let tensors = ["", "", ":features", ":labels", ":old_before", ":y_cur"];
                file.clone() + if file.ends_with(".npy") { "" } else { *random.pick(&tensors) }
            }
            "O" if random.once_in(12) => random.pick(files).clone(),
            "O" => (*random.pick(&OUTPUTS)).to_owned(),
            "N" => (*random.pick(&NUMBERS)).to_owned(),
            "S" => (*random.pick(&SIZES)).to_owned(),
            "W" => (*random.pick(&WORDS)).to_owned(),
            other => other.to_owned(),
        };
        arguments.push(format!("{before}{argument}"));
    }
    arguments
}

/// The content of the folder before a run.
struct State {
    bench: Workbench,
    files: Vec<String>,
    contents: BTreeMap<PathBuf, Vec<u8>>,
}

impl State {
    /// Runs the binary, checks its output and its effects, and restores the folder.
    fn check(&self, arguments: &[String]) -> Result<Option<String>> {
        let folder = &self.bench.folder;
        let outer = folder.parent().unwrap_or(folder);
        let (out, err) = (outer.join("stdout"), outer.join("stderr"));
        let mut child = Command::new(&self.bench.binary)
            .args(arguments)
            .current_dir(folder)
            // A layer of Mesa looks for a display, and complains on stderr if there is none.
            .env("NODEVICE_SELECT", "1")
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?)
            .spawn()?;
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if start.elapsed() > LIMIT {
                child.kill()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let problem = match status {
            None => Some(format!("not over after {} s", LIMIT.as_secs())),
            Some(status) => self.look(arguments, status.code(), &read(&out)?, &read(&err)?)?,
        };
        self.restore()?;
        Ok(problem)
    }

    fn look(&self, arguments: &[String], code: Option<i32>, out: &str, err: &str) -> Result<Option<String>> {
        let verify = arguments.first().is_some_and(|command| command == "verify");
        let wrong = |text: &str| text.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}'));
        let json = arguments.iter().any(|argument| argument == "--json");
        // Notes report how an input was read, in a success and in a failure.
        let complaint: Vec<&str> = err.lines().filter(|line| !line.starts_with("note: ")).collect();
        let said = match code {
            None => Some("ended by a signal".to_owned()),
            Some(0) if !complaint.is_empty() => Some("succeeded, and complained".into()),
            Some(0) if json && serde_json::from_str::<serde_json::Value>(out).is_err() => {
                Some("no JSON".into())
            }
            Some(0 | 2) => None,
            Some(3..=6) if matches!(complaint[..], [line] if line.starts_with("error: ")) => None,
            Some(1) if verify => None,
            Some(code) => Some(format!("exit code {code}")),
        };
        let said = said
            .or_else(|| err.contains("panicked").then(|| "panicked".into()))
            .or_else(|| (wrong(out) || wrong(err)).then(|| "control characters".into()));
        if let Some(said) = said {
            return Ok(Some(format!("{said}: {err}")));
        }
        // A run changes only its output, and only if it succeeds.
        for (path, bytes) in contents(&self.bench.folder)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mentioned = arguments.iter().any(|argument| argument.as_str() == name);
            let linked =
                name == "model.safetensors" && arguments.iter().any(|argument| argument.starts_with("link."));
            match self.contents.get(&path) {
                Some(old) if *old == bytes => {}
                Some(_) if code == Some(0) && (mentioned || linked) => {}
                Some(_) => return Ok(Some(format!("{name} was changed"))),
                None if code == Some(0) && mentioned => {}
                None => return Ok(Some(format!("{name} was left behind, exit code {code:?}"))),
            }
        }
        for (path, old) in &self.contents {
            if !path.exists() && !old.is_empty() {
                return Ok(Some(format!("{} was removed", path.display())));
            }
        }
        Ok(None)
    }

    /// The content of the folder before the run.
    fn restore(&self) -> Result {
        for (path, bytes) in contents(&self.bench.folder)? {
            match self.contents.get(&path) {
                Some(old) if *old == bytes => {}
                Some(old) => fs::write(&path, old)?,
                None => fs::remove_file(&path)?,
            }
        }
        for (path, old) in &self.contents {
            if !path.exists() {
                fs::write(path, old)?;
            }
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
