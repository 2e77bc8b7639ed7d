//! A broker of the binary under test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{Finished, Process, Weir};

/// Longest a broker may take until it is ready.
const READY: Duration = Duration::from_secs(30);

/// Longest a test may keep a broker.
const LIMIT: Duration = Duration::from_secs(300);

/// A running broker with a home and a data directory, which outlive its process.
#[derive(Debug)]
pub struct Broker {
    weir: Weir,
    data: PathBuf,
    /// Where the data is, if it is to go with the broker.
    _home: Option<TempDir>,
    process: Option<Process>,
    url: String,
}

impl Broker {
    /// Starts a broker on a free port with an empty data directory, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`Broker::start`], with more arguments.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start_with(arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().expect("temporary directories can be made");
        let data = home.path().join("data");
        let mut broker =
            Self { weir: Weir::new(), data, _home: Some(home), process: None, url: String::new() };
        broker.serve("127.0.0.1:0", arguments);
        broker
    }

    /// Starts a broker on a free port with a data directory that is there, and is left there.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start_in(data: &Path) -> Self {
        let data = data.to_owned();
        let mut broker = Self { weir: Weir::new(), data, _home: None, process: None, url: String::new() };
        broker.serve("127.0.0.1:0", &[]);
        broker
    }

    fn serve(&mut self, listen: &str, more: &[&str]) {
        let data = self.data_directory();
        let data = data.to_str().expect("temporary directories have plain names");
        let mut arguments = vec!["serve", "--data-dir", data, "--listen", listen];
        arguments.extend(more);
        let process = Process::start(self.weir.command(&arguments), LIMIT);
        let line = process.stdout().next_line(READY);
        let ready = line.as_deref().and_then(|line| line.strip_prefix("ready "));
        let Some(url) = ready else { panic!("not ready but {line:?}\n{}", process.stderr().text()) };
        url.clone_into(&mut self.url);
        self.process = Some(process);
    }

    /// Where its data is.
    pub fn data_directory(&self) -> PathBuf {
        self.data.clone()
    }

    /// The commands of a user of this broker.
    pub const fn weir(&self) -> &Weir {
        &self.weir
    }

    /// Writes a file into the home of the broker's user and returns its path.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path: &Path = &self.weir.home().join(name);
        std::fs::write(path, bytes).expect("the home is writable");
        path.to_str().expect("temporary directories have plain names").to_owned()
    }

    /// Its URL with the pin of its certificate.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its URL without the pin.
    pub fn url_without_pin(&self) -> &str {
        self.url.split('?').next().unwrap_or_default()
    }

    /// Where it listens.
    ///
    /// # Panics
    /// If its URL is not an address.
    pub fn address(&self) -> SocketAddr {
        let address = self.url_without_pin().trim_start_matches("weir://").trim_end_matches('/');
        address.parse().unwrap_or_else(|error| panic!("{}: {error}", self.url))
    }

    /// Its process.
    ///
    /// # Panics
    /// If it was stopped.
    pub const fn process(&self) -> &Process {
        self.process.as_ref().expect("the broker runs")
    }

    /// Runs a client command against it.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.weir.run(&self.with_url(arguments))
    }

    /// Starts a client command against it.
    pub fn client(&self, arguments: &[&str]) -> Process {
        self.weir.start(&self.with_url(arguments))
    }

    /// Runs a client command against it that must succeed, and returns what it printed.
    pub fn text(&self, arguments: &[&str]) -> String {
        self.run(arguments).expect_code(0).text()
    }

    /// Runs a client command against it that must succeed, and returns the JSON document it printed.
    ///
    /// # Panics
    /// If it printed anything else.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        self.weir.json(&self.with_url(arguments))
    }

    fn with_url<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        [arguments, &["--url", &self.url]].concat()
    }

    /// Kills it without a chance to clean up.
    ///
    /// # Panics
    /// If it had ended before.
    pub fn kill(&mut self) {
        let process = self.process.take().expect("the broker runs");
        process.signal(Signal::KILL);
        let finished = process.finish();
        assert_eq!(finished.code, None, "{} ended by itself:\n{}", finished.what, finished.stderr);
    }

    /// Asks it to stop and waits until it has.
    ///
    /// # Panics
    /// If it was stopped before.
    pub fn terminate(&mut self) -> Finished {
        let process = self.process.take().expect("the broker runs");
        process.signal(Signal::TERM);
        process.finish()
    }

    /// Starts it again after [`Broker::kill`] or [`Broker::terminate`], on the same port and data directory.
    ///
    /// # Panics
    /// If it does not become ready, or under another certificate.
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "the broker still runs");
        let (listen, url) = (self.address().to_string(), self.url.clone());
        self.serve(&listen, &[]);
        assert_eq!(self.url, url, "the certificate outlives the process");
    }
}
