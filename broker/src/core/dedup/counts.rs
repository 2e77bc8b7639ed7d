//! What is counted of keyed records.

use weir_protocol::message::RecordFate;

/// Keyed records since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KeyCounts {
    /// They were new.
    pub stored: u64,
    /// They had been stored before.
    pub duplicates: u64,
    /// Their key belonged to another record.
    pub conflicts: u64,
    /// Their key was too old.
    pub expired: u64,
    /// There was no room for their key.
    pub full: u64,
}

impl KeyCounts {
    pub(super) const fn count(&mut self, fate: Option<&RecordFate>) {
        let counter = match fate {
            None => &mut self.stored,
            Some(RecordFate::Duplicate(_)) => &mut self.duplicates,
            Some(RecordFate::Conflict(_)) => &mut self.conflicts,
            Some(RecordFate::Expired) => &mut self.expired,
            Some(RecordFate::Full) => &mut self.full,
            Some(RecordFate::Off) => return,
        };
        *counter += 1;
    }
}
