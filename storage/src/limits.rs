//! Every limit of storage, with its reason.

use weir_protocol::limits::{BATCH_BYTES_LIMIT, BATCH_FRAME_OVERHEAD_BYTES};

/// Parts a node's state is divided into. Fixed for ever: it stands in every journal and state file.
pub const VIRTUAL_SHARDS: u16 = 16;

/// Longest single write through the page cache: larger ones cost up to five times the kernel time where the pages
/// are not cached yet.
pub const WRITE_BYTES_MAX: usize = 256 << 10;

/// Longest single write past the page cache: beyond it nothing is gained.
pub const WRITE_DIRECT_BYTES_MAX: usize = 1 << 20;

/// Slices in one write: the system's own limit.
pub const WRITE_SLICES_MAX: usize = 1024;

/// Pieces below this are copied together before they are written: a slice of its own costs more than the copy.
pub const WRITE_PIECE_BYTES_MIN: usize = 1 << 10;

/// Bytes of a block's frames at which the next frame starts another block, unless it is the only one.
pub const JOURNAL_BLOCK_BYTES_TARGET: usize = 2 << 20;

/// Longest body of a frame: the longest batch with its broker section.
pub const FRAME_BODY_BYTES_MAX: u32 = BATCH_BYTES_LIMIT + BATCH_FRAME_OVERHEAD_BYTES;

/// Longest frames of one block: one frame of any size, or many up to the target. A longer length is never believed.
pub const JOURNAL_BLOCK_PAYLOAD_BYTES_MAX: u32 = FRAME_BODY_BYTES_MAX + (64 << 10);

/// Length of a file of the journal's ring, by default.
pub const JOURNAL_FILE_BYTES_DEFAULT: u64 = 32 << 20;

/// Files the ring starts with, by default: 128 MiB hold what arrives while the flusher writes one segment.
pub const JOURNAL_FILES_DEFAULT: u32 = 4;

/// Files the ring may grow to, by default: 1 GiB can be replayed within two seconds.
pub const JOURNAL_FILES_MAX_DEFAULT: u32 = 32;

/// Fewest files of a ring: the one written to is never reused before another has taken its place.
pub const JOURNAL_FILES_MIN: u32 = 2;

/// Files of a ring, at most: their names have four digits.
pub const JOURNAL_FILES_LIMIT: u32 = 10_000;

/// Journal space that only control frames may use, by default: 256 commits of one small block.
pub const JOURNAL_RESERVE_BYTES_DEFAULT: u64 = 1 << 20;

/// Zeros written and synced by one step that prepares a ring file. Keeps the step near a millisecond.
pub const JOURNAL_PREPARE_BYTES: u64 = 1 << 20;

/// Bytes of a torn tail that are kept. What is beyond was never acknowledged either.
pub const QUARANTINE_BYTES_MAX: u64 = 64 << 20;

const _: () = assert!(
    JOURNAL_BLOCK_PAYLOAD_BYTES_MAX as u64 + 64 * 1024 <= JOURNAL_FILE_BYTES_DEFAULT,
    "the largest frame must fit a ring file of the default size"
);
const _: () = assert!(
    JOURNAL_BLOCK_BYTES_TARGET < JOURNAL_BLOCK_PAYLOAD_BYTES_MAX as usize,
    "a block of many frames must be within the format"
);
const _: () = assert!(JOURNAL_FILES_MIN <= JOURNAL_FILES_DEFAULT, "the default ring must be a ring");
const _: () =
    assert!(JOURNAL_FILES_DEFAULT <= JOURNAL_FILES_MAX_DEFAULT, "the ring starts within its bounds");
const _: () = assert!(JOURNAL_FILES_MAX_DEFAULT <= JOURNAL_FILES_LIMIT, "names have four digits");
