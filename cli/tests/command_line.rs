//! What the binary does without a broker: exit codes, what goes to stdout and what to stderr.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs the binary with an empty home and nothing of this process's environment.
fn weir(home: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(arguments)
        .env_clear()
        .env("HOME", home)
        .envs(environment.iter().copied())
        .current_dir(home)
        .stdin(Stdio::null())
        .output()
        .expect("the binary can be started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is text")
}

#[test]
fn failures_have_their_exit_code_and_keep_stdout_clean() {
    let home = tempfile::tempdir().unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["send", "t", "hello"], 2, "no broker is named"),
        (&["send", "t", "--file", "missing"], 3, "WEIR-5003 cannot read missing"),
        (&["send", "t", "--file", "."], 1, "WEIR-5003 cannot read ."),
        (&["send", "t", "hello", "--timeout", "5"], 2, "the unit is missing"),
        (&["send", "t", "hello", "-s", "http://h"], 2, "WEIR-1021"),
        (&["tail", "t", "--from", "yesterday"], 2, "expected earliest, latest"),
        (&["tail", "t", "-f", "%x"], 2, "unknown field '%x'"),
        (&["topic", "rm", "t"], 2, "--yes"),
        (&["topic", "create", "t", "--partitions", "0"], 2, "0 is not in 1..=10000"),
        (&["topic", "edit", "t"], 2, "no broker is named"),
        (&["bench", "send", "--size", "3"], 2, "24 to 1048576"),
        (&["ctx", "use", "nowhere"], 3, "no context is named 'nowhere'"),
        (&["ctx", "add", "x", "http://h"], 2, "WEIR-1021"),
        (&["config", "check", "--listen", "0.0.0.0:1"], 2, "--insecure-listen"),
        (&["config", "check", "-c", "missing.toml"], 3, "missing.toml"),
        (&["serve", "--memory", "lots"], 2, "limits.memory = 'lots'"),
        (&["frobnicate"], 2, "unrecognized subcommand"),
    ];
    for (arguments, exit, says) in cases {
        let output = weir(home.path(), arguments, &[]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(*exit), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("weir: WEIR-"), "{arguments:?}: {stderr}");
        assert!(stderr.contains(says), "{arguments:?}: {stderr}");
        assert_eq!(text(&output.stdout), "", "{arguments:?} wrote to stdout");
    }
}

#[test]
fn a_file_that_is_not_json_names_line_and_column_before_any_broker_is_asked() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("in"), "{\"value\":\"a\"}\nhello\n").unwrap();
    let arguments = ["send", "t", "--file", "in", "--in", "json", "-s", "weir://127.0.0.1:9"];
    let output = weir(home.path(), &arguments, &[]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with("weir: WEIR-5004 line 2: column 1: expected value"), "{stderr}");
}

#[test]
fn contexts_are_kept_and_the_first_is_current() {
    let home = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = weir(home.path(), arguments, &[]);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    run(&["ctx", "add", "a", "weir://a:1"]);
    run(&["ctx", "add", "b", "weir://b:2"]);
    run(&["ctx", "use", "b"]);
    assert_eq!(
        run(&["ctx", "ls"]),
        "CURRENT  NAME  URL\n         a     weir://a:1\n*        b     weir://b:2\n"
    );
    run(&["ctx", "rm", "b"]);
    assert_eq!(
        run(&["ctx", "ls", "--json"]),
        "[{\"current\":false,\"name\":\"a\",\"url\":\"weir://a:1\"}]\n"
    );
}

#[test]
fn every_setting_tells_its_origin() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(
        home.path().join("weir.toml"),
        "[server]\nlisten = \"127.0.0.1:3\"\n[log]\nformat = \"json\"\n",
    )
    .unwrap();
    let arguments = ["config", "show", "--origin", "-c", "weir.toml", "--data-dir", "d"];
    let output = weir(home.path(), &arguments, &[("WEIR_SERVER__LISTEN", "127.0.0.1:2")]);
    let stdout = text(&output.stdout);
    let line = |key: &str| {
        let line = stdout.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("server.listen"), "127.0.0.1:2 environment WEIR_SERVER__LISTEN");
    assert_eq!(line("server.data_dir"), "d flag --data-dir");
    assert_eq!(line("log.format"), "json file weir.toml");
    assert_eq!(line("log.level"), "info default");
}

#[test]
fn a_closed_stdout_ends_quietly() {
    let home = tempfile::tempdir().unwrap();
    // A pipe whose reading end is gone before anything is written.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["completions", "bash"])
        .env("HOME", home.path())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn completions_and_manual_pages_are_made_from_the_definitions() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = weir(home.path(), &["completions", shell], &[]);
        assert!(text(&output.stdout).contains("retention"), "{shell}");
    }
    assert_eq!(weir(home.path(), &["man", "pages"], &[]).status.code(), Some(0));
    let page = std::fs::read_to_string(home.path().join("pages/weir-send.1")).unwrap();
    assert!(page.contains("receipts"));
}

#[test]
fn help_and_version_go_to_stdout() {
    let home = tempfile::tempdir().unwrap();
    for arguments in
        [&["--help"][..], &["send", "--help"], &["--version"], &["version"], &["version", "--json"]]
    {
        let output = weir(home.path(), arguments, &[]);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_ne!(text(&output.stdout), "", "{arguments:?}");
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
    }
}
