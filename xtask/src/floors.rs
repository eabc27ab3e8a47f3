//! Crates stand on floors: each imports only from floors below.

use crate::project::{Package, Project};

/// Folders under `crates/`, lowest floor first. Crates on one floor do not import each other.
const FLOORS: &[&[&str]] = &[
    &["memory"],
    &["format"],
    &["backend", "compensate"],
    &["backend-cpu", "backend-cuda", "backend-wgpu"],
    &["split"],
    &["residua"],
    &["cli", "capi"],
    &["python"],
];

/// Violations of the order of the floors, one line each.
pub(crate) fn violations(project: &Project) -> Vec<String> {
    project.crates().iter().flat_map(|(folder, package)| of_crate(folder, package)).collect()
}

fn floor(folder: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&folder))
}

fn of_crate(folder: &str, package: &Package) -> Vec<String> {
    let Some(own) = floor(folder) else {
        return vec![format!("crates/{folder} has no floor: place it in FLOORS in xtask/src/floors.rs")];
    };
    let mut lines = Vec::new();
    for dependency in &package.dependencies {
        let Some(path) = &dependency.path else { continue };
        let kind = dependency.kind.as_deref().unwrap_or("normal");
        // A crate may enable its own features for its own tests.
        if kind == "dev" && dependency.name == package.name {
            continue;
        }
        let in_crates = path.parent() == package.dir().parent();
        let target = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match floor(target).filter(|_| in_crates) {
            Some(theirs) if theirs < own => {}
            Some(theirs) => lines.push(format!(
                "crates/{folder} (floor {own}) has a {kind} dependency on crates/{target} (floor {theirs}); \
                 only lower floors are allowed"
            )),
            None => lines.push(format!(
                "crates/{folder} has a {kind} dependency on {}, which stands on no floor",
                path.display()
            )),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Dependency;

    fn package(folder: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependency = |&(folder, kind): &(&str, Option<&str>)| Dependency {
            name: format!("residua-{folder}"),
            kind: kind.map(str::to_owned),
            path: Some(format!("/w/crates/{folder}").into()),
        };
        Package {
            name: format!("residua-{folder}"),
            version: "0.1.0".into(),
            manifest_path: format!("/w/crates/{folder}/Cargo.toml").into(),
            features: Default::default(),
            dependencies: dependencies.iter().map(dependency).collect(),
            publish: None,
        }
    }

    #[test]
    fn lower_floors_are_allowed() {
        let split = package("split", &[("format", None), ("backend-cpu", Some("dev"))]);
        assert_eq!(of_crate("split", &split), Vec::<String>::new());
    }

    #[test]
    fn every_kind_of_upward_dependency_is_found() {
        for kind in [None, Some("dev"), Some("build")] {
            let found = of_crate("format", &package("format", &[("split", kind)]));
            assert_eq!(found.len(), 1, "{kind:?}");
            assert!(found[0].contains("crates/split"), "{found:?}");
        }
    }

    #[test]
    fn neighbours_on_one_floor_do_not_see_each_other() {
        assert_eq!(of_crate("backend-cpu", &package("backend-cpu", &[("backend-wgpu", None)])).len(), 1);
    }

    #[test]
    fn only_a_dev_dependency_on_itself_is_excepted() {
        assert!(of_crate("format", &package("format", &[("format", Some("dev"))])).is_empty());
        assert_eq!(of_crate("format", &package("format", &[("format", None)])).len(), 1);
    }

    #[test]
    fn a_new_crate_must_be_placed() {
        assert!(of_crate("attic", &package("attic", &[]))[0].contains("FLOORS"));
        assert!(of_crate("cli", &package("cli", &[("attic", None)]))[0].contains("no floor"));
    }

    #[test]
    fn nothing_imports_the_tools() {
        let mut cli = package("cli", &[("xtask", None)]);
        cli.dependencies[0].path = Some("/w/xtask".into());
        assert_eq!(of_crate("cli", &cli).len(), 1);
        cli.dependencies[0].path = None;
        assert!(of_crate("cli", &cli).is_empty(), "registry packages have no floor");
    }

    #[test]
    fn this_workspace_keeps_the_order() {
        let project = Project::read().unwrap();
        assert!(!project.crates().is_empty());
        assert_eq!(violations(&project), Vec::<String>::new());
    }
}
