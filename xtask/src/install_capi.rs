//! `cargo xtask install-capi`: installs header, libraries and pkg-config file where C programs look for them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::Result;
use crate::project::{Project, cargo};

const HELP: &str = "\
Build the C library and install it.

Usage: cargo xtask install-capi --prefix DIR [--features LIST] [--debug]

  --prefix DIR     writes DIR/include/ortho.h, DIR/lib/libresidua.so, DIR/lib/libresidua.a and
                   DIR/lib/pkgconfig/residua.pc; you may move DIR
  --features LIST  features of residua-capi, for example wgpu,cuda
  --debug          without optimisation";

/// A static link also needs the libraries of Rust's standard library.
pub(crate) const STATIC_LIBRARIES: &str = "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc";

pub(crate) fn main(args: Vec<OsString>) -> Result<ExitCode> {
    use lexopt::prelude::*;
    let (mut prefix, mut features, mut debug) = (None, None, false);
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("prefix") => prefix = Some(PathBuf::from(parser.value()?)),
            Long("features") => features = Some(parser.value()?.string()?),
            Long("debug") => debug = true,
            Long("help") | Short('h') => {
                println!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    let prefix = prefix.ok_or("--prefix DIR is missing")?;
    let project = Project::read()?;
    let status = build(features.as_deref(), debug).status()?;
    if !status.success() {
        return Err("the library does not build".into());
    }
    for path in copy(&project.root, &project.target, debug, &prefix)? {
        println!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The command that builds the library.
pub(crate) fn build(features: Option<&str>, debug: bool) -> Command {
    let mut command = Command::new(cargo());
    command.args(["build", "-p", "residua-capi"]);
    if !debug {
        command.arg("--release");
    }
    if let Some(features) = features {
        command.args(["--features", features]);
    }
    command
}

/// Copies what [`build`] built from the project at `root` into `target`; the paths written.
pub(crate) fn copy(root: &Path, target: &Path, debug: bool, prefix: &Path) -> Result<Vec<PathBuf>> {
    let built = target.join(if debug { "debug" } else { "release" });
    let (include, lib) = (prefix.join("include"), prefix.join("lib"));
    let pkgconfig = lib.join("pkgconfig");
    for folder in [&include, &pkgconfig] {
        std::fs::create_dir_all(folder)?;
    }
    let copies = [
        (root.join("crates/capi/include/ortho.h"), include.join("ortho.h")),
        (built.join("libresidua_capi.so"), lib.join("libresidua.so")),
        (built.join("libresidua_capi.a"), lib.join("libresidua.a")),
    ];
    let mut written = Vec::new();
    for (from, to) in copies {
        // A running program has the old library mapped: replace the file, do not write into it.
        let part = to.with_extension("part");
        std::fs::copy(&from, &part).map_err(|error| format!("{}: {error}", from.display()))?;
        std::fs::rename(part, &to)?;
        written.push(to);
    }
    let description = pkgconfig.join("residua.pc");
    std::fs::write(&description, pkg_config(env!("CARGO_PKG_VERSION")))?;
    written.push(description);
    Ok(written)
}

fn pkg_config(version: &str) -> String {
    format!(
        "prefix=${{pcfiledir}}/../..\n\
         libdir=${{prefix}}/lib\n\
         includedir=${{prefix}}/include\n\n\
         Name: residua\n\
         Description: Layers of a low-precision base and a sparse residual\n\
         Version: {version}\n\
         Cflags: -I${{includedir}}\n\
         Libs: -L${{libdir}} -lresidua\n\
         Libs.private: {STATIC_LIBRARIES}\n"
    )
}
