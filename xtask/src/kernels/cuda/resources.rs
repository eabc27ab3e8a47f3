//! The resources that kernels need, from the report of the assembler.

use std::fmt::Write as _;

use crate::Result;

/// The architectures of the report.
pub(super) const ARCHITECTURES: [&str; 2] = ["sm_80", "sm_90"];

/// The resources of a kernel on an architecture.
#[derive(Debug, PartialEq)]
pub(super) struct Kernel {
    pub(super) module: String,
    pub(super) architecture: &'static str,
    pub(super) name: String,
    registers: u32,
    shared: u32,
    /// Bytes of registers that are kept in memory.
    pub(super) spills: u32,
}

/// Reads the report of ptxas, three lines per kernel.
pub(super) fn parse(module: &str, architecture: &'static str, text: &str) -> Result<Vec<Kernel>> {
    let number = |line: &str, unit: &str| -> Option<u32> {
        line[..line.find(unit)?].split_whitespace().next_back()?.trim_start_matches(',').parse().ok()
    };
    let mut kernels = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((_, name)) = line.split_once("Function properties for ") else { continue };
        let (frame, used) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let spills = number(frame, " bytes spill stores").zip(number(frame, " bytes spill loads"));
        let registers = number(used, " registers");
        let (Some((stores, loads)), Some(registers)) = (spills, registers) else {
            return Err(format!("ptxas says nothing about {name}: {frame} / {used}").into());
        };
        let shared = number(used, " bytes smem").unwrap_or(0);
        let (name, spills) = (name.trim().to_owned(), stores + loads);
        let module = module.to_owned();
        kernels.push(Kernel { module, architecture, name, registers, shared, spills });
    }
    if kernels.is_empty() {
        return Err(format!("ptxas reports no kernel of {module}: {text}").into());
    }
    Ok(kernels)
}

/// The report as a table.
pub(super) fn report(kernels: &[Kernel]) -> String {
    let mut text = "\
# Resources of the kernels

Written by `cargo xtask kernels`: registers of a thread, and bytes of shared memory of a block of 256 threads. ptxas 12.0
assigns them. No register spills to memory.

| module | kernel | sm_80 registers | shared | sm_90 registers | shared |
|---|---|---|---|---|---|
"
    .to_owned();
    let on =
        |architecture: &'static str| kernels.iter().filter(move |kernel| kernel.architecture == architecture);
    let mut rows: Vec<_> = on(ARCHITECTURES[0])
        .filter_map(|one| {
            let same = |other: &&Kernel| (&other.module, &other.name) == (&one.module, &one.name);
            Some((one, on(ARCHITECTURES[1]).find(same)?))
        })
        .collect();
    rows.sort_by_key(|(one, _)| (&one.module, &one.name));
    for (one, other) in rows {
        let Kernel { module, name, registers, shared, .. } = one;
        let _ = writeln!(
            text,
            "| {module} | {name} | {registers} | {shared} | {} | {} |",
            other.registers, other.shared
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_assemblers_report_is_read() {
        let text = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'a' for 'sm_80'
ptxas info    : Function properties for a
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 48 registers, 4096 bytes smem, 400 bytes cmem[0]
ptxas info    : Compiling entry function 'b' for 'sm_80'
ptxas info    : Function properties for b
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, 372 bytes cmem[0]
";
        let kernel = |name: &str, registers, shared, spills| Kernel {
            module: "m".into(),
            architecture: "sm_80",
            name: name.into(),
            registers,
            shared,
            spills,
        };
        let expected = [kernel("a", 48, 4096, 16), kernel("b", 8, 0, 0)];
        assert_eq!(parse("m", "sm_80", text).unwrap(), expected);
        assert!(parse("m", "sm_80", "nothing").is_err());
    }
}
