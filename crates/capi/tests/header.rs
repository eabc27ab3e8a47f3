//! Checks that `include/ortho.h` is the output of cbindgen; `RESIDUA_WRITE_HEADER=1` rewrites it.

use std::path::Path;

/// In the order of the header.
const SOURCES: [&str; 6] = ["types", "layer", "forward", "exports", "device", "container"];

#[test]
fn the_header_is_what_the_sources_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut builder = cbindgen::Builder::new()
        .with_config(cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap());
    for source in SOURCES {
        builder = builder.with_src(root.join("src").join(source).with_extension("rs"));
    }
    let bindings = builder.generate().unwrap();
    let mut made = Vec::new();
    bindings.write(&mut made);
    // A heading of Rust's documentation.
    let made = String::from_utf8(made).unwrap().replace("\n # Safety\n", "\n What it needs:\n");
    let path = root.join("include/ortho.h");
    if std::env::var_os("RESIDUA_WRITE_HEADER").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let line = made.lines().zip(committed.lines()).position(|(made, committed)| made != committed);
    assert!(
        made == committed,
        "include/ortho.h differs from the sources, first in line {:?}: \
         RESIDUA_WRITE_HEADER=1 cargo test -p residua-capi --test header",
        line.map(|line| line + 1)
    );
}
