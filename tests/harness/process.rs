//! A process that cannot outlive its test, nor run for ever.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::Captured;

/// A running process. It is killed when dropped, and when it runs longer than its limit.
#[derive(Debug)]
pub struct Process {
    what: String,
    id: u32,
    handle: OwnedFd,
    stdin: Option<ChildStdin>,
    stdout: Captured,
    stderr: Captured,
    exit: Arc<Exit>,
    threads: Vec<JoinHandle<()>>,
}

/// How a process ended, and what it printed.
#[derive(Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub what: String,
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed to stdout.
    pub stdout: Vec<u8>,
    /// What it printed to stderr.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

#[derive(Debug, Default)]
struct Exit {
    ended: Mutex<Option<(ExitStatus, Duration)>>,
    changed: Condvar,
}

impl Process {
    /// Starts a process that may run for `limit`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(mut command: Command, limit: Duration) -> Self {
        let what = format!("{command:?}");
        let started = Instant::now();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
        // The handle is taken before anybody waits for the child, so that it can never mean another process.
        let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("the child is there");
        let id = child.id();
        let (stdout, stderr) = (Captured::default(), Captured::default());
        let exit = Arc::new(Exit::default());
        let mut threads = Vec::new();
        let (pipe, captured) = (child.stdout.take().expect("it is piped"), stdout.clone());
        threads.push(thread::spawn(move || captured.read_all(pipe)));
        let (pipe, captured) = (child.stderr.take().expect("it is piped"), stderr.clone());
        threads.push(thread::spawn(move || captured.read_all(pipe)));
        let stdin = child.stdin.take();
        let watched = Arc::clone(&exit);
        threads.push(thread::spawn(move || watched.wait_for(child, started)));
        let (watched, guarded) = (Arc::clone(&exit), handle.try_clone().expect("handles can be cloned"));
        threads.push(thread::spawn(move || {
            if watched.within(limit).is_none() {
                pidfd_send_signal(&guarded, Signal::KILL).ok();
            }
        }));
        Self { what, id, handle, stdin, stdout, stderr, exit, threads }
    }

    /// Its number, to look at it; it means another process at some time after this one has ended.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// What it prints to stdout.
    pub const fn stdout(&self) -> &Captured {
        &self.stdout
    }

    /// What it prints to stderr.
    pub const fn stderr(&self) -> &Captured {
        &self.stderr
    }

    /// Writes to its stdin. A process that has ended takes nothing, which is not an error here.
    ///
    /// # Panics
    /// If its stdin was closed before.
    pub fn feed(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).ok();
    }

    /// Ends its input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal. A process that has ended gets none, which is not an error here.
    pub fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.handle, signal).ok();
    }

    /// Ends its input and waits until it has ended by itself.
    ///
    /// # Panics
    /// If it had to be killed at its limit.
    pub fn finish(mut self) -> Finished {
        self.close_stdin();
        let (status, took) = self.exit.ever();
        for thread in self.threads.drain(..) {
            thread.join().expect("readers do not panic");
        }
        Finished {
            what: self.what.clone(),
            code: status.code(),
            stdout: self.stdout.bytes(),
            stderr: self.stderr.text(),
            took,
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    /// Waits until it has ended, at most so long, and says whether it has.
    pub fn ends_within(&self, limit: Duration) -> bool {
        self.exit.within(limit).is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

impl Finished {
    /// What it printed to stdout, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The same, if it ended with exit code `code`.
    ///
    /// # Panics
    /// If it ended otherwise, with everything it printed.
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "{} ended after {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.what,
            self.took,
            self.text().chars().take(2000).collect::<String>(),
            self.stderr
        );
        self
    }
}

impl Exit {
    fn wait_for(&self, mut child: Child, started: Instant) {
        let status = child.wait().expect("the child is ours to wait for");
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some((status, started.elapsed()));
        self.changed.notify_all();
    }

    fn within(&self, limit: Duration) -> Option<(ExitStatus, Duration)> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(ended, limit, |ended| ended.is_none());
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn ever(&self) -> (ExitStatus, Duration) {
        // The guard kills at the limit, so this ends.
        loop {
            if let Some(ended) = self.within(Duration::from_secs(600)) {
                return ended;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start(command, limit)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_a_process_prints_and_how_it_ends_is_known() {
        let mut process = shell("read line; echo got $line; echo trouble >&2; exit 3", LONG);
        process.feed(b"it\n");
        assert_eq!(process.stdout().next_line(LONG).as_deref(), Some("got it"));
        let ended = process.finish().expect_code(3);
        assert_eq!((ended.text().as_str(), ended.stderr.as_str()), ("got it\n", "trouble\n"));
    }

    #[test]
    fn the_end_of_the_output_is_no_line() {
        let process = shell("printf 'a\nb'", LONG);
        assert_eq!(process.stdout().next_line(LONG).as_deref(), Some("a"));
        assert_eq!(process.stdout().next_line(LONG), None);
    }

    #[test]
    fn a_process_is_killed_at_its_limit() {
        let ended = shell("exec sleep 600", Duration::from_millis(50)).finish();
        assert_eq!(ended.code, None);
        assert!(ended.took < LONG, "it took {:?}", ended.took);
    }

    #[test]
    fn a_signal_reaches_the_process() {
        let process = shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done", LONG);
        assert_eq!(process.stdout().next_line(LONG).as_deref(), Some("ready"));
        process.signal(Signal::TERM);
        process.finish().expect_code(7);
    }
}
