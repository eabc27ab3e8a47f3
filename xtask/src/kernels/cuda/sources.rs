//! The list of modules, and sources that compile without a search path.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::Result;

/// The list of modules in `kernels/cuda`.
pub(super) const LIST: &str = "modules.txt";

/// Kernels that are compiled together.
#[derive(Debug, PartialEq)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) source: String,
    /// `RESIDUA_VALUE`.
    pub(super) value: Option<String>,
}

/// Reads the list of modules: a line each, comments after `#`.
pub(super) fn modules(list: &str) -> Result<Vec<Module>> {
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    let module = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
        [name, source] => Ok(Module { name: name.into(), source: source.into(), value: None }),
        [name, source, value] => {
            Ok(Module { name: name.into(), source: source.into(), value: Some(value.into()) })
        }
        _ => Err(format!("{LIST}: {line:?} is not a name, a source and a value type").into()),
    };
    lines.map(module).collect()
}

/// A source with its headers in place of `#include` lines, each header once.
pub(super) fn bundle(folder: &Path, source: &str) -> Result<String> {
    let mut text = "// Written by `cargo xtask kernels` from kernels/cuda; change it there.\n".to_owned();
    append(folder, source, &mut Vec::new(), &mut text)?;
    Ok(text)
}

fn append(folder: &Path, name: &str, seen: &mut Vec<String>, text: &mut String) -> Result {
    if seen.iter().any(|seen| seen == name) {
        return Ok(());
    }
    seen.push(name.into());
    let path = folder.join(name);
    let source = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    for line in source.lines().filter(|line| *line != "#pragma once") {
        match line.strip_prefix("#include \"").and_then(|rest| rest.strip_suffix('"')) {
            Some(header) if folder.join(header).exists() => append(folder, header, seen, text)?,
            _ => writeln!(text, "{line}")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_a_line() {
        let expected =
            [("a", "a.cu", None), ("b_f32", "b.cu", Some("value_f32"))].map(|(name, source, value)| Module {
                name: name.into(),
                source: source.into(),
                value: value.map(Into::into),
            });
        assert_eq!(modules("# A comment.\na a.cu\nb_f32 b.cu value_f32\n").unwrap(), expected);
        assert!(modules("a").is_err() && modules("a b c d").is_err() && modules("\n").is_err());
    }

    #[test]
    fn headers_are_put_in_place_once() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("a.cuh", "#pragma once\nint a;\n");
        write("b.cuh", "#pragma once\n#include \"a.cuh\"\n#include \"elsewhere.h\"\nint b;\n");
        write("c.cu", "#include \"a.cuh\"\n#include \"b.cuh\"\nint c;\n");
        let text = bundle(folder.path(), "c.cu").unwrap();
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(lines, ["int a;", "#include \"elsewhere.h\"", "int b;", "int c;"]);
    }
}
