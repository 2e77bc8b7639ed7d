//! The files of the workspace, read once for each test.

use std::fs;
use std::path::{Path, PathBuf};

use crate::source::Source;

/// Every text file that belongs to the project.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    /// Rust sources, in order of path.
    pub(crate) sources: Vec<Source>,
    /// Pages, in order of path.
    pub(crate) pages: Vec<Page>,
}

/// A Markdown file.
#[derive(Debug)]
pub(crate) struct Page {
    /// Relative to the root.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Tree {
    pub(crate) fn read() -> Self {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the workspace").to_owned();
        let mut tree = Self { root: root.clone(), sources: Vec::new(), pages: Vec::new() };
        tree.walk(&root);
        tree.sources.sort_by(|a, b| a.path.cmp(&b.path));
        tree.pages.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(!tree.sources.is_empty() && !tree.pages.is_empty(), "the workspace lies around this package");
        tree
    }

    fn walk(&mut self, directory: &Path) {
        for entry in fs::read_dir(directory).expect("the tree is readable") {
            let path = entry.expect("the tree is readable").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_symlink() || name.starts_with('.') || name == "target" || is_data(&path) {
                continue;
            }
            if path.is_dir() {
                self.walk(&path);
                continue;
            }
            let relative = path.strip_prefix(&self.root).expect("below the root").to_owned();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("rs") => self.sources.push(Source::new(relative, &read(&path))),
                Some("md") => self.pages.push(Page { path: relative, text: read(&path) }),
                Some(_) | None => {}
            }
        }
    }

    pub(crate) fn page(&self, path: &str) -> Option<&Page> {
        self.pages.iter().find(|page| page.path == Path::new(path))
    }
}

/// A broker's data directory that someone left in the tree.
fn is_data(path: &Path) -> bool {
    path.join("manifest-0").exists() && path.join("journal").is_dir()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
