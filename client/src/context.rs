//! The user's contexts: named URLs in `~/.config/weir/contexts.toml`, shared with the command line.
//!
//! ```toml
//! current = "local"
//!
//! [contexts.local]
//! url = "weir://127.0.0.1:7400?pin=sha256:..."
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{ClientCode, Error};

/// Environment variable with the URL of the broker: goes before every context.
pub const URL_VARIABLE: &str = "WEIR_URL";

/// All contexts of a user, and which one is current.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// Name of the current context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// The contexts by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// One broker a user works with.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Its URL, with the pin or file that its certificate is checked by.
    pub url: String,
}

impl Contexts {
    /// The file contexts stand in: `$XDG_CONFIG_HOME/weir/contexts.toml`, else `~/.config/weir/contexts.toml`. `None`
    /// where neither variable is set.
    #[must_use]
    pub fn path() -> Option<PathBuf> {
        let set = |name: &str| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
        let base = match set("XDG_CONFIG_HOME") {
            Some(directory) => PathBuf::from(directory),
            None => PathBuf::from(set("HOME")?).join(".config"),
        };
        Some(base.join("weir").join("contexts.toml"))
    }

    /// Reads the user's file. A file that is not there holds no contexts.
    ///
    /// # Errors
    /// `WEIR-1029` if it cannot be read or understood.
    pub fn load() -> Result<Self, Error> {
        Self::path().map_or_else(|| Ok(Self::default()), |path| Self::load_from(&path))
    }

    /// Reads a file. A file that is not there holds no contexts.
    ///
    /// # Errors
    /// `WEIR-1029` if it cannot be read or understood.
    pub fn load_from(path: &Path) -> Result<Self, Error> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed("read", path, &error)),
        };
        toml::from_str(&text).map_err(|error| failed("understand", path, &error))
    }

    /// Writes the user's file and returns where that is.
    ///
    /// # Errors
    /// `WEIR-1029` if it cannot be written or no home directory is known.
    pub fn save(&self) -> Result<PathBuf, Error> {
        let path = Self::path().ok_or_else(|| {
            Error::client(ClientCode::Context, "neither XDG_CONFIG_HOME nor HOME says where contexts stand")
        })?;
        self.save_to(&path)?;
        Ok(path)
    }

    /// Writes a file: a new one beside it first, then renamed over it, so that it is never half written.
    ///
    /// # Errors
    /// `WEIR-1029` if it cannot be written.
    pub fn save_to(&self, path: &Path) -> Result<(), Error> {
        let text = toml::to_string_pretty(self).map_err(|error| failed("write", path, &error))?;
        let write = || -> std::io::Result<()> {
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory)?;
            }
            let temporary = path.with_extension(format!("toml.{}.tmp", std::process::id()));
            let mut file = std::fs::File::create(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, path)
        };
        write().map_err(|error| failed("write", path, &error))
    }

    /// The URL of the current context, if there is one.
    ///
    /// # Errors
    /// `WEIR-1029` if the current context is not among the contexts.
    pub fn current_url(&self) -> Result<Option<&str>, Error> {
        let Some(name) = &self.current else { return Ok(None) };
        match self.contexts.get(name) {
            Some(context) => Ok(Some(&context.url)),
            None => Err(Error::client(
                ClientCode::Context,
                format!("the current context '{name}' does not exist"),
            )),
        }
    }
}

/// The URL that `WEIR_URL` or the user's current context names.
///
/// # Errors
/// `WEIR-1029` if there is neither, or the contexts cannot be read.
pub fn current_url() -> Result<String, Error> {
    if let Ok(url) = std::env::var(URL_VARIABLE)
        && !url.is_empty()
    {
        return Ok(url);
    }
    match Contexts::load()?.current_url()? {
        Some(url) => Ok(url.to_owned()),
        None => {
            Err(Error::client(ClientCode::Context, "no broker is named: no WEIR_URL, no current context"))
        }
    }
}

fn failed(what: &str, path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::client(ClientCode::Context, format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> Contexts {
        let context = Context { url: "weir://127.0.0.1:7400".to_owned() };
        Contexts {
            current: Some("local".to_owned()),
            contexts: BTreeMap::from([("local".to_owned(), context)]),
        }
    }

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("weir-client-{}-{name}", std::process::id()))
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let directory = scratch("contexts");
        let path = directory.join("deep").join("contexts.toml");
        local().save_to(&path).unwrap();
        local().save_to(&path).unwrap();
        let loaded = Contexts::load_from(&path).unwrap();
        assert_eq!(loaded, local());
        assert_eq!(loaded.current_url().unwrap(), Some("weir://127.0.0.1:7400"));
        let names: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 1, "no temporary file stays behind");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_missing_file_holds_nothing_and_a_wrong_one_is_an_error() {
        assert_eq!(Contexts::load_from(&scratch("none")).unwrap(), Contexts::default());
        let path = scratch("wrong.toml");
        std::fs::write(&path, "current = 7").unwrap();
        let error = Contexts::load_from(&path).unwrap_err();
        assert_eq!(error.code(), "WEIR-1029");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_current_context_that_does_not_exist_is_named() {
        let contexts = Contexts { current: Some("gone".to_owned()), contexts: BTreeMap::new() };
        assert!(contexts.current_url().unwrap_err().to_string().contains("gone"));
    }
}
