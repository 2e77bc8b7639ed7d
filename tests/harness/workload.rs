//! What a client process of `weir-workload` does, and how it is told.

use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::check::Level;

/// Values that one publisher may use.
pub const VALUES_EACH: u64 = 1 << 32;

/// Longest record.
pub const RECORD_BYTES_MAX: u64 = 3000;

/// What a client process does: one argument, as JSON.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Plan {
    /// Where the broker is.
    pub url: String,
    /// The topic, which is there.
    pub topic: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// The client's name in the history. Never used again.
    pub client: u32,
    /// Where the history goes.
    pub history: PathBuf,
    /// What else is random.
    pub seed: u64,
    /// Whether datagrams are as on a network, and not as on the loopback interface.
    pub as_on_network: bool,
    /// What it does.
    pub role: Role,
}

/// What a client process does.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sends records, until a line comes on its stdin; then it waits for the results of all and ends.
    Publish {
        /// What receipts are to promise.
        level: Level,
        /// How long a record may take.
        timeout_ms: u64,
        /// Longest pause between bursts.
        pause_ms: u64,
    },
    /// Reads from the first record on, until it has what a line on its stdin says: the ends of the partitions, as a JSON
    /// array.
    Read {
        /// Records after which it begins anew at its checkpoint.
        resume_after: u64,
    },
}

impl Plan {
    /// The command that runs it.
    ///
    /// # Panics
    /// Never: plans are plain data.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg(serde_json::to_string(self).expect("plans are plain data"));
        command
    }

    /// The first value this publisher sends.
    pub const fn first_value(&self) -> u64 {
        self.client as u64 * VALUES_EACH
    }
}
