//! Where settings come from: flag before environment before file before default.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Key, ServeFlags};
use crate::code::Code;
use crate::failure::{Exit, Failure};
use crate::serve;

/// Where a value was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    /// Built in.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// The environment variable of this name.
    Environment(String),
    /// The command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// The value of a setting as text, and where it was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Setting {
    /// The text.
    pub(crate) value: String,
    /// Where it was found.
    pub(crate) origin: Origin,
}

/// Every setting of the broker, with its origin.
#[derive(Clone, Debug)]
pub(crate) struct Layers {
    settings: BTreeMap<Key, Setting>,
}

impl Layers {
    /// Reads flags, the environment of the process, the file that the flags name, and the defaults.
    pub(crate) fn read(flags: &ServeFlags) -> Result<Self, Failure> {
        let file = match &flags.config {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| Failure::file("read configuration", path, &error))?;
                Some((path.as_path(), text))
            }
            None => None,
        };
        // Names and values that are not text cannot be settings.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::merge(flags, environment, file.as_ref().map(|(path, text)| (*path, text.as_str())))
    }

    /// Lays flags over `environment` over the file over the defaults.
    pub(super) fn merge(
        flags: &ServeFlags,
        environment: impl IntoIterator<Item = (String, String)>,
        file: Option<(&Path, &str)>,
    ) -> Result<Self, Failure> {
        let mut settings = BTreeMap::new();
        for key in Key::ALL {
            let value = serve::default_of(*key);
            settings.insert(*key, Setting { value, origin: Origin::Default });
        }
        if let Some((path, text)) = file {
            settings.extend(from_file(path, text)?);
        }
        settings.extend(from_environment(environment)?);
        for key in Key::ALL {
            if let Some(value) = flags.value(*key) {
                settings.insert(*key, Setting { value: value.to_owned(), origin: Origin::Flag(key.flag()) });
            }
        }
        Ok(Self { settings })
    }

    /// Every setting, in the order in which they are shown.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (Key, &Setting)> {
        self.settings.iter().map(|(key, setting)| (*key, setting))
    }

    /// One setting.
    pub(crate) fn setting(&self, key: Key) -> &Setting {
        self.settings.get(&key).expect("every key has at least its default")
    }
}

/// The settings of a file.
fn from_file(path: &Path, text: &str) -> Result<Vec<(Key, Setting)>, Failure> {
    let wrong = |problem: String| {
        Failure::new(Exit::Usage, Code::Configuration, format_args!("{}: {problem}", path.display()))
    };
    let table: Table = text.parse().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    let mut settings = Vec::new();
    for (name, value) in flattened(&table) {
        let key = Key::named(&name)
            .ok_or_else(|| did_you_mean(wrong(format!("unknown key '{name}'")), &name, false))?;
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Boolean(flag) => flag.to_string(),
            Value::Float(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
                return Err(wrong(format!("{name} must be a text, a whole number or true or false")));
            }
        };
        settings.push((key, Setting { value, origin: Origin::File(path.to_owned()) }));
    }
    Ok(settings)
}

/// The entries of a table's sections under `section.key`. An entry outside a section stands under its bare name.
fn flattened(table: &Table) -> Vec<(String, &Value)> {
    let mut entries = Vec::new();
    for (section, value) in table {
        match value.as_table() {
            Some(keys) => entries.extend(keys.iter().map(|(key, value)| (format!("{section}.{key}"), value))),
            None => entries.push((section.clone(), value)),
        }
    }
    entries
}

/// The settings among environment variables: those that begin with `WEIR_` and have a `__` in them.
fn from_environment(
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<(Key, Setting)>, Failure> {
    let mut settings = Vec::new();
    for (variable, value) in environment {
        let Some(name) = variable.strip_prefix("WEIR_").filter(|name| name.contains("__")) else { continue };
        let name = name.replace("__", ".").to_lowercase();
        let key = Key::named(&name).ok_or_else(|| {
            let text = format_args!("unknown setting in the environment variable {variable}");
            did_you_mean(Failure::new(Exit::Usage, Code::Configuration, text), &name, true)
        })?;
        settings.push((key, Setting { value, origin: Origin::Environment(variable) }));
    }
    Ok(settings)
}

/// Adds what the user probably meant by `name`.
fn did_you_mean(failure: Failure, name: &str, variable: bool) -> Failure {
    match Key::like(name) {
        Some(key) if variable => failure.help(format!("did you mean {}?", key.variable())),
        Some(key) => failure.help(format!("did you mean '{key}'?")),
        None => failure.help("'weir config show' lists every setting"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        flags: ServeFlags,
    }

    fn merged(flags: &[&str], environment: &[(&str, &str)], file: Option<&str>) -> Result<Layers, Failure> {
        let flags = Flags::try_parse_from([&["weir"], flags].concat()).unwrap().flags;
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Layers::merge(&flags, environment, file.map(|text| (Path::new("weir.toml"), text)))
    }

    #[test]
    fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
        let file = "[server]\nlisten = \"h:3\"\n[limits]\nmemory = \"3GiB\"\n[log]\nlevel = \"debug\"";
        let environment = [("WEIR_SERVER__LISTEN", "h:2"), ("WEIR_LIMITS__MEMORY", "2GiB")];
        let layers = merged(&["--listen", "h:1"], &environment, Some(file)).unwrap();
        let found = |key| {
            let Setting { value, origin } = layers.setting(key).clone();
            (value, origin)
        };
        assert_eq!(found(Key::Listen), ("h:1".into(), Origin::Flag("--listen")));
        assert_eq!(found(Key::Memory), ("2GiB".into(), Origin::Environment("WEIR_LIMITS__MEMORY".into())));
        assert_eq!(found(Key::LogLevel), ("debug".into(), Origin::File("weir.toml".into())));
        assert_eq!(found(Key::DataDir), ("weir-data".into(), Origin::Default));
    }

    #[test]
    fn numbers_and_flags_in_the_file_are_values_too() {
        let layers =
            merged(&[], &[], Some("[server]\ninsecure_listen = true\n[limits]\nmemory = 1073741824"))
                .unwrap();
        assert_eq!(layers.setting(Key::InsecureListen).value, "true");
        assert_eq!(layers.setting(Key::Memory).value, "1073741824");
    }

    #[test]
    fn unknown_keys_are_errors_that_propose_a_known_one() {
        let text = |failure: Failure| failure.to_string();
        let unknown = text(merged(&[], &[], Some("[server]\nlisten_adress = \"x\"")).unwrap_err());
        assert!(unknown.contains("unknown key 'server.listen_adress'"), "{unknown}");
        assert!(unknown.contains("did you mean 'server.listen'?"), "{unknown}");
        let unknown = text(merged(&[], &[], Some("listen = \"x\"")).unwrap_err());
        assert!(unknown.contains("did you mean 'server.listen'?"), "{unknown}");
        let unknown = text(merged(&[], &[("WEIR_SERVER__LISTN", "x")], None).unwrap_err());
        assert!(unknown.contains("did you mean WEIR_SERVER__LISTEN?"), "{unknown}");
    }

    #[test]
    fn variables_that_are_no_settings_are_left_alone() {
        let environment = [("WEIR_URL", "x"), ("WEIR_SERVICE_HOST", "10.0.0.1"), ("PATH__X", "y")];
        assert!(merged(&[], &environment, None).is_ok());
    }

    #[test]
    fn a_file_that_is_not_toml_or_holds_lists_is_refused() {
        assert_eq!(merged(&[], &[], Some("[server\n")).unwrap_err().exit, Exit::Usage);
        let list = merged(&[], &[], Some("[server]\nlisten = [1]")).unwrap_err().to_string();
        assert!(list.contains("server.listen must be a text"), "{list}");
    }
}
