//! The README's examples are those of the crate's front page, which are compiled and run as doctests.

/// The blocks of Rust code, hidden lines left out.
fn examples(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("```rust") {
            let block = lines.by_ref().take_while(|line| *line != "```");
            blocks
                .push(block.filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect());
        }
    }
    blocks
}

#[test]
fn readme_and_crate_show_the_same_examples() {
    let readme = examples(include_str!("../../../README.md").split_once("## Library").unwrap().1);
    let docs: String = include_str!("../src/lib.rs")
        .lines()
        // The fence of an example that needs a feature depends on it.
        .map(|line| match line.contains("doc = \"```standalone_crate\"") {
            true => "//! ```rust",
            false => line,
        })
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
        .map(|line| line.replace("```standalone_crate", "```rust"))
        .collect();
    let docs = examples(&docs);
    assert_eq!(docs.len(), 4, "{docs:?}");
    assert_eq!(readme, docs);
}
