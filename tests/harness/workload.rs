//! What a client process of `weir-workload` does, and how it is told. The values it sends, and the bytes these stand for.

use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::Random;
use crate::check::Level;

/// Values that one publisher may use.
pub const VALUES_EACH: u64 = 1 << 32;

/// Longest record.
const RECORD_BYTES_MAX: u64 = 3000;

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

/// The bytes of a value: nobody could have made them by chance.
pub fn payload(value: u64) -> Vec<u8> {
    let mut random = Random::new(value);
    let length = random.between(8, RECORD_BYTES_MAX);
    let mut bytes = value.to_le_bytes().to_vec();
    while (bytes.len() as u64) < length {
        bytes.extend(random.next().to_le_bytes());
    }
    bytes
}

/// The value that bytes stand for, if a publisher made them.
pub fn value_of(bytes: &[u8]) -> Option<u64> {
    let value = u64::from_le_bytes(*bytes.first_chunk()?);
    (payload(value) == bytes).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stand_for_a_value_only_as_they_were_made() {
        for value in [0, 1, 5 * VALUES_EACH + 17, u64::MAX] {
            let bytes = payload(value);
            assert_eq!(value_of(&bytes), Some(value));
            let mut other = bytes.clone();
            *other.last_mut().unwrap() ^= 1;
            assert_eq!(value_of(&other), None, "one bit differs");
            assert_eq!(value_of(&bytes[..bytes.len() - 1]), None, "the last byte is gone");
        }
    }
}
