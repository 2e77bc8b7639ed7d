//! A broker of the binary under test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use weir_protocol::units::TopicId;

use crate::port::Port;
use crate::{Finished, Process, Weir};

/// Longest a broker may take until it is ready.
const READY: Duration = Duration::from_secs(30);

/// Longest a test may keep a broker.
const LIMIT: Duration = Duration::from_secs(300);

/// A running broker with a home and a data directory, which outlive its process.
#[derive(Debug)]
pub struct Broker {
    weir: Weir,
    /// Where it listens, also after a kill.
    port: Port,
    data: PathBuf,
    /// Where the data is, if it is to go with the broker.
    _home: Option<TempDir>,
    process: Option<Process>,
    url: String,
    /// Arguments of its process besides where it listens and keeps its data.
    arguments: Vec<String>,
    /// Variables of its process.
    environment: Vec<(String, String)>,
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
        let mut broker = Self::new();
        broker.serve_with(arguments);
        broker
    }

    /// One that was not started yet.
    ///
    /// # Panics
    /// If there is no place for temporary files.
    pub fn new() -> Self {
        let home = tempfile::tempdir().expect("temporary directories can be made");
        let data = home.path().join("data");
        Self { _home: Some(home), ..Self::on(data) }
    }

    /// As [`Broker::start`], of another binary than the one under test.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start_of(binary: &Path) -> Self {
        let mut broker = Self { weir: Weir::of(binary), ..Self::new() };
        broker.serve_with(&[]);
        broker
    }

    /// Starts a broker on a free port with a data directory that is there, and is left there.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start_in(data: &Path) -> Self {
        Self::start_in_with(data, &[])
    }

    /// As [`Broker::start_in`], with more arguments.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start_in_with(data: &Path, arguments: &[&str]) -> Self {
        let mut broker = Self::on(data.to_owned());
        broker.serve_with(arguments);
        broker
    }

    fn on(data: PathBuf) -> Self {
        Self {
            weir: Weir::new(),
            port: Port::reserve(),
            data,
            _home: None,
            process: None,
            url: String::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Starts it for the first time, on a free port, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn serve_with(&mut self, arguments: &[&str]) {
        self.serve(arguments);
    }

    /// Variables for its process from the next start on.
    pub fn set_environment(&mut self, variables: &[(&str, String)]) {
        self.environment =
            variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// If it was stopped before.
    pub fn ended(&mut self) -> Finished {
        self.process.take().expect("the broker runs").finish()
    }

    fn serve(&mut self, more: &[&str]) {
        self.arguments = more.iter().map(|argument| (*argument).to_owned()).collect();
        let process = self.spawn();
        let line = process.stdout().next_line(READY);
        let ready = line.as_deref().and_then(|line| line.strip_prefix("ready "));
        let Some(url) = ready else { panic!("not ready but {line:?}\n{}", process.stderr().text()) };
        url.clone_into(&mut self.url);
        self.process = Some(process);
    }

    fn spawn(&self) -> Process {
        let listen = format!("127.0.0.1:{}", self.port.number());
        let data = self.data_directory();
        let data = data.to_str().expect("temporary directories have plain names");
        let mut arguments = vec!["serve", "--data-dir", data, "--listen", &listen];
        arguments.extend(self.arguments.iter().map(String::as_str));
        let mut command = self.weir.command(&arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Process::start(command, LIMIT)
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

    /// Starts a client command against it that may run for so long.
    pub fn client_for(&self, limit: Duration, arguments: &[&str]) -> Process {
        Process::start(self.weir.command(&self.with_url(arguments)), limit)
    }

    /// Runs a client command against it that must succeed, and returns what it printed.
    pub fn text(&self, arguments: &[&str]) -> String {
        self.run(arguments).expect_code(0).text()
    }

    /// The number of a topic.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn topic_id(&self, name: &str) -> TopicId {
        let shown = self.json(&["topic", "show", name, "--json"]);
        let id = shown.get("id").and_then(serde_json::Value::as_str).unwrap_or_default();
        let digits: String = id.chars().filter(|digit| *digit != '-').collect();
        let number = u128::from_str_radix(&digits, 16).expect("a topic has a UUID");
        TopicId::from_bytes(number.to_be_bytes())
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

    /// Starts it again after [`Broker::kill`] or [`Broker::terminate`], on the same port and data directory and with the same
    /// arguments.
    ///
    /// # Panics
    /// If it does not become ready, or under another certificate.
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "the broker still runs");
        let (url, arguments) = (self.url.clone(), self.arguments.clone());
        self.serve(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(self.url, url, "the certificate outlives the process");
    }

    /// Starts it as [`Broker::restart`] does, and kills it when `is_moment` says so.
    ///
    /// # Panics
    /// If it has ended before.
    pub fn restart_and_kill(&mut self, mut is_moment: impl FnMut() -> bool) {
        let process = self.spawn();
        while !is_moment() {
            assert!(!process.has_ended(), "the broker ended by itself:\n{}", process.stderr().text());
            std::thread::yield_now();
        }
        self.process = Some(process);
        self.kill();
    }
}

impl Default for Broker {
    fn default() -> Self {
        Self::new()
    }
}
