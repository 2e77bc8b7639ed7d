//! Replay: the frames behind a checkpoint, and the decision where the journal ends.
//!
//! Recovery never ends a journal at the first bad block just because it is bad. It looks through all that lies
//! behind: if any block there, or the checkpoint, says that the journal had been durable beyond the bad block, then
//! what was acknowledged is damaged, and nothing is done but to say so. Otherwise the rest is a torn tail.

use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use weir_protocol::units::{JournalPosition, VirtualShard};
use weir_protocol::{DecodeError, Problem};

use super::block::{BLOCK_HEADER_BYTES, BlockHeader};
use super::chain::{chain, corrupt, find_needed};
use super::error::{Damage, DamagedPart, Proof, ReplayError};
use super::file::{self, FileHeader, RingFile};
use super::salvage::Hole;
use super::scan::Evidence;
use super::{Identity, quarantine};
use crate::disk::{Disk, DiskError};
use crate::frame::{Frame, FrameSequence, ReadFrame};
use crate::limits::{QUARANTINE_BYTES_MAX, VIRTUAL_SHARDS};

/// From where to replay, and what is known besides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReplayFrom {
    /// The journal, and the incarnation that wrote what is to be replayed.
    pub identity: Identity,
    /// Everything below has been applied.
    pub applied: JournalPosition,
    /// Everything below is known to have been durable: the end that a clean shutdown recorded, or `applied`.
    pub proven: JournalPosition,
}

/// How a journal ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Tail {
    /// Behind the last frame there is nothing.
    Clean,
    /// Behind the last frame there is what a crash left of writes that nobody was promised.
    Torn {
        /// Where that lies.
        positions: Range<JournalPosition>,
    },
}

/// A journal that was verified from the checkpoint to its end, and whose frames can now be read.
#[derive(Debug)]
pub struct Replay<D: Disk> {
    pub(super) disk: D,
    directory: PathBuf,
    pub(super) from: ReplayFrom,
    /// Files from the one with the checkpoint on, in order, without gaps.
    pub(super) chain: Vec<RingFile<D::File>>,
    /// The good blocks: index of the file in the chain, and header.
    pub(super) blocks: Vec<(usize, BlockHeader)>,
    /// How many of the blocks have been read.
    pub(super) read: usize,
    /// For each virtual shard, the sequence of its next frame, once it is known.
    pub(super) sequences: Sequences,
    /// For each virtual shard, the sequence of its first frame behind the last hole.
    pub(super) firsts: Sequences,
    /// The parts of the journal that were given up, each with the number of good blocks before it.
    pub(super) holes: Vec<Hole>,
    /// Files whose header page is damaged, and what it said.
    pub(super) unheaded: Vec<PathBuf>,
    pub(super) end: JournalPosition,
    /// Where the block that comes next may say that the one before it ended: at `end`, or in the hole before.
    pub(super) follows: JournalPosition,
    tail: Tail,
}

/// A frame sequence for each virtual shard, where it is known.
pub(super) type Sequences = [Option<FrameSequence>; VIRTUAL_SHARDS as usize];

impl<D: Disk> Replay<D> {
    /// Verifies a journal and finds its end. Changes nothing.
    ///
    /// Reads every block behind the checkpoint, from the medium, and the rest of the files behind the last block.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn open(disk: D, directory: &Path, from: ReplayFrom) -> Result<Self, ReplayError> {
        let found = file::find(&disk, directory, from.identity.journal)?;
        let (placed, unplaced): (Vec<_>, Vec<_>) = found.into_iter().partition(|file| file.header.is_some());
        find_needed(&unplaced, &from)?;
        let chain = chain(placed, &from, directory)?;
        let mut replay = Self::over(disk, directory, from, chain);
        let bad = replay.verify_blocks()?;
        replay.decide(bad)?;
        Ok(replay)
    }

    pub(super) fn over(disk: D, directory: &Path, from: ReplayFrom, chain: Vec<RingFile<D::File>>) -> Self {
        Self {
            disk,
            directory: directory.to_owned(),
            chain,
            blocks: Vec::new(),
            read: 0,
            sequences: Sequences::default(),
            firsts: Sequences::default(),
            holes: Vec::new(),
            unheaded: Vec::new(),
            end: from.applied,
            follows: from.applied,
            tail: Tail::Clean,
            from,
        }
    }

    /// What the journal's blocks are salted with.
    pub const fn identity(&self) -> Identity {
        self.from.identity
    }

    /// The position behind the last frame.
    pub const fn end(&self) -> JournalPosition {
        self.end
    }

    /// How the journal ends.
    pub const fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Where the next incarnation starts: behind all that any block was ever written to, so that positions never
    /// repeat. To be recorded in the checkpoint before [`super::Journal::resume`].
    pub fn restart(&self) -> JournalPosition {
        self.chain.last().map_or(self.end, RingFile::end)
    }

    /// How many bytes of blocks are replayed.
    pub fn bytes(&self) -> u64 {
        self.blocks.iter().map(|(_, block)| block.length()).sum()
    }

    /// The frames of the next block, in order, with the position behind it; `None` at the end. Empty for a mark.
    ///
    /// # Errors
    /// [`ReplayError::Unreadable`], [`ReplayError::Disk`].
    pub fn next_block(&mut self) -> Result<Option<(Vec<ReadFrame>, JournalPosition)>, ReplayError> {
        let block = self.blocks.get(self.read);
        let Some((file, header)) = block.and_then(|(index, header)| Some((self.chain.get(*index)?, header)))
        else {
            return Ok(None);
        };
        let mut payload = vec![0; header.payload_bytes as usize];
        let byte = file.byte(header.position) + BLOCK_HEADER_BYTES as u64;
        file.read(&mut payload, byte)?;
        if !header.matches(&payload, &self.from.identity) {
            let error = std::io::Error::other("a second read gave other bytes than the first");
            return Err(DiskError { action: "read", path: file.path.clone(), source: error }.into());
        }
        let total = payload.len();
        let mut payload = Bytes::from(payload);
        let mut frames = Vec::with_capacity(header.frame_count as usize);
        while !payload.is_empty() {
            let at = total - payload.len();
            frames.push(Frame::decode(&mut payload).map_err(|error| ReplayError::Unreadable {
                path: file.path.clone(),
                position: header.position,
                error: error.shifted(at),
            })?);
        }
        let end = header.end();
        self.read += 1;
        Ok(Some((frames, end)))
    }

    /// Copies a torn tail to a file in `quarantine` and makes the copy durable. Does nothing to a clean end. To be
    /// called before [`super::Journal::resume`], which lets the tail be overwritten.
    ///
    /// # Errors
    /// If the copy could not be written.
    pub fn set_aside(&self, quarantine: &Path) -> Result<Option<PathBuf>, DiskError> {
        match &self.tail {
            Tail::Clean => Ok(None),
            Tail::Torn { positions } => {
                let identity = &self.from.identity;
                let end = positions.end.min(positions.start.advance(QUARANTINE_BYTES_MAX));
                let name = quarantine::name(identity, positions.start, "torn");
                let range = &(positions.start..end);
                quarantine::copy(&self.disk, (quarantine, &name), self.chain.iter(), range).map(Some)
            }
        }
    }

    /// What the writer needs of a replay that is over.
    pub(super) fn into_last(self) -> (D, PathBuf, FileHeader) {
        let last = self.chain.last().expect("the chain holds the checkpoint");
        let journal = self.from.identity.journal;
        let header = FileHeader { journal, number: last.number, bytes: last.bytes, base: Some(last.base) };
        (self.disk, self.directory, header)
    }

    /// Follows the good blocks from the checkpoint on. Returns the header of the block after them if it is good but
    /// its frames are not.
    pub(super) fn verify_blocks(&mut self) -> Result<Option<BlockHeader>, ReplayError> {
        let mut payload = Vec::new();
        while let Some((index, header)) = self.next_header()? {
            let file = self.chain.get(index).expect("headers are found in files of the chain");
            let byte = file.byte(header.position);
            if header.length() > file.bytes - byte {
                return Ok(Some(header));
            }
            payload.resize(header.payload_bytes as usize, 0);
            let at = byte + BLOCK_HEADER_BYTES as u64;
            file.read(&mut payload, at)?;
            if !header.matches(&payload, &self.from.identity) {
                return Ok(Some(header));
            }
            check_frames(&payload, &header, &file.path, (&mut self.sequences, &mut self.firsts))?;
            self.end = header.end();
            self.follows = self.end;
            self.blocks.push((index, header));
        }
        Ok(None)
    }

    /// The header of the block that follows the end: right there or, if the rest of the file was left unused, at the
    /// start of a later one.
    fn next_header(&self) -> Result<Option<(usize, BlockHeader)>, ReplayError> {
        let mut page = [0; BLOCK_HEADER_BYTES];
        for (index, file) in self.chain.iter().enumerate() {
            let position = self.end.max(file.base);
            if file.end() <= self.end {
                continue;
            }
            file.read(&mut page, file.byte(position))?;
            let header = BlockHeader::decode(&page, &self.from.identity, position);
            let follows = self.follows..=self.end;
            if let Some(header) = header.filter(|header| follows.contains(&header.follows)) {
                return Ok(Some((index, header)));
            }
        }
        Ok(None)
    }

    /// Decides whether what lies behind the last good block is damage or a torn tail. `bad` is the block that follows,
    /// if there is one of which only the frames are damaged.
    pub(super) fn decide(&mut self, bad: Option<BlockHeader>) -> Result<(), ReplayError> {
        let mut evidence = Evidence::none(bad.map_or(self.end, |header| header.position));
        for file in self.chain.iter().filter(|file| file.end() > self.end) {
            evidence.gather(file, self.end, &self.from.identity)?;
        }
        let recorded = Proof::Recorded { durable_end: self.from.proven };
        let files = self.proof_of_files();
        let proofs = evidence.proof.into_iter().chain(files).chain([(self.from.proven, recorded)]);
        let (durable_end, proof) = proofs.max_by_key(|(durable_end, _)| *durable_end).expect("there are two");
        if durable_end > self.end {
            let from = bad.map_or(self.end, |header| header.position);
            let next = evidence.next.filter(|next| *next < durable_end && *next > from);
            return Err(corrupt(self.damage(from..next.unwrap_or(durable_end), proof)));
        }
        if let Some(end) = evidence.end {
            self.tail = Tail::Torn { positions: self.end..end };
        }
        Ok(())
    }

    /// What lies between two positions, in as many files as that is.
    fn damage(&self, positions: Range<JournalPosition>, proof: Proof) -> Damage {
        let mut parts = Vec::new();
        for file in &self.chain {
            let from = positions.start.max(file.base);
            let to = positions.end.min(file.end());
            if from < to {
                parts.push(DamagedPart { path: file.path.clone(), bytes: file.byte(from)..file.byte(to) });
            }
        }
        Damage { parts, positions, proof }
    }
}

/// Checks that the frames of a block are as many as it says, and that none is missing before or between them.
fn check_frames(
    payload: &[u8],
    header: &BlockHeader,
    path: &Path,
    (sequences, firsts): (&mut Sequences, &mut Sequences),
) -> Result<(), ReplayError> {
    let position = header.position;
    let unreadable = |error| ReplayError::Unreadable { path: path.to_owned(), position, error };
    let mut rest = payload;
    let mut count = 0;
    while !rest.is_empty() {
        let place = Frame::peek(rest).map_err(unreadable)?;
        let after = rest.split_at_checked(place.length).map(|(_, after)| after);
        let Some(after) = after else {
            let problem = Problem::Truncated { needed: place.length, available: rest.len() };
            return Err(unreadable(DecodeError::new(payload.len() - rest.len(), problem)));
        };
        rest = after;
        count += 1;
        let shard = usize::from(place.virtual_shard.get());
        let next = sequences.get_mut(shard).expect("frames name one of the virtual shards");
        if let Some(expected) = next.filter(|expected| *expected != place.sequence) {
            let shard: VirtualShard = place.virtual_shard;
            return Err(ReplayError::Gap {
                path: path.to_owned(),
                position,
                shard,
                expected,
                found: place.sequence,
            });
        }
        *next = Some(place.sequence.next());
        firsts.get_mut(shard).expect("as many as sequences").get_or_insert(place.sequence);
    }
    if count != header.frame_count {
        let problem = Problem::Mismatch {
            what: "number of frames",
            value: u64::from(count),
            expected: u64::from(header.frame_count),
        };
        return Err(unreadable(DecodeError::new(payload.len(), problem)));
    }
    Ok(())
}
