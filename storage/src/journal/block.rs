//! The block: the unit in which frames are written, and the envelope that proves it is what and where it says.
//!
//! ```text
//! block  = header (72 bytes) , frames , zeros up to a multiple of 4096
//! header = magic (8) , length of the frames u32 , number of frames u32 , position u64 , follows u64 ,
//!          durable end u64 , incarnation u64 , reserved u64 , hash of the frames u64 , hash of the 64 bytes before u64
//! ```
//!
//! Both hashes are XXH3 with a seed made of the journal's identity, the incarnation and the position. So a block that
//! is left over from an earlier round of the ring, from before a recovery, or from somewhere else never passes, nor do
//! bytes that a producer chose. No length is believed before the header's hash was right.

use bytes::BufMut;
use weir_protocol::read::Reader;
use weir_protocol::units::{Incarnation, JournalPosition};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{Identity, JournalId};
use crate::disk::BLOCK_BYTES;
use crate::frame::FRAME_HEADER_BYTES;
use crate::limits::JOURNAL_BLOCK_PAYLOAD_BYTES_MAX;

/// Length of a block's header.
pub(super) const BLOCK_HEADER_BYTES: usize = 72;

pub(crate) const MAGIC: [u8; 8] = *b"WEIRBLK1";

/// Where the hash of the frames stands.
const PAYLOAD_HASH_AT: usize = 56;
/// Where the hash of the header stands, and how much it covers.
const HEADER_HASH_AT: usize = 64;

/// What a block says of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct BlockHeader {
    /// Where the block starts.
    pub(super) position: JournalPosition,
    /// Where the block before it ended: less than `position` if the rest of a file was left unused.
    pub(super) follows: JournalPosition,
    /// All below had been synced when the block was written.
    pub(super) durable_end: JournalPosition,
    /// Length of the frames.
    pub(super) payload_bytes: u32,
    /// How many frames there are.
    pub(super) frame_count: u32,
    /// Hash of the frames.
    pub(super) payload_hash: u64,
}

impl BlockHeader {
    /// How much of the journal the block takes.
    pub(super) fn length(&self) -> u64 {
        block_length(u64::from(self.payload_bytes))
    }

    /// Where the block ends.
    pub(super) fn end(&self) -> JournalPosition {
        self.position.advance(self.length())
    }

    /// The header's bytes.
    pub(super) fn encode(&self, identity: &Identity) -> [u8; BLOCK_HEADER_BYTES] {
        assert!(self.durable_end <= self.follows, "a block proves only what lies before it");
        assert!(self.follows <= self.position, "a block follows what lies before it");
        let mut bytes = [0; BLOCK_HEADER_BYTES];
        let mut rest = &mut bytes[..];
        rest.put_slice(&MAGIC);
        rest.put_u32_le(self.payload_bytes);
        rest.put_u32_le(self.frame_count);
        rest.put_u64_le(self.position.get());
        rest.put_u64_le(self.follows.get());
        rest.put_u64_le(self.durable_end.get());
        rest.put_u64_le(identity.incarnation.get());
        rest.put_u64_le(0);
        rest.put_u64_le(self.payload_hash);
        assert!(rest.len() == 8, "the hash of the header is all that is left");
        let hash = xxh3_64_with_seed(&bytes[..HEADER_HASH_AT], seed(identity, self.position));
        bytes[HEADER_HASH_AT..].copy_from_slice(&hash.to_le_bytes());
        bytes
    }

    /// The header at the start of `page`, if it is one of this identity for this position.
    pub(super) fn decode(page: &[u8], identity: &Identity, position: JournalPosition) -> Option<Self> {
        let raw = Raw::read(page)?;
        let hash = xxh3_64_with_seed(page.get(..HEADER_HASH_AT)?, seed(identity, position));
        if hash != raw.header_hash
            || raw.header.position != position
            || raw.incarnation != identity.incarnation
        {
            return None;
        }
        raw.header.is_sane().then_some(raw.header)
    }

    /// Whether its numbers are within their limits and in order.
    fn is_sane(&self) -> bool {
        let within_limits = self.payload_bytes <= JOURNAL_BLOCK_PAYLOAD_BYTES_MAX
            && u64::from(self.frame_count) * FRAME_HEADER_BYTES as u64 <= u64::from(self.payload_bytes);
        within_limits && self.durable_end <= self.follows && self.follows <= self.position
    }

    /// As [`BlockHeader::decode`], where the position is known only from the header itself.
    pub(super) fn decode_anywhere(page: &[u8], identity: &Identity) -> Option<Self> {
        Self::decode(page, identity, Raw::read(page)?.header.position)
    }

    /// Whether the page looks as if a block behind `end`, where the good blocks end, had been written here, though it is
    /// damaged: it says its position, or all but one of what the next block must say. An older block says neither.
    pub(super) fn resembles(
        page: &[u8],
        identity: &Identity,
        position: JournalPosition,
        end: JournalPosition,
    ) -> bool {
        let Some(raw) = Raw::read_any(page) else {
            return false;
        };
        let is_of_this_start = raw.incarnation == identity.incarnation;
        let has_position = raw.header.position == position;
        (has_position && (is_block(page) || is_of_this_start))
            || (is_block(page) && raw.header.follows == end && is_of_this_start)
    }

    /// Whether `payload` is what was written behind this header.
    pub(super) fn matches(&self, payload: &[u8], identity: &Identity) -> bool {
        xxh3_64_with_seed(payload, seed(identity, self.position)) == self.payload_hash
    }
}

/// A header as it stands there, whoever wrote it and whenever, for those who only look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inspected {
    /// What stands there.
    pub(super) header: BlockHeader,
    /// Which start of the node it names.
    pub(super) incarnation: Incarnation,
    /// Whether its hash is right; `None` if the journal's identity is not known.
    pub(super) is_right: Option<bool>,
}

impl Inspected {
    /// Looks at a page that starts as a block does.
    pub(super) fn read(page: &[u8], journal: Option<&JournalId>) -> Option<Self> {
        let Raw { header, incarnation, .. } = Raw::read(page)?;
        let is_right = journal.map(|journal| {
            let identity = Identity { journal: *journal, incarnation };
            BlockHeader::decode(page, &identity, header.position).is_some()
        });
        Some(Self { header, incarnation, is_right })
    }

    /// Whether its numbers are within their limits.
    pub(super) fn is_sane(&self) -> bool {
        // Positions are far from the end of 64 bits.
        self.header.is_sane() && self.header.position.get() <= u64::MAX / 2
    }

    /// Whether these are the frames that were written behind it.
    pub(super) fn matches(&self, payload: &[u8], journal: Option<&JournalId>) -> bool {
        journal.is_some_and(|journal| {
            self.header.matches(payload, &Identity { journal: *journal, incarnation: self.incarnation })
        })
    }
}

/// Whether a page was ever the start of a block, of whichever journal.
pub(super) fn is_block(page: &[u8]) -> bool {
    page.starts_with(&MAGIC)
}

/// How much of the journal a block with so many bytes of frames takes.
pub(super) fn block_length(payload_bytes: u64) -> u64 {
    (BLOCK_HEADER_BYTES as u64 + payload_bytes).next_multiple_of(BLOCK_BYTES)
}

/// What the hashes of a block are salted with.
pub(super) fn seed(identity: &Identity, position: JournalPosition) -> u64 {
    let mut salt = [0u8; 32];
    let mut rest = &mut salt[..];
    rest.put_slice(&identity.journal.to_bytes());
    rest.put_u64_le(identity.incarnation.get());
    rest.put_u64_le(position.get());
    xxh3_64(&salt)
}

/// A header as it stands there, believed in nothing.
struct Raw {
    header: BlockHeader,
    incarnation: Incarnation,
    header_hash: u64,
}

impl Raw {
    fn read(page: &[u8]) -> Option<Self> {
        is_block(page).then(|| Self::read_any(page)).flatten()
    }

    /// Reads what may be anything.
    fn read_any(page: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(page);
        reader.take(MAGIC.len()).ok()?;
        let payload_bytes = reader.u32().ok()?;
        let frame_count = reader.u32().ok()?;
        let position = JournalPosition::new(reader.u64().ok()?);
        let follows = JournalPosition::new(reader.u64().ok()?);
        let durable_end = JournalPosition::new(reader.u64().ok()?);
        let incarnation = Incarnation::new(reader.u64().ok()?);
        reader.u64().ok()?;
        assert!(reader.position() == PAYLOAD_HASH_AT, "the hashes come last");
        let payload_hash = reader.u64().ok()?;
        let header_hash = reader.u64().ok()?;
        let header = BlockHeader { position, follows, durable_end, payload_bytes, frame_count, payload_hash };
        Some(Self { header, incarnation, header_hash })
    }
}
