//! The record table: what a broker must know about single records, uncompressed beside the body.
//!
//! The table is a sequence of columns, each present only when some record needs it. A column has one entry for
//! every record. Columns stand in the order of their bits.

use bytes::BufMut;

use crate::error::{DecodeError, Problem};
use crate::limits::IDEMPOTENCY_KEY_BYTES_MAX;
use crate::read::Reader;
use crate::units::Timestamp;

/// 8 bytes a record: the hash that routed it.
const ROUTING_HASH: u16 = 1;
/// One length byte a record (0: none), then the keys one after the other.
const IDEMPOTENCY_KEY: u16 = 1 << 1;
/// 16 bytes a record.
const FINGERPRINT: u16 = 1 << 2;
/// 8 bytes a record: microseconds since the epoch, 0 for "at once".
const DELIVER_AT: u16 = 1 << 3;
/// 8 bytes a record: microseconds, 0 for "no limit".
const TIME_TO_LIVE: u16 = 1 << 4;

const COLUMNS_KNOWN: u16 = ROUTING_HASH | IDEMPOTENCY_KEY | FINGERPRINT | DELIVER_AT | TIME_TO_LIVE;

/// What the table says about one record.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TableRow<'a> {
    /// Hash that chose the partition; 0 where nothing did.
    pub routing_hash: u64,
    /// Key under which a retry is recognised: 1 to 64 bytes.
    pub idempotency_key: Option<&'a [u8]>,
    /// Hash over what makes two records with one key the same; zero where there is no key.
    pub fingerprint: [u8; 16],
    /// Not to be delivered before this moment.
    pub deliver_at: Option<Timestamp>,
    /// Not to be delivered later than this many microseconds after it was appended.
    pub time_to_live_us: Option<u64>,
}

/// A verified record table.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RecordTable<'a> {
    routing_hashes: &'a [u8],
    key_lengths: &'a [u8],
    keys: &'a [u8],
    fingerprints: &'a [u8],
    deliver_at: &'a [u8],
    time_to_live: &'a [u8],
    record_count: u32,
}

impl<'a> RecordTable<'a> {
    /// Verifies that `bytes` is exactly the table of `record_count` records with these columns.
    pub(crate) fn decode(columns: u16, record_count: u32, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if columns & !COLUMNS_KNOWN != 0 {
            let problem = Problem::Invalid { what: "table columns", value: u64::from(columns) };
            return Err(reader.error(problem));
        }
        let rows = record_count as usize;
        let mut column = |bit: u16, width: usize| {
            if columns & bit == 0 { Ok(&[][..]) } else { reader.take(rows * width) }
        };
        let mut table = Self { record_count, routing_hashes: column(ROUTING_HASH, 8)?, ..Self::default() };
        table.key_lengths = column(IDEMPOTENCY_KEY, 1)?;
        let mut keys_bytes = 0;
        for (row, length) in table.key_lengths.iter().enumerate() {
            let length = usize::from(*length);
            if length > IDEMPOTENCY_KEY_BYTES_MAX {
                let problem = Problem::TooLarge {
                    what: "idempotency key length",
                    value: length as u64,
                    max: IDEMPOTENCY_KEY_BYTES_MAX as u64,
                };
                return Err(DecodeError::new(table.routing_hashes.len() + row, problem));
            }
            keys_bytes += length;
        }
        table.keys = reader.take(keys_bytes)?;
        let mut column = |bit: u16, width: usize| {
            if columns & bit == 0 { Ok(&[][..]) } else { reader.take(rows * width) }
        };
        table.fingerprints = column(FINGERPRINT, 16)?;
        table.deliver_at = column(DELIVER_AT, 8)?;
        table.time_to_live = column(TIME_TO_LIVE, 8)?;
        reader.finish()?;
        Ok(table)
    }

    /// Whether any record has an idempotency key.
    pub const fn has_idempotency_keys(&self) -> bool {
        !self.key_lengths.is_empty()
    }

    /// The rows, one for each record, in order. Without any column all rows are empty.
    pub fn rows(self) -> impl Iterator<Item = TableRow<'a>> {
        let mut keys = Reader::new(self.keys);
        (0..self.record_count as usize).map(move |row| TableRow {
            routing_hash: number_at(self.routing_hashes, row),
            idempotency_key: match self.key_lengths.get(row) {
                None | Some(0) => None,
                Some(length) => keys.take(usize::from(*length)).ok(),
            },
            fingerprint: self.fingerprints.as_chunks().0.get(row).copied().unwrap_or_default(),
            deliver_at: match number_at(self.deliver_at, row) {
                0 => None,
                micros => Some(Timestamp::from_micros(micros.cast_signed())),
            },
            time_to_live_us: match number_at(self.time_to_live, row) {
                0 => None,
                micros => Some(micros),
            },
        })
    }
}

fn number_at(column: &[u8], row: usize) -> u64 {
    column.as_chunks().0.get(row).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Collects rows and writes only the columns that some row needs.
#[derive(Debug, Default)]
pub struct TableBuilder {
    rows: usize,
    columns: u16,
    routing_hashes: Vec<u64>,
    key_lengths: Vec<u8>,
    keys: Vec<u8>,
    fingerprints: Vec<[u8; 16]>,
    deliver_at: Vec<i64>,
    time_to_live: Vec<u64>,
}

impl TableBuilder {
    /// Adds the row of the next record.
    ///
    /// # Panics
    /// If the idempotency key is empty or too long: callers check it first.
    pub fn push(&mut self, row: &TableRow<'_>) {
        let earlier = self.rows;
        self.rows += 1;
        let plain =
            row.idempotency_key.is_none() && row.deliver_at.is_none() && row.time_to_live_us.is_none();
        if self.columns == 0 && plain {
            return;
        }
        if let Some(key) = row.idempotency_key {
            assert!(
                (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()),
                "an idempotency key has 1 to 64 bytes"
            );
            self.columns |= IDEMPOTENCY_KEY | FINGERPRINT | ROUTING_HASH;
        }
        if row.deliver_at.is_some() {
            self.columns |= DELIVER_AT;
        }
        if row.time_to_live_us.is_some() {
            self.columns |= TIME_TO_LIVE;
        }
        // Rows before the first that needed a table are filled in as empty.
        self.routing_hashes.resize(earlier, 0);
        self.key_lengths.resize(earlier, 0);
        self.fingerprints.resize(earlier, [0; 16]);
        self.deliver_at.resize(earlier, 0);
        self.time_to_live.resize(earlier, 0);
        let key = row.idempotency_key.unwrap_or(&[]);
        self.routing_hashes.push(row.routing_hash);
        self.key_lengths.push(u8::try_from(key.len()).expect("at most 64"));
        self.keys.extend_from_slice(key);
        self.fingerprints.push(row.fingerprint);
        self.deliver_at.push(row.deliver_at.map_or(0, Timestamp::as_micros));
        self.time_to_live.push(row.time_to_live_us.unwrap_or(0));
    }

    /// The columns the table has, as a bit set.
    pub const fn columns(&self) -> u16 {
        self.columns
    }

    /// Bytes of all idempotency keys.
    pub(crate) const fn keys_length(&self) -> usize {
        self.keys.len()
    }

    /// Bytes the table takes, with the rows there are now.
    pub const fn length(&self) -> usize {
        let mut width = 0;
        if self.columns & ROUTING_HASH != 0 {
            width += 8;
        }
        if self.columns & IDEMPOTENCY_KEY != 0 {
            width += 1;
        }
        if self.columns & FINGERPRINT != 0 {
            width += 16;
        }
        if self.columns & DELIVER_AT != 0 {
            width += 8;
        }
        if self.columns & TIME_TO_LIVE != 0 {
            width += 8;
        }
        self.rows * width + self.keys.len()
    }

    /// Writes the table.
    pub fn encode(&self, out: &mut impl BufMut) {
        if self.columns & ROUTING_HASH != 0 {
            self.routing_hashes.iter().for_each(|hash| out.put_u64_le(*hash));
        }
        if self.columns & IDEMPOTENCY_KEY != 0 {
            out.put_slice(&self.key_lengths);
            out.put_slice(&self.keys);
        }
        if self.columns & FINGERPRINT != 0 {
            self.fingerprints.iter().for_each(|fingerprint| out.put_slice(fingerprint));
        }
        if self.columns & DELIVER_AT != 0 {
            self.deliver_at.iter().for_each(|moment| out.put_i64_le(*moment));
        }
        if self.columns & TIME_TO_LIVE != 0 {
            self.time_to_live.iter().for_each(|micros| out.put_u64_le(*micros));
        }
    }
}
