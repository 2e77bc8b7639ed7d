//! The link: a file's note of which file goes on behind it.
//!
//! ```text
//! link = magic (8) , number of the next file u32 , reserved u32 , its base position u64 , journal id (16) , hash of the
//!        40 bytes before u64
//! ```
//!
//! It stands in the header page, in a sector of its own, so that writing it cannot damage the header. Without it, a file
//! that is gone together with all behind it would look like a journal that ends where that file began.

use std::io::IoSlice;

use bytes::BufMut;
use weir_protocol::read::Reader;
use weir_protocol::units::JournalPosition;
use xxhash_rust::xxh3::xxh3_64;

use super::JournalId;
use super::file::RingFile;
use crate::disk::{Context, DiskError, File};

/// Where it stands in the header page.
pub(super) const LINK_AT: usize = 512;

const MAGIC: [u8; 8] = *b"WEIRNEXT";
/// Where the hash stands, and how much it covers.
const HASH_AT: usize = 40;
pub(super) const LINK_BYTES: usize = HASH_AT + 8;

/// What a file says of the next one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Link {
    /// The number in the next file's name.
    pub(super) number: u32,
    /// Where in the journal it begins: where this one ends.
    pub(super) base: JournalPosition,
}

impl Link {
    pub(super) fn encode(&self, journal: JournalId) -> [u8; LINK_BYTES] {
        let mut bytes = [0; LINK_BYTES];
        let mut rest = &mut bytes[..];
        rest.put_slice(&MAGIC);
        rest.put_u32_le(self.number);
        rest.put_u32_le(0);
        rest.put_u64_le(self.base.get());
        rest.put_slice(&journal.to_bytes());
        assert!(rest.len() == 8, "the hash is all that is left");
        let hash = xxh3_64(&bytes[..HASH_AT]);
        bytes[HASH_AT..].copy_from_slice(&hash.to_le_bytes());
        bytes
    }

    /// Reads the link of a header page; `None` if there is none, or it is damaged: it is a proof, and nothing else.
    pub(super) fn decode(page: &[u8], journal: JournalId) -> Option<Self> {
        let bytes = page.get(LINK_AT..LINK_AT + LINK_BYTES)?;
        let mut reader = Reader::new(bytes);
        let hash = xxh3_64(reader.clone().take(HASH_AT).ok()?);
        if reader.take(MAGIC.len()).ok()? != MAGIC {
            return None;
        }
        let number = reader.u32().ok()?;
        reader.u32().ok()?;
        let base = JournalPosition::new(reader.u64().ok()?);
        let of = JournalId::from_bytes(reader.bytes16().ok()?);
        (reader.u64().ok()? == hash && of == journal).then_some(Self { number, base })
    }
}

impl<F: File> RingFile<F> {
    /// Notes, durably, that another file goes on behind this one. To be called before anything is written to that one.
    pub(super) fn write_link(&self, journal: JournalId, number: u32) -> Result<(), DiskError> {
        let link = Link { number, base: self.end() }.encode(journal);
        self.file.write_all_at(&[IoSlice::new(&link)], LINK_AT as u64).context("write", &self.path)?;
        self.file.sync_data().context("sync", &self.path)
    }
}
