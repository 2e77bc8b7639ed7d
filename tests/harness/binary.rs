//! Finds the `weir` binary, built once for all tests of a run.
//!
//! A test of another package has no `CARGO_BIN_EXE_weir`, and a binary that happens to lie in the target directory may be
//! old. So the first test that needs it runs `cargo build` for it, in the profile and target directory of the tests
//! themselves and over the whole workspace, so that features and with them all dependencies are those already built. When
//! nothing has changed that takes half a second. `WEIR_BIN` names another binary and skips the build.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The binary under test.
///
/// # Panics
/// If it cannot be built: no test of the whole system makes sense then.
pub fn weir_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match env::var_os("WEIR_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

/// An example program of the client, of the same build.
pub fn example(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let binary = if env::var_os("WEIR_BIN").is_some() { build() } else { weir_binary().to_owned() };
        binary.with_file_name("examples")
    });
    directory.join(name)
}

fn build() -> PathBuf {
    // The test itself is TARGET/PROFILE/deps/NAME.
    let test = env::current_exe().expect("a test knows its own path");
    let output = test.ancestors().nth(2).expect("a test lies in its target directory");
    let target = output.parent().expect("a profile lies in the target directory");
    let profile = match output.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "test",
        Some(name) => name,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from(env!("CARGO")));
    let mut build = Command::new(cargo);
    // What cargo says of the package under test. Build scripts that look at it would run again, and all behind them.
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG_")) {
        build.env_remove(name);
    }
    let built = build
        .env_remove("CARGO_MANIFEST_DIR")
        .args([
            "build",
            "--locked",
            "--workspace",
            "--bin",
            "weir",
            "--examples",
            "--profile",
            profile,
            "--target-dir",
        ])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .output()
        .expect("cargo, which runs this test, can be run");
    assert!(built.status.success(), "weir cannot be built:\n{}", String::from_utf8_lossy(&built.stderr));
    let binary = output.join("weir");
    assert!(binary.is_file(), "{} was built but is not there", binary.display());
    binary
}
