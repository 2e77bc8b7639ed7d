//! What became of the records with keys of single topics.

use std::fmt::{self, Write as _};
use std::sync::{Mutex, PoisonError};

use weir_protocol::message::KeyedCounts;

use super::figure::Figure;

/// The counts of some topics, as they were when somebody last looked. Topics come and go, so these are no atomics; whoever counts
/// does not wait for whoever shows them, but for a moment once a second.
#[derive(Debug, Default)]
pub struct KeyedTopics(Mutex<Vec<(String, KeyedCounts)>>);

impl KeyedTopics {
    /// Replaces all counts.
    pub fn set(&self, topics: Vec<(String, KeyedCounts)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = topics;
    }
}

impl Figure for KeyedTopics {
    const KIND: &'static str = "counter";

    fn write(&self, name: &str, page: &mut String) -> fmt::Result {
        for (topic, counts) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let KeyedCounts { stored, duplicates, conflicts, expired, full } = counts;
            for (outcome, count) in [
                ("stored", stored),
                ("duplicate", duplicates),
                ("conflict", conflicts),
                ("expired", expired),
                ("full", full),
            ] {
                // Names of topics need no escaping.
                writeln!(page, "{name}{{topic=\"{topic}\",outcome=\"{outcome}\"}} {count}")?;
            }
        }
        Ok(())
    }
}
