//! The README's example is the crate's, which is compiled and run as a doctest.

/// The first block of Rust code, hidden lines left out.
fn example(text: &str) -> String {
    let start = text.lines().skip_while(|line| *line != "```rust" && *line != "```");
    let block = start.skip(1).take_while(|line| *line != "```");
    block.filter(|line| !line.starts_with("# ")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn readme_and_crate_show_the_same_example() {
    let readme = example(include_str!("../../../README.md").split_once("## Library").unwrap().1);
    let docs: String = include_str!("../src/lib.rs")
        .lines()
        // Without a backend there is nothing to run the example on: its fence depends on the feature.
        .map(|line| if line.contains("feature = \"cpu\", doc = \"```\"") { "//! ```" } else { line })
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
        .collect();
    let docs = example(&docs);
    assert!(docs.lines().count() > 10, "{docs}");
    assert_eq!(readme, docs);
}
