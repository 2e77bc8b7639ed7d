//! Files, environments and flags that nobody meant: each is understood, or explained.

use std::path::Path;

use clap::Parser as _;
use harness::fuzz::{Choices, Target, outcome};

use super::{Key, Layers, ServeConfig, ServeFlags};
use crate::serve;

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    flags: ServeFlags,
}

#[test]
fn settings_are_understood_or_explained_whatever_stands_in_them() {
    let done = harness::fuzz::run(&Target {
        name: "settings",
        command: "cargo test -p weir config::fuzz",
        seeds,
        check,
        rounds: 3_000,
    });
    println!("{done}");
}

/// The file, then the environment, then the flags; each a text with a length in front.
fn check(input: &[u8]) -> u64 {
    let mut choices = Choices::new(input);
    let mut text = || {
        let length = usize::from(choices.byte());
        String::from_utf8_lossy(choices.take(length)).into_owned()
    };
    let (file, environment, arguments) = (text(), text(), text());
    let variables = environment.lines().filter_map(|line| line.split_once('='));
    let variables: Vec<(String, String)> =
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let Ok(Flags { flags }) = Flags::try_parse_from(["weir"].into_iter().chain(arguments.lines())) else {
        return 0;
    };
    match read(&flags, variables, &file) {
        Err(explained) => {
            assert!(explained.contains("WEIR-"), "it has a code: {explained}");
            outcome(explained.chars().filter(char::is_ascii_alphabetic).take(80).collect::<String>())
        }
        Ok((layers, config)) => {
            let written = layers.settings().map(|(key, setting)| {
                let value = toml::Value::from(setting.value.clone());
                format!("{key} = {value}\n")
            });
            let again = read(&ServeFlags::default(), Vec::new(), &written.collect::<String>());
            let again = again.unwrap_or_else(|explained| panic!("what was shown is refused: {explained}")).1;
            assert_eq!(again, config, "what is shown means the same");
            outcome(Key::ALL.iter().map(|key| layers.setting(*key).origin.to_string()).collect::<Vec<_>>())
        }
    }
}

fn read(
    flags: &ServeFlags,
    environment: Vec<(String, String)>,
    file: &str,
) -> Result<(Layers, ServeConfig), String> {
    let explain = |failure: crate::failure::Failure| format!("{failure:?} {failure}");
    let layers = Layers::merge(flags, environment, Some((Path::new("weir.toml"), file))).map_err(explain)?;
    for key in [Key::Listen, Key::Metrics] {
        let value = &layers.setting(key).value;
        // A name would be looked up.
        if !value.is_empty() && value.parse::<std::net::SocketAddr>().is_err() {
            return Err("WEIR- a name".to_owned());
        }
    }
    let config = ServeConfig::try_from(&layers).map_err(explain)?;
    serve::check(&config).map_err(explain)?;
    Ok((layers, config))
}

/// Each setting in each place, right and wrong.
fn seeds() -> Vec<Vec<u8>> {
    let input = |parts: [&str; 3]| {
        let parts = parts.map(|part| [&[u8::try_from(part.len()).unwrap()], part.as_bytes()].concat());
        parts.concat()
    };
    let mut seeds = Vec::new();
    for key in Key::ALL {
        for value in
            ["", "1", "true", "64MiB", "10.0.0.1:7", "network", "18446744073709551615B", "1e9", "-1", "json"]
        {
            let (section, name) = key.name().split_once('.').unwrap();
            seeds.push(input([&format!("[{section}]\n{name} = \"{value}\"\n"), "", ""]));
            seeds.push(input([&format!("{key} = {value}\n"), "", ""]));
            seeds.push(input(["", &format!("{}={value}", key.variable()), ""]));
            seeds.push(input(["", "", &format!("{}={value}", key.flag())]));
        }
    }
    seeds
}
