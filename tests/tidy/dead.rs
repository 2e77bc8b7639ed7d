//! Files that no module declares: they look alive and are never compiled.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::tree::Tree;

/// Every Rust source that cannot be reached from a crate root.
pub(crate) fn files(tree: &Tree) -> Vec<String> {
    let known: BTreeSet<&Path> = tree.sources.iter().map(|source| source.path.as_path()).collect();
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<PathBuf> =
        known.iter().filter(|path| is_root(tree, path)).map(PathBuf::from).collect();
    while let Some(path) = waiting.pop() {
        if !reached.insert(path.clone()) {
            continue;
        }
        let Some(source) = tree.sources.iter().find(|source| source.path == path) else { continue };
        let directory = directory_of_modules(tree, &path);
        for name in declared(&source.code) {
            let flat = directory.join(format!("{name}.rs"));
            let folder = directory.join(&name).join("mod.rs");
            waiting
                .extend([flat, folder].into_iter().filter(|candidate| known.contains(candidate.as_path())));
        }
    }
    let dead = known.iter().filter(|path| !reached.contains(**path));
    dead.map(|path| path.display().to_string()).collect()
}

/// Names of the modules a file declares without a body.
fn declared(code: &str) -> Vec<String> {
    let lines = code.lines().map(str::trim);
    let declarations = lines.filter_map(|line| {
        let at = if line.starts_with("mod ") { 0 } else { line.find(" mod ")? + 1 };
        line.get(at + 4..)?.strip_suffix(';').map(|name| name.trim().to_owned())
    });
    declarations.filter(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_')).collect()
}

/// Where the modules a file declares lie.
fn directory_of_modules(tree: &Tree, path: &Path) -> PathBuf {
    let parent = path.parent().map(PathBuf::from).unwrap_or_default();
    let stem = path.file_stem().unwrap_or_default();
    if stem == "mod" || is_root(tree, path) { parent } else { parent.join(stem) }
}

/// Whether a file is the root of a crate: by convention, or because its manifest says so.
fn is_root(tree: &Tree, path: &Path) -> bool {
    let name = path.to_string_lossy().replace('\\', "/");
    let Some((package, rest)) = name.split_once('/') else { return false };
    if matches!(rest, "src/lib.rs" | "src/main.rs" | "build.rs") {
        return true;
    }
    let parts: Vec<&str> = rest.split('/').collect();
    let of_directory = match parts.as_slice() {
        ["src", "bin", _] => true,
        ["tests" | "examples" | "benches", file] => file.ends_with(".rs"),
        ["tests" | "examples" | "benches", _, file] => *file == "main.rs",
        _ => false,
    };
    let manifest = std::fs::read_to_string(tree.root.join(package).join("Cargo.toml")).unwrap_or_default();
    of_directory || manifest.contains(&format!("path = \"{rest}\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    #[test]
    fn a_file_nobody_declares_is_found() {
        let source = |path: &str, text: &str| Source::new(path.into(), text);
        let sources = vec![
            source("x/src/lib.rs", "mod a;\npub(crate) mod b;\n// mod dead;\n#[cfg(test)] mod tests;"),
            source("x/src/a.rs", "mod c;"),
            source("x/src/a/c.rs", ""),
            source("x/src/b/mod.rs", "mod d;"),
            source("x/src/b/d.rs", ""),
            source("x/src/dead.rs", ""),
            source("x/src/tests.rs", ""),
            source("x/src/c.rs", ""),
        ];
        let tree = Tree { root: "/nowhere".into(), sources, pages: Vec::new() };
        assert_eq!(files(&tree), ["x/src/c.rs", "x/src/dead.rs"]);
    }
}
