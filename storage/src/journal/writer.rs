//! The writer: frames in, blocks out, one sync for all that came together.

use std::path::Path;

use weir_protocol::units::{Incarnation, JournalPosition};

use super::block::{BLOCK_HEADER_BYTES, BlockHeader, seed};
use super::file::HEADER_PAGE_BYTES;
use super::placement::{Placement, PlannedBlock};
use super::replay::Replay;
use super::ring::{JournalOptions, Prepared, Ring};
use super::scratch::Scratch;
use super::{Identity, JournalError};
use crate::disk::{BLOCK_BYTES, Context, Disk, DiskError, File};
use crate::frame::{Frame, FrameSequence};
use crate::limits::{JOURNAL_BLOCK_PAYLOAD_BYTES_MAX, VIRTUAL_SHARDS};

/// The writing end of a journal.
///
/// Owned by one thread; all calls block. After a failed write or sync it is poisoned: what is on the disk is then
/// known only to the replay of the next start, so every later call fails.
#[derive(Debug)]
pub struct Journal<D: Disk> {
    ring: Ring<D>,
    identity: Identity,
    /// Where the next block starts, unless it must go to the next file.
    end: JournalPosition,
    /// All below is synced.
    durable_end: JournalPosition,
    /// The end after the last mark: marking again would say nothing new.
    marked_end: JournalPosition,
    /// Index of the live file that holds `end`.
    current: usize,
    /// Index of the first live file that was written to since the last sync.
    unsynced_from: usize,
    /// Of the next frame of each virtual shard. Counted from 0 in each incarnation.
    sequences: [FrameSequence; VIRTUAL_SHARDS as usize],
    poisoned: bool,
    scratch: Scratch,
}

/// What a commit has done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Committed {
    /// All frames that were written lie below.
    pub end: JournalPosition,
    /// How many frames, from the front, were written.
    pub written: usize,
    /// How much of the journal they take, with their blocks.
    pub bytes: u64,
}

/// Brings control frames to the front, as the journal wants them; the order among the others, and among themselves, stays.
pub fn control_first(frames: &mut [Frame]) {
    let rank = |frame: &Frame| u8::from(!frame.is_control());
    if !frames.is_sorted_by_key(rank) {
        frames.sort_by_key(rank);
    }
}

impl<D: Disk> Journal<D> {
    /// Makes a journal in a directory, which may not exist yet. Its first position is 0.
    ///
    /// Fills the first file with zeros; the others are made by [`Journal::prepare_spare`]. What a first start that
    /// died left behind is made anew, unless something was written to it.
    ///
    /// # Errors
    /// [`JournalError::Exists`], [`JournalError::Disk`].
    ///
    /// # Panics
    /// If the options make no ring.
    pub fn create(
        disk: D,
        directory: &Path,
        identity: Identity,
        options: JournalOptions,
    ) -> Result<Self, JournalError> {
        let ring = Ring::create(disk, directory, identity.journal, options)?;
        Ok(Self::over(ring, identity, JournalPosition::ZERO))
    }

    /// Goes on with a journal after its replay, at [`Replay::restart`], under a higher incarnation.
    ///
    /// All frames of the replay must be durable elsewhere, and so must be the new incarnation and the position:
    /// from now on the old blocks are overwritten.
    ///
    /// # Errors
    /// [`JournalError::Disk`].
    ///
    /// # Panics
    /// If the options make no ring, or the incarnation is not higher than the one that was replayed.
    pub fn resume(
        replay: Replay<D>,
        incarnation: Incarnation,
        options: JournalOptions,
    ) -> Result<Self, JournalError> {
        let replayed = replay.identity();
        assert!(incarnation > replayed.incarnation, "each start has an incarnation of its own");
        let restart = replay.restart();
        let (disk, directory, last) = replay.into_last();
        let ring = Ring::resume(disk, &directory, last, options)?;
        let identity = Identity { journal: replayed.journal, incarnation };
        Ok(Self::over(ring, identity, restart))
    }

    fn over(ring: Ring<D>, identity: Identity, start: JournalPosition) -> Self {
        Self {
            ring,
            identity,
            end: start,
            durable_end: start,
            marked_end: start,
            current: 0,
            unsynced_from: 0,
            sequences: [FrameSequence::default(); VIRTUAL_SHARDS as usize],
            poisoned: false,
            scratch: Scratch::default(),
        }
    }

    /// Writes frames, as many from the front as there is room for, and makes them durable with one sync.
    ///
    /// Brings control frames to the front first: `frames[..written]` is then what the journal holds, in its order.
    ///
    /// # Errors
    /// [`JournalError::Full`] and [`JournalError::TooLarge`] if not even the first fits: nothing has changed.
    /// [`JournalError::Disk`] if the disk failed, which poisons the journal, and [`JournalError::Poisoned`] after that.
    pub fn commit(&mut self, frames: &mut [Frame]) -> Result<Committed, JournalError> {
        let committed = self.write(frames)?;
        self.sync()?;
        Ok(committed)
    }

    /// As [`Journal::commit`], without the sync: the frames survive the death of the process, not of the machine.
    ///
    /// # Errors
    /// As [`Journal::commit`].
    pub fn write(&mut self, frames: &mut [Frame]) -> Result<Committed, JournalError> {
        self.check()?;
        control_first(frames);
        let start = self.end;
        if frames.is_empty() {
            return Ok(Committed { end: start, written: 0, bytes: 0 });
        }
        let blocks = self.plan(frames)?;
        let mut rest: &[Frame] = frames;
        for block in &blocks {
            let (of_block, after) = rest.split_at(block.frames);
            rest = after;
            let written = self.write_block(block.position, of_block);
            self.poison_if_failed(written)?;
        }
        let written = frames.len() - rest.len();
        Ok(Committed { end: self.end, written, bytes: self.end.since(start) })
    }

    /// Makes durable what was written. Returns the durable end.
    ///
    /// # Errors
    /// [`JournalError::Disk`] if the sync failed, which poisons the journal, and [`JournalError::Poisoned`] after that.
    pub fn sync(&mut self) -> Result<JournalPosition, JournalError> {
        self.check()?;
        if self.durable_end < self.end {
            let mut unsynced = self.ring.live.range(self.unsynced_from..=self.current);
            let synced = unsynced.try_for_each(|file| file.file.sync_data().context("sync", &file.path));
            self.poison_if_failed(synced)?;
            self.durable_end = self.end;
            self.unsynced_from = self.current;
        }
        Ok(self.durable_end)
    }

    /// Lets the space below a position be reused: the checkpoint, in both its slots, is past it.
    ///
    /// # Panics
    /// If the journal is not durable up to there.
    pub fn release(&mut self, below: JournalPosition) {
        assert!(below <= self.durable_end, "only what is durable elsewhere, too, can be released");
        let live = self.ring.live.len();
        // The file that is written to stays, and so does one that was not synced yet.
        self.ring.release(below, self.unsynced_from);
        let freed = live - self.ring.live.len();
        self.current -= freed;
        self.unsynced_from -= freed;
    }

    /// How many bytes data frames may still take, nearly: the ends of files may stay unused.
    pub fn room(&self) -> u64 {
        self.ring.limit().since(self.end).saturating_sub(self.ring.options.reserve_bytes)
    }

    /// How many bytes lie between the oldest file that is in use and the end.
    pub fn used_bytes(&self) -> u64 {
        self.ring.live.front().map_or(0, |first| self.end.since(first.base))
    }

    /// One bounded step, of about a millisecond, of work that later commits then need not do: giving the next file
    /// its place, making the files of a young ring, letting a ring that is nearly full grow. Call it, off the
    /// critical path, until it says [`Prepared::Done`].
    ///
    /// # Errors
    /// [`JournalError::Disk`] if the disk failed other than by being full, which poisons the journal, and
    /// [`JournalError::Poisoned`] after that.
    pub fn prepare_spare(&mut self) -> Result<Prepared, JournalError> {
        self.check()?;
        let prepared = self.ring.prepare(self.end);
        self.poison_if_failed(prepared)
    }

    /// Writes and syncs an empty block, which proves that all before it is durable. Does nothing if that is
    /// proved already, or if the space is needed more for control frames.
    ///
    /// # Errors
    /// [`JournalError::Disk`] if the disk failed, which poisons the journal, and [`JournalError::Poisoned`] after that.
    pub fn mark_idle(&mut self) -> Result<(), JournalError> {
        self.sync()?;
        if self.marked_end == self.end {
            return Ok(());
        }
        let mut placement = self.placement();
        let kept = self.ring.options.reserve_bytes / 2;
        let Some(position) =
            placement.place(BLOCK_BYTES).filter(|at| placement.left(*at) >= kept + BLOCK_BYTES)
        else {
            return Ok(());
        };
        let written = self.write_block(position, &[]);
        self.poison_if_failed(written)?;
        self.sync()?;
        self.marked_end = self.end;
        Ok(())
    }

    /// The position behind the last frame that was written.
    pub const fn end(&self) -> JournalPosition {
        self.end
    }

    /// The position below which all is durable.
    pub const fn durable_end(&self) -> JournalPosition {
        self.durable_end
    }

    /// What the journal's blocks are salted with.
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    fn check(&self) -> Result<(), JournalError> {
        if self.poisoned { Err(JournalError::Poisoned) } else { Ok(()) }
    }

    fn poison_if_failed<T>(&mut self, result: Result<T, DiskError>) -> Result<T, JournalError> {
        self.poisoned |= result.is_err();
        Ok(result?)
    }

    fn placement(&self) -> Placement {
        Placement::new(&self.ring, self.current, self.end)
    }

    /// Divides as many frames as there is room for into blocks.
    fn plan(&self, frames: &[Frame]) -> Result<Vec<PlannedBlock>, JournalError> {
        let mut placement = self.placement();
        let mut blocks = Vec::new();
        let mut rest = frames;
        while !rest.is_empty() {
            let Some(block) = placement.next_block(rest, self.ring.options.reserve_bytes) else {
                break;
            };
            let (_, after) = rest.split_at(block.frames);
            rest = after;
            blocks.push(block);
        }
        if !blocks.is_empty() {
            return Ok(blocks);
        }
        let first = frames.first().expect("there are frames to be written").length() as u64;
        let file = self.ring.options.file_bytes - HEADER_PAGE_BYTES;
        let max = (file - BLOCK_HEADER_BYTES as u64).min(u64::from(JOURNAL_BLOCK_PAYLOAD_BYTES_MAX));
        if first > max {
            return Err(JournalError::TooLarge { bytes: first, max });
        }
        Err(JournalError::Full)
    }

    /// Writes one block at its place, giving files their places up to there.
    fn write_block(&mut self, position: JournalPosition, frames: &[Frame]) -> Result<(), DiskError> {
        while self.ring.assigned_end() <= position {
            self.ring.assign()?;
        }
        while self.ring.live.get(self.current).is_some_and(|file| file.end() <= position) {
            self.current += 1;
        }
        if self.durable_end == self.end {
            self.unsynced_from = self.current;
        }
        let scratch = &mut self.scratch;
        scratch.clear();
        for frame in frames {
            let shard = usize::from(frame.virtual_shard().get());
            let sequence = self.sequences.get_mut(shard).expect("frames name one of the virtual shards");
            scratch.push(frame, *sequence);
            *sequence = sequence.next();
        }
        let header = BlockHeader {
            position,
            follows: self.end,
            durable_end: self.durable_end,
            payload_bytes: u32::try_from(scratch.payload_bytes()).expect("blocks are limited to 32 bits"),
            frame_count: u32::try_from(frames.len()).expect("blocks are limited to 32 bits"),
            payload_hash: scratch.hash(frames, seed(&self.identity, position)),
        };
        scratch.put_header(&header.encode(&self.identity));
        let slices = scratch.slices(frames, header.length());
        let file = self.ring.live.get(self.current).expect("the block's file has its place");
        file.file.write_all_at(&slices, file.byte(position)).context("write", &file.path)?;
        self.end = header.end();
        Ok(())
    }
}
