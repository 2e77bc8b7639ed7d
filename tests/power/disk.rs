//! A disk whose power can be cut, with an ext4 on it.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use harness::{Process, Random};
use tempfile::TempDir;

use crate::fuse::serve;
use crate::sectors::{Cut, Sectors};

/// Bytes of a disk: enough for the journal and some rounds of records. The file has holes.
const SIZE: u64 = 1 << 30;

/// Longest a command that mounts or formats may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A disk without power.
#[derive(Debug)]
pub(crate) struct Disk {
    home: TempDir,
}

impl Disk {
    /// Makes one with an empty file system.
    pub(crate) fn formatted() -> Self {
        let disk = Self { home: tempfile::tempdir().expect("temporary directories can be made") };
        File::create(disk.medium()).and_then(|file| file.set_len(SIZE)).expect("the disk has its size");
        File::create(disk.device()).expect("there is a file to mount over");
        std::fs::create_dir(disk.root()).expect("there is a directory to mount over");
        run("mkfs.ext4", &["-q", "-F", "-E", "nodiscard"], &[disk.medium()]);
        disk
    }

    /// What survives a power cut.
    fn medium(&self) -> PathBuf {
        self.home.path().join("medium")
    }

    /// The disk as the kernel sees it.
    fn device(&self) -> PathBuf {
        self.home.path().join("device")
    }

    /// The root of its file system.
    fn root(&self) -> PathBuf {
        self.home.path().join("root")
    }

    /// Switches it on and mounts its file system, which recovers from what happened before.
    pub(crate) fn power_on(&self) -> Powered<'_> {
        let open = |path: &Path| {
            let file = OpenOptions::new().read(true).write(true).open(path);
            file.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let sectors = Arc::new(Mutex::new(Sectors::new(open(&self.medium()))));
        let connection = open(Path::new("/dev/fuse"));
        let kernel_side = connection.try_clone().expect("handles can be cloned");
        let served = Arc::clone(&sectors);
        let mut powered = Powered { disk: self, sectors, server: None };
        // The mounting process gets the connection as its input. The kernel sends its first request when it has mounted, so
        // the server may begin after that.
        let options = "fd=0,rootmode=100000,user_id=0,group_id=0";
        let mut mount = Command::new("mount");
        mount.args(["-i", "-t", "fuse", "-o", options, "weir-disk"]).arg(self.device());
        let mounted = mount.stdin(Stdio::from(kernel_side)).output().expect("mount can be run");
        assert!(mounted.status.success(), "{mount:?}: {}", String::from_utf8_lossy(&mounted.stderr));
        // The thread has the last handle of the connection: if it ends, the kernel gives up what waits for it.
        drop(mount);
        powered.server = Some(std::thread::spawn(move || {
            serve(&connection, &served).expect("the kernel keeps to its protocol");
        }));
        run("mount", &["-t", "ext4", "-o", "loop"], &[self.device(), self.root()]);
        powered
    }
}

/// A disk that is on. It is unmounted when dropped; whoever uses its files must have ended before.
#[derive(Debug)]
pub(crate) struct Powered<'a> {
    disk: &'a Disk,
    sectors: Arc<Mutex<Sectors>>,
    server: Option<JoinHandle<()>>,
}

impl Powered<'_> {
    /// A directory on the disk.
    pub(crate) fn data(&self) -> PathBuf {
        self.disk.root().join("data")
    }

    /// Cuts the power in place of the flush behind the next `flushes`.
    pub(crate) fn cut_after(&self, flushes: u64, random: Random) {
        self.sectors().cut_after(flushes, random);
    }

    /// Whether the power was cut.
    pub(crate) fn is_cut(&self) -> bool {
        self.sectors().cut_was().is_some()
    }

    /// Cuts the power now, if it was not, and says what the cut did.
    pub(crate) fn cut(&self, random: Random) -> Cut {
        let mut sectors = self.sectors();
        sectors.cut(random).expect("the medium can be written");
        sectors.cut_was().expect("the power was cut")
    }

    fn sectors(&self) -> MutexGuard<'_, Sectors> {
        self.sectors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Powered<'_> {
    fn drop(&mut self) {
        // The loop device goes with the file system on it, and only then the file below it: the server ends after both.
        for mounted in [self.disk.root(), self.disk.device()] {
            Command::new("umount").arg("--lazy").arg(mounted).stderr(Stdio::null()).status().ok();
        }
        if let Some(server) = self.server.take() {
            server.join().ok();
        }
    }
}

/// Runs a command that must succeed.
fn run(program: &str, options: &[&str], paths: &[PathBuf]) {
    let mut command = Command::new(program);
    command.args(options).args(paths);
    Process::start(command, LIMIT).finish().expect_code(0);
}
