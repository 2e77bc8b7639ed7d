//! Rare situations, seen from outside: a run over many seeds that never meets one of them proves less than it seems.

use std::collections::BTreeMap;

/// Something that should happen in some of the worlds.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Situation {
    /// A start found a half-written end of the journal and set it aside.
    Quarantine,
    /// A start found nothing to replay after a shutdown in order.
    CleanStart,
    /// The machine died in a call of a disk.
    CrashInCall,
    /// It died while it recovered.
    CrashInRecovery,
    /// A connection was lost while batches on it had no answer.
    ReconnectInFlight,
    /// A batch was answered as stored before.
    Duplicate,
    /// A batch was answered as soon as it was written.
    WrittenAnswer,
    /// A producer had batches, and no credit for them.
    OutOfCredit,
    /// A reader was not granted what was there for it.
    ReaderOutOfCredit,
    /// The broker stopped reading publish lanes.
    MemoryFull,
    /// A batch was refused because the disk was full.
    DiskFull,
    /// The journal had no room.
    JournalFull,
    /// A sync of the journal failed, and the broker ended.
    SyncFailed,
    /// Segments could not be written at first.
    FlushFailed,
    /// Records were read from segments.
    ColdRead,
    /// A read of segments failed, and the reader came back.
    ReadFailed,
    /// A reader was told of records that retention had removed.
    Gap,
    /// A batch was refused because another process had taken over the identity of its producer.
    Fence,
    /// A producer had to go on under another identity.
    NewIdentity,
    /// A batch had no result in time.
    TimedOut,
    /// Somebody waited for room in a producer's window.
    WindowFull,
    /// A sender gave up waiting for room.
    WaitCancelled,
    /// A client process died with records unanswered.
    ClientRestart,
    /// Segments were merged.
    Merge,
    /// A record was answered as stored before under its key.
    KeyDuplicate,
    /// A key belonged to another record.
    KeyConflict,
    /// A key was too old.
    KeyExpired,
    /// A key was looked for among those that were flushed.
    KeyProbe,
    /// What a record expected was not so.
    Unmet,
    /// A member was asked for a partition.
    Revoked,
    /// A lease ran out or was lost.
    LeaseLost,
    /// An acknowledgement was refused because its lease had ended.
    AckFenced,
    /// There was no memory for what was settled ahead.
    AckThrottled,
    /// A member left in order.
    Left,
}

impl Situation {
    pub(crate) const ALL: [Self; 34] = [
        Self::Quarantine,
        Self::CleanStart,
        Self::CrashInCall,
        Self::CrashInRecovery,
        Self::ReconnectInFlight,
        Self::Duplicate,
        Self::WrittenAnswer,
        Self::OutOfCredit,
        Self::ReaderOutOfCredit,
        Self::MemoryFull,
        Self::DiskFull,
        Self::JournalFull,
        Self::SyncFailed,
        Self::FlushFailed,
        Self::ColdRead,
        Self::ReadFailed,
        Self::Gap,
        Self::Fence,
        Self::NewIdentity,
        Self::TimedOut,
        Self::WindowFull,
        Self::WaitCancelled,
        Self::ClientRestart,
        Self::Merge,
        Self::KeyDuplicate,
        Self::KeyConflict,
        Self::KeyExpired,
        Self::KeyProbe,
        Self::Unmet,
        Self::Revoked,
        Self::LeaseLost,
        Self::AckFenced,
        Self::AckThrottled,
        Self::Left,
    ];
}

/// How often each situation was met.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage(BTreeMap<Situation, u64>);

impl Coverage {
    pub(crate) fn saw(&mut self, situation: Situation) {
        *self.0.entry(situation).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (situation, count) in &other.0 {
            *self.0.entry(*situation).or_default() += count;
        }
    }

    /// The situations that were never met.
    pub(crate) fn missed(&self) -> Vec<Situation> {
        Situation::ALL.into_iter().filter(|situation| !self.0.contains_key(situation)).collect()
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for situation in Situation::ALL {
            write!(f, " {situation:?} {}", self.0.get(&situation).copied().unwrap_or(0))?;
        }
        Ok(())
    }
}
