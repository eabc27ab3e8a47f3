//! `cargo xtask bench`: Residua and other people's libraries on the same data, in turn.
//!
//! Every contestant is a process that speaks the protocol of [`contestant`]. It keeps its matrices in memory and runs
//! one timed repetition per request. One round asks each contestant once, and ratios are taken within rounds: so a
//! temporary slowdown of the machine affects all of them.

mod compensate;
mod contestant;
mod data;
pub(crate) mod machine;
mod markdown;
mod scale;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use crate::Result;
use crate::make_checkpoint::write::beside;
use crate::project::Project;
use contestant::{Contestant, Reply};
use data::{Data, Size};
use markdown::{Entry, Section};

const HELP: &str = "\
Time Residua and its peers on the same data and write docs/benchmarks.md.

Usage: cargo xtask bench [options]

  --only CASES   comma-separated: coo, spmv, spmm, split, compare; or compensate (runs only if named):
                 class statistics against torch, up to a quarter of an hour, one section of the page
  --rounds N     repetitions of each case [7; for compensate 1 to 5, depending on the time of torch]
  --torch        install torch too (several GB, in target/bench-venv) for the case split
  --scale SIZE   also split a checkpoint of this size (3B: 6.4 GB, written to target/bench-data)
  --quick        small data, to try the command itself
  --python FILE  for compensate, an interpreter that has torch and safetensors [installs them]
  --out FILE     where to write [docs/benchmarks.md]";

/// Threads of OpenMP spin for a while after their work; they must not disturb the next contestant.
const PAUSE: Duration = Duration::from_millis(250);
/// Repetitions of a case.
const ROUNDS: usize = 7;

struct Options {
    only: Option<Vec<String>>,
    rounds: Option<usize>,
    torch: bool,
    scale: Option<String>,
    size: Size,
    python: Option<PathBuf>,
    out: Option<PathBuf>,
}

impl Options {
    fn wants(&self, case: &str) -> bool {
        self.only.as_ref().map_or(case != compensate::NAME, |only| only.iter().any(|name| name == case))
    }
}

/// Something that several contestants do.
struct Case {
    name: &'static str,
    title: &'static str,
    /// The unit of work, and how many units a printed rate counts.
    unit: (&'static str, f64),
    threads: &'static [usize],
    work: fn(&Data) -> f64,
}

const CASES: &[Case] = &[
    Case {
        name: "coo",
        title: "COO to CSR, duplicates summed",
        unit: ("Mnnz/s", 1e6),
        threads: &[1],
        work: |data| data.coo_entries as f64,
    },
    Case {
        name: "spmv",
        title: "SpMV, 4096×11008 at 5 %, 20 matrices in turn",
        unit: ("Gnnz/s", 1e9),
        threads: &[1, 2],
        work: |data| data.csr_entries as f64,
    },
    Case {
        name: "spmm",
        title: "SpMM with 32 columns, the same matrices",
        unit: ("Gnnz·col/s", 1e9),
        threads: &[1, 2],
        work: |data| data.csr_entries as f64 * 32.0,
    },
    Case {
        name: "split",
        title: "Split of a 100 MB f32 matrix: INT4 per row, 5 % residual",
        unit: ("Mparam/s", 1e6),
        threads: &[1],
        work: |data| data.dense_elements as f64,
    },
    Case {
        name: "compare",
        title: "Reading two checkpoints: diff with 1 % changed, against cmp of equal files",
        unit: ("MB/s", 1e6),
        threads: &[1],
        work: |data| data.checkpoint_bytes as f64 * 2.0,
    },
];

pub(crate) fn main(args: Vec<OsString>) -> Result<ExitCode> {
    let Some(options) = parse(args)? else {
        println!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    let project = Project::read()?;
    let out = options.out.clone().unwrap_or_else(|| project.root.join("docs").join("benchmarks.md"));
    let old = std::fs::read_to_string(&out).unwrap_or_default();
    let mut text = if CASES.iter().any(|case| options.wants(case.name)) {
        cases(&project, &options, &old)?
    } else {
        old
    };
    if options.wants(compensate::NAME) {
        let section = compensate::run(&project, options.size, options.rounds, options.python)?;
        text = compensate::replaced(&text, &section);
    }
    beside(&out, |path| Ok(std::fs::write(path, &text)?))?;
    println!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// Measures the cases. Returns the page, with the kept part of the old one.
fn cases(project: &Project, options: &Options, old: &str) -> Result<String> {
    let data = Data::prepare(&project.target.join("bench-data"), options.size)?;
    let (mut contestants, mut absent) = contestant::all(project, &data, options.torch)?;
    let mut sections = Vec::new();
    for case in CASES.iter().filter(|case| options.wants(case.name)) {
        for &threads in case.threads {
            let rounds = options.rounds.unwrap_or(ROUNDS);
            sections.push(measure(case, threads, &data, &mut contestants, rounds)?);
        }
    }
    let scale = options.scale.as_deref().map(|size| scale::run(project, size)).transpose()?;
    let about: Vec<String> = contestants.iter().map(Contestant::about).collect();
    if options.size == Size::Quick {
        absent.insert(
            0,
            "meaningful figures: this was a quick run on small data, not on the stated sizes".into(),
        );
    }
    let page = markdown::page(&machine::describe(project), &about, &absent, &sections, scale.as_deref());
    Ok(page + kept(old))
}

/// Other commands measured the part after this line.
const KEPT: &str = "\n<!-- Kept by `cargo xtask bench`: measured by the commands that are named. -->\n";

/// The part of an old page that the new page keeps.
fn kept(old: &str) -> &str {
    old.find(KEPT).map_or("", |at| &old[at..])
}

fn parse(args: Vec<OsString>) -> Result<Option<Options>> {
    use lexopt::prelude::*;
    let mut options = Options {
        only: None,
        rounds: None,
        torch: false,
        scale: None,
        size: Size::Full,
        python: None,
        out: None,
    };
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("only") => {
                let names: Vec<String> = parser.value()?.string()?.split(',').map(str::to_owned).collect();
                let known =
                    |name: &str| name == compensate::NAME || CASES.iter().any(|case| case.name == name);
                if let Some(name) = names.iter().find(|name| !known(name)) {
                    return Err(format!("no case is called {name:?}; --help lists them").into());
                }
                options.only = Some(names);
            }
            Long("rounds") => options.rounds = Some(parser.value()?.parse::<usize>()?.max(1)),
            Long("torch") => options.torch = true,
            Long("scale") => options.scale = Some(parser.value()?.string()?),
            Long("quick") => options.size = Size::Quick,
            Long("python") => options.python = Some(parser.value()?.into()),
            Long("out") => options.out = Some(parser.value()?.into()),
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(arg.unexpected().into()),
        }
    }
    Ok(Some(options))
}

/// Asks every contestant once per round. A contestant that skips the case or fails drops out.
fn measure(
    case: &Case,
    threads: usize,
    data: &Data,
    contestants: &mut [Contestant],
    rounds: usize,
) -> Result<Section> {
    let mut entries = Vec::new();
    let mut racing = Vec::new();
    // The first answer loads the data and warms up; its time does not count.
    for contestant in contestants.iter_mut() {
        eprintln!("{} ×{threads}: {} gets ready", case.name, contestant.name);
        match contestant.ask(case.name, threads) {
            Ok(Reply { skip: Some(_), .. }) => {}
            Ok(reply) => {
                entries.push(Entry::new(&contestant.name, reply));
                racing.push(contestant);
            }
            Err(error) => entries.push(Entry::failed(&contestant.name, error.to_string())),
        }
    }
    for round in 0..rounds {
        eprintln!("{} ×{threads}: round {} of {rounds}", case.name, round + 1);
        for contestant in &mut racing {
            sleep(PAUSE);
            let Some(entry) = entries.iter_mut().find(|entry| entry.name == contestant.name) else {
                continue;
            };
            match contestant.ask(case.name, threads) {
                Ok(reply) => entry.add(reply),
                Err(error) => entry.failure = Some(error.to_string()),
            }
        }
    }
    Ok(Section {
        title: case.title,
        unit: case.unit.0,
        per: case.unit.1,
        threads,
        work: (case.work)(data),
        entries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_commands_measured_is_kept() {
        assert_eq!(kept(""), "");
        assert_eq!(kept("# Benchmarks\n\nold\n"), "");
        let page = format!("# Benchmarks\n\nold\n{KEPT}\n## GPUs\n");
        assert_eq!(kept(&page), format!("{KEPT}\n## GPUs\n"));
        // And again, with what a new page begins with.
        assert_eq!(kept(&format!("new\n{}", kept(&page))), kept(&page));
    }
}
