//! The broker's process: the machines of a node over a simulated disk, driven as the real threads drive them, but one step
//! at a time, so that the world can end between any two of them.

mod keys;
mod node;
mod storage;

use std::path::Path;

use harness::Random;
use weir_broker::core::NodeLimits;
use weir_protocol::message::ServerLimits;
use weir_protocol::units::Timestamp;
use weir_storage::disk::SimDisk;
use weir_storage::journal::{JournalError, ReplayError};
use weir_storage::store::{OpenError, OpenOptions, RecoveryVerdict};

use crate::coverage::{Coverage, Situation};
pub(crate) use node::{Effect, Process};
pub(crate) use storage::Trouble;

/// Where the data is.
pub(crate) const DATA: &str = "/data";

/// A part of the process with a turn of its own: a thread of the real broker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    Node,
    Journal,
    Flusher,
    Cold,
}

impl Part {
    pub(crate) const ALL: [Self; 4] = [Self::Node, Self::Journal, Self::Flusher, Self::Cold];
}

/// How large everything is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) open: OpenOptions,
    pub(crate) node: NodeLimits,
    pub(crate) server: ServerLimits,
    pub(crate) flush_bytes: u64,
    /// Idempotency keys of unflushed batches.
    pub(crate) recent_keys: u64,
}

/// The machine a broker runs on: its disk, and the process while it lives.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) disk: SimDisk,
    pub(crate) process: Option<Process>,
    /// How many processes there have been.
    pub(crate) life: u32,
    sizes: Sizes,
    random: Random,
}

/// Why a start failed.
#[derive(Debug)]
pub(crate) enum StartFailure {
    /// The disk did: another start may succeed.
    Disk,
    /// What is on the disk is not understood: a defect, since the disk only lost what it may lose.
    Refused(String),
}

impl Broker {
    pub(crate) fn new(sizes: Sizes, random: Random) -> Self {
        Self { disk: SimDisk::new(), process: None, life: 0, sizes, random }
    }

    /// Starts a process, which recovers what is on the disk.
    pub(crate) fn start(&mut self, wall: Timestamp, coverage: &mut Coverage) -> Result<(), StartFailure> {
        self.life += 1;
        let opened = weir_storage::store::open(self.disk.clone(), Path::new(DATA), self.sizes.open, wall);
        let opened = opened.map_err(|error| match error {
            OpenError::Disk(_)
            | OpenError::Journal(JournalError::Disk(_))
            | OpenError::Replay(ReplayError::Disk(_)) => StartFailure::Disk,
            other => StartFailure::Refused(other.to_string()),
        })?;
        if opened.report.quarantined.is_some() {
            coverage.saw(Situation::Quarantine);
        }
        if opened.report.verdict == RecoveryVerdict::Clean {
            coverage.saw(Situation::CleanStart);
        }
        self.process = Some(Process::new(opened, &self.sizes, self.random.fork()));
        Ok(())
    }

    /// The process is gone, but the machine lives on.
    pub(crate) fn kill(&mut self) {
        self.process = None;
        self.disk.kill();
    }

    /// The machine loses power.
    pub(crate) fn cut_power(&mut self) {
        self.process = None;
        self.disk.crash(self.random.next());
    }
}
