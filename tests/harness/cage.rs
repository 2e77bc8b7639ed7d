//! The memory of a process under test: a limit that the system enforces where it can, and samples of what it holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Between two looks at what a process holds.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A control group for the memory of one process, within the one it was in. Removed when this is dropped; the process must have
/// ended by then.
#[derive(Debug)]
pub struct Cage {
    directory: PathBuf,
    names: &'static Names,
}

/// What files of a control group are called.
#[derive(Debug)]
struct Names {
    version: &'static str,
    root: &'static str,
    /// What stands before its path in `/proc/PID/cgroup`, behind a number.
    controllers: &'static str,
    limit: &'static str,
    events: &'static str,
}

const VERSIONS: [Names; 2] = [
    Names {
        version: "cgroup v1",
        root: "/sys/fs/cgroup/memory",
        controllers: ":memory:",
        limit: "memory.limit_in_bytes",
        events: "memory.oom_control",
    },
    Names {
        version: "cgroup v2",
        root: "/sys/fs/cgroup",
        controllers: "::",
        limit: "memory.max",
        events: "memory.events",
    },
];

impl Names {
    /// The control group that a process is in.
    fn of(&self, process: u32) -> Option<PathBuf> {
        let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
        let path = groups.lines().find_map(|line| line.split_once(self.controllers).map(|(_, path)| path))?;
        Some(Path::new(self.root).join(path.trim_start_matches('/')))
    }
}

impl Cage {
    /// Lets a process and those it starts have so much memory, the system's cache for them included, and no more. `None`
    /// where nobody lets us make a control group.
    pub fn around(process: u32, limit_bytes: u64) -> Option<Self> {
        VERSIONS.iter().find_map(|names| {
            let directory = names.of(process)?.join(format!("weir-test-{process}"));
            fs::create_dir(&directory).ok()?;
            let cage = Self { directory, names };
            fs::write(cage.directory.join(names.limit), limit_bytes.to_string()).ok()?;
            fs::write(cage.directory.join("cgroup.procs"), process.to_string()).ok()?;
            Some(cage)
        })
    }

    /// What enforces the limit.
    pub const fn version(&self) -> &'static str {
        self.names.version
    }

    /// Processes that the system has killed for their memory.
    ///
    /// # Panics
    /// If the control group does not say.
    pub fn kills(&self) -> u64 {
        let events = fs::read_to_string(self.directory.join(self.names.events)).unwrap_or_default();
        let line = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.trim().parse().ok()).expect("a control group counts its kills")
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        fs::remove_dir(&self.directory).ok();
    }
}

/// Looks at the anonymous memory of a process again and again.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Held>,
}

/// What a process held.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Held {
    /// Most of it at any look.
    pub peak_bytes: u64,
    /// How often was looked.
    pub looks: u64,
}

impl Watch {
    /// Begins to look. Ends by itself with the process.
    pub fn over(process: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut held = Held::default();
            while !stopped.load(Ordering::Relaxed)
                && let Some(bytes) = anonymous_bytes(process)
            {
                held.peak_bytes = held.peak_bytes.max(bytes);
                held.looks += 1;
                thread::sleep(LOOK_EVERY);
            }
            held
        });
        Self { stop, thread }
    }

    /// What was seen so far.
    ///
    /// # Panics
    /// Never: looking does not.
    pub fn finish(self) -> Held {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("looking does not panic")
    }
}

/// Resident memory of a process that is no copy of a file (`RssAnon`); `None` if it has ended.
pub fn anonymous_bytes(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::Process;

    #[test]
    fn what_a_process_holds_is_seen() {
        let watch = Watch::over(std::process::id());
        let before = anonymous_bytes(std::process::id()).unwrap();
        let held = vec![7u8; 64 << 20];
        let after = anonymous_bytes(std::process::id()).unwrap();
        assert!(after >= before + (60 << 20), "{before} {after}");
        drop(held);
        assert!(watch.finish().looks > 0);
    }

    #[test]
    fn who_takes_more_than_its_cage_holds_is_killed_and_counted() {
        let mut command = Command::new("sh");
        // Doubles a variable until it cannot.
        command.args(["-c", "read go; x=0123456789abcdef; while :; do x=$x$x; done"]);
        let mut process = Process::start(command, Duration::from_secs(60));
        let Some(cage) = Cage::around(process.id(), 32 << 20) else {
            println!("SKIP: no control group can be made here");
            return;
        };
        assert_eq!(cage.kills(), 0);
        process.feed(b"go\n");
        assert_eq!(process.finish().code, None, "killed by a signal");
        assert_eq!(cage.kills(), 1);
    }
}
