//! Commands of the binary under test, cut off from the user who runs the tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::{Finished, Process, weir_binary};

/// Longest a client command may run.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs commands with a home of their own, so that neither contexts nor variables of the user count.
#[derive(Debug)]
pub struct Weir {
    home: TempDir,
    /// Another binary than the one under test.
    binary: Option<PathBuf>,
}

impl Weir {
    /// A new, empty home.
    ///
    /// # Panics
    /// If there is no place for temporary files.
    pub fn new() -> Self {
        Self { home: tempfile::tempdir().expect("temporary directories can be made"), binary: None }
    }

    /// The same with another binary.
    ///
    /// # Panics
    /// If there is no place for temporary files.
    pub fn of(binary: &Path) -> Self {
        Self { binary: Some(binary.to_owned()), ..Self::new() }
    }

    /// Where files may be put; the working directory of the commands.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The command, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.binary.as_deref().unwrap_or_else(|| weir_binary()));
        command.args(arguments).current_dir(self.home()).env_clear();
        command.env("HOME", self.home()).env("XDG_CONFIG_HOME", self.home().join("config"));
        for kept in ["PATH", "RUST_BACKTRACE", "TMPDIR", "LD_PRELOAD"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command
    }

    /// Starts a command.
    pub fn start(&self, arguments: &[&str]) -> Process {
        Process::start(self.command(arguments), LIMIT)
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.start(arguments).finish()
    }

    /// Runs a command that must succeed and returns what it printed.
    pub fn text(&self, arguments: &[&str]) -> String {
        self.run(arguments).expect_code(0).text()
    }

    /// Runs a command that must succeed and returns the one JSON document it printed.
    ///
    /// # Panics
    /// If it printed anything else.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.text(arguments);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error} in {text}"))
    }
}

impl Default for Weir {
    fn default() -> Self {
        Self::new()
    }
}

/// The objects of an output with one on each line.
///
/// # Panics
/// If a line is anything else.
pub fn json_lines(text: &str) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
    text.lines().map(parse).collect()
}
