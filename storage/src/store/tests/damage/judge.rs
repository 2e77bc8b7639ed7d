//! What may come of damage: everything is served; or what is damaged is refused, with its place; or the last block, which
//! nothing proves, is set aside. Nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;

use weir_protocol::units::{JournalPosition, Offset, PartitionKey};

use super::*;
use crate::disk::Mode;
use crate::state::NodeState;

/// Bytes of a block's header.
const BLOCK_HEADER_BYTES: u64 = 72;
/// Bytes of a batch in front of the producer's part, without voids.
const BROKER_SECTION_BYTES: u64 = 32;

/// What has come of damage.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Outcome {
    /// Nothing is missing.
    Served,
    /// The start is refused, and nothing was changed.
    StartRefused,
    /// Reads of the damaged records are refused; all others are served.
    ReadsRefused,
    /// The last block, which nothing proved, is in quarantine.
    SetAside,
    /// Of the last block, which nothing proved, not even the header is left to tell of it.
    NothingLeft,
}

/// Bytes of one file.
pub(super) type Place = (PathBuf, Range<u64>);

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Strike {
    /// The bytes that may have changed.
    pub(super) places: Vec<Place>,
    /// Whether it was one bit.
    pub(super) is_flip: bool,
    /// In words.
    pub(super) what: String,
}

/// A data directory to be damaged, and what was acknowledged to those outside.
#[derive(Debug)]
pub(in crate::store::tests) struct Subject {
    pub(in crate::store::tests) disk: SimDisk,
    pub(in crate::store::tests) model: Model,
    /// What was known before each acknowledgement that no checkpoint has seen.
    earlier: Vec<Model>,
    /// The blocks of these acknowledgements, in order, and what is behind them.
    blocks: Vec<Place>,
    /// Where the batches stand in segments.
    batches: Vec<(PartitionKey, Offset, Place)>,
}

impl Subject {
    pub(super) fn new(disk: SimDisk, model: Model, earlier: Vec<Model>, blocks: Vec<Place>) -> Self {
        let segments: Vec<_> = list(&disk)
            .into_keys()
            .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
            .collect();
        let mut batches = Vec::new();
        for path in &segments {
            let content = disk.content(path);
            for (partition, known) in &model.batches {
                for (base, _, bytes) in known {
                    if let Some(at) = content.windows(bytes.len()).position(|window| window == &bytes[..]) {
                        let at = at as u64;
                        let place = (path.clone(), at..at + bytes.len() as u64);
                        batches.push((*partition, *base, place));
                    }
                }
            }
        }
        assert!(segments.len() > 1 && batches.len() > 5, "the subject has several segments");
        let subject = Self { disk, model, earlier, blocks, batches };
        assert_eq!(subject.judge(&subject.disk.copy(), &Strike::default()), Outcome::Served);
        subject
    }

    /// All files, with their lengths.
    pub(super) fn files(&self) -> Vec<(PathBuf, u64)> {
        list(&self.disk).into_iter().map(|(path, bytes)| (path, bytes.len() as u64)).collect()
    }

    /// Opens a damaged copy and reads everything.
    ///
    /// # Panics
    /// If the outcome is not one that is promised.
    pub(super) fn judge(&self, disk: &SimDisk, strike: &Strike) -> Outcome {
        let what = &strike.what;
        let before = list(disk);
        let opened = match open(disk.clone(), data(), smallest(), at(100)) {
            Ok(opened) => opened,
            Err(error) => {
                assert!(
                    list(disk) == before,
                    "{what}: the start was refused, but changed something: {error}"
                );
                assert_says_where(&error, what);
                return Outcome::StartRefused;
            }
        };
        let report = &opened.report;
        let state = forget_trims(&opened.state);
        if state == forget_trims(&self.model.state) {
            let refused = self.refused(&opened, &self.model, strike);
            // A segment may have been replaced where the journal holds its records, and only there.
            let kept = list(disk);
            for (partition, base, (path, _)) in &self.batches {
                let is_kept = kept.get(path) == before.get(path);
                let is_served = !refused.contains(&(*partition, *base));
                assert!(is_kept || is_served, "{what}: {} was touched", path.display());
            }
            return if refused.is_empty() { Outcome::Served } else { Outcome::ReadsRefused };
        }
        let survived = self.earlier.iter().position(|model| forget_trims(&model.state) == state);
        let survived =
            survived.unwrap_or_else(|| panic!("{what}: acknowledged records are lost: {report:#?}"));
        let lost = self.blocks.get(survived..).expect("there is a block for each acknowledgement");
        let is_struck = |(path, range): &Place, bytes: u64| {
            let range = range.start..range.end.min(range.start.saturating_add(bytes));
            strike.places.iter().any(|(of, hit)| of == path && overlap(hit, &range))
        };
        assert!(is_struck(&lost[0], u64::MAX), "{what}: a block is gone, though it was not struck");
        let is_unproven = lost[1..].iter().all(|block| is_struck(block, BLOCK_HEADER_BYTES));
        assert!(is_unproven, "{what}: a block is gone, though a later one proves it");
        let refused = self.refused(&opened, &self.earlier[survived], strike);
        assert!(refused.is_empty(), "{what}: segments were not struck");
        match (&report.verdict, &report.quarantined) {
            (RecoveryVerdict::TornTail, Some(copy)) => {
                assert!(disk.open(copy, Mode::Read).is_ok(), "{what}: there is no copy");
                Outcome::SetAside
            }
            _ => {
                let is_left = lost.iter().any(|(path, block)| {
                    let position = usize::try_from(block.start).unwrap() + 16;
                    before[path][position..position + 8] != [0; 8]
                });
                assert!(!is_left, "{what}: a block is gone without a copy");
                Outcome::NothingLeft
            }
        }
    }

    /// Reads everything. Returns the batches that were refused, all of which must have been damaged.
    fn refused(
        &self,
        opened: &Opened<SimDisk>,
        model: &Model,
        strike: &Strike,
    ) -> BTreeSet<(PartitionKey, Offset)> {
        let what = &strike.what;
        let mut all = BTreeSet::new();
        for (partition, batches) in &model.batches {
            let log_start = opened.reader.log_start(*partition);
            for (base, end, bytes) in batches.iter().filter(|(_, end, _)| *end > log_start) {
                let from = (*base).max(log_start);
                match opened.reader.read(*partition, from, 1) {
                    Ok(chunk) => {
                        assert!(chunk.bytes == *bytes, "{what}: {partition} has other bytes at {from}");
                    }
                    Err(ReadError::Corrupt { from: refused, to }) => {
                        assert!(
                            refused == from && to >= *end,
                            "{what}: {refused}..{to} is not what is damaged"
                        );
                        let is_explained = self.explains(*partition, *base, strike);
                        assert!(is_explained, "{what}: {partition} is refused at {from} without a reason");
                        all.insert((*partition, *base));
                    }
                    Err(error) => panic!("{what}: {partition} cannot be read at {from}: {error}"),
                }
            }
        }
        all
    }

    /// Whether the batch itself was struck, or one before it in its run so that its length was lost.
    fn explains(&self, partition: PartitionKey, base: Offset, strike: &Strike) -> bool {
        let of = |(key, _, _): &&(PartitionKey, Offset, Place)| *key == partition;
        let Some((_, _, (path, _))) = self.batches.iter().filter(of).find(|(_, at, _)| *at == base) else {
            return false;
        };
        self.batches.iter().filter(of).any(|(_, at, (file, range))| {
            let mut critical = range.clone();
            if *at != base && strike.is_flip {
                // The length stands in the broker section, which has one more byte where records are void.
                critical.end = critical.start + BROKER_SECTION_BYTES + 1;
            }
            *at <= base
                && file == path
                && strike.places.iter().any(|(of, hit)| of == file && overlap(hit, &critical))
        })
    }
}

/// A refusal names a file or directory, and is none of the messages that tell of nothing but a failed call.
fn assert_says_where(error: &OpenError, what: &str) {
    let text = error.to_string();
    assert!(text.contains("/data"), "{what}: the refusal names no place: {text}");
    assert!(!matches!(error, OpenError::Disk(_) | OpenError::Journal(_)), "{what}: {text}");
}

/// Positions of log starts may be older where only the newest checkpoint knew them.
fn forget_trims(state: &NodeState) -> NodeState {
    let mut state = state.clone();
    for partition in state.partitions.values_mut() {
        partition.log_start = Offset::ZERO;
    }
    state
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

/// All files with their bytes.
pub(in crate::store::tests) fn list(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for directory in ["", "journal", "segments", "state", "quarantine"] {
        let directory = data().join(directory);
        for entry in disk.list(&directory).unwrap_or_default() {
            let path = directory.join(entry.name);
            files.insert(path.clone(), disk.content(&path));
        }
    }
    files
}

/// Finds the blocks of the journal from a position on.
pub(super) fn blocks(disk: &SimDisk, from: JournalPosition) -> Vec<Place> {
    let mut blocks: BTreeMap<u64, Place> = BTreeMap::new();
    for (path, bytes) in list(disk) {
        for (page, start) in bytes.chunks(4096).zip((0u64..).step_by(4096)) {
            if path.starts_with(data().join("journal")) && page.starts_with(b"WEIRBLK1") {
                let position = u64::from_le_bytes(page[16..24].try_into().unwrap());
                let payload = u32::from_le_bytes(page[8..12].try_into().unwrap());
                let length = BLOCK_HEADER_BYTES + u64::from(payload);
                blocks.insert(position, (path.clone(), start..start + length));
            }
        }
    }
    blocks.split_off(&from.get()).into_values().collect()
}
