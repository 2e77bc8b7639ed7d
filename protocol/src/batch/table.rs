//! The record table: what a broker must know about single records, uncompressed beside the body.
//!
//! The table is a sequence of columns, each present only when some record needs it. A column has one entry for
//! every record. Columns stand in the order of their bits.

use bytes::BufMut;

use crate::batch::Expectation;
use crate::error::{DecodeError, Problem};
use crate::limits::IDEMPOTENCY_KEY_BYTES_MAX;
use crate::read::Reader;
use crate::units::Timestamp;

/// 8 bytes a record: the hash that routed it, 0 without an idempotency key.
const ROUTING_HASH: u16 = 1;
/// One length byte a record (0: none), then the keys one after the other.
const IDEMPOTENCY_KEY: u16 = 1 << 1;
/// 16 bytes a record.
const FINGERPRINT: u16 = 1 << 2;
/// 8 bytes a record: microseconds since the epoch, 0 for "at once".
const DELIVER_AT: u16 = 1 << 3;
/// 8 bytes a record: microseconds, 0 for "no limit".
const TIME_TO_LIVE: u16 = 1 << 4;
/// 9 bytes a record: what must be true for it to be stored.
const EXPECTATION: u16 = 1 << 5;
/// 16 bytes a record: hash of its key, zeros for a record without one.
const RECORD_KEY: u16 = 1 << 6;
/// 8 bytes a record: when its idempotency key was made, microseconds since the epoch, 0 for "it does not say".
const KEY_TIME: u16 = 1 << 7;

const COLUMNS_KNOWN: u16 = ROUTING_HASH
    | IDEMPOTENCY_KEY
    | FINGERPRINT
    | DELIVER_AT
    | TIME_TO_LIVE
    | EXPECTATION
    | RECORD_KEY
    | KEY_TIME;

/// What stands in the column of keys for a record that has none.
const NO_KEY: [u8; 16] = [0; 16];

/// What the table says about one record.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TableRow<'a> {
    /// Hash that chose the partition; 0 where there is no idempotency key.
    pub routing_hash: u64,
    /// Key under which a retry is recognised: 1 to 64 bytes.
    pub idempotency_key: Option<&'a [u8]>,
    /// Hash over what makes two records with one key the same; zero where there is no key.
    pub fingerprint: [u8; 16],
    /// Not to be delivered before this moment.
    pub deliver_at: Option<Timestamp>,
    /// Not to be delivered later than this many microseconds after it was appended.
    pub time_to_live_us: Option<u64>,
    /// What must be true for it to be stored.
    pub expectation: Option<Expectation>,
    /// Hash of its key, where the broker is to know it. Zeros say that the record has none: they are read as `None`.
    pub record_key: Option<[u8; 16]>,
    /// When its idempotency key was made, if that is said. Dropped without a key.
    pub key_time: Option<Timestamp>,
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
    expectations: &'a [u8],
    record_keys: &'a [u8],
    key_times: &'a [u8],
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
        let expectations_at = reader.position();
        let mut column = |bit: u16, width: usize| {
            if columns & bit == 0 { Ok(&[][..]) } else { reader.take(rows * width) }
        };
        table.expectations = column(EXPECTATION, Expectation::BYTES)?;
        table.record_keys = column(RECORD_KEY, NO_KEY.len())?;
        table.key_times = column(KEY_TIME, 8)?;
        reader.finish()?;
        table.check_expectations(expectations_at)?;
        Ok(table)
    }

    /// Verifies that each expectation is one, and can be decided: by the place of the batch, or by the record's key.
    fn check_expectations(&self, at: usize) -> Result<(), DecodeError> {
        for (row, entry) in self.expectations.as_chunks().0.iter().enumerate() {
            let at = at + row * Expectation::BYTES;
            let is_possible = match Expectation::decode(entry).map_err(|error| error.shifted(at))? {
                None => true,
                Some(Expectation::PartitionAt(_)) => row == 0,
                Some(Expectation::KeyAt(_) | Expectation::KeyAbsent) => self.record_key(row).is_some(),
            };
            if !is_possible {
                let value = entry.first().copied().map_or(0, u64::from);
                return Err(DecodeError::new(at, Problem::Invalid { what: "expectation", value }));
            }
        }
        Ok(())
    }

    fn record_key(&self, row: usize) -> Option<[u8; 16]> {
        self.record_keys.as_chunks().0.get(row).copied().filter(|key| *key != NO_KEY)
    }

    /// Whether the broker is told which records have which keys.
    pub const fn has_record_keys(&self) -> bool {
        !self.record_keys.is_empty()
    }

    /// Whether anything of single records has to be looked at before the batch is stored.
    pub const fn needs_deciding(&self) -> bool {
        self.has_idempotency_keys() || self.has_record_keys() || !self.expectations.is_empty()
    }

    /// Whether any record has an idempotency key.
    pub const fn has_idempotency_keys(&self) -> bool {
        !self.key_lengths.is_empty()
    }

    /// Whether any record is to be delivered later, or not for ever.
    pub fn has_delivery_times(&self) -> bool {
        let has_columns = !self.deliver_at.is_empty() || !self.time_to_live.is_empty();
        has_columns && self.rows().any(|row| row.deliver_at.is_some() || row.time_to_live_us.is_some())
    }

    /// The fingerprint of a record; zero where there is none.
    pub fn fingerprint(&self, record: u32) -> [u8; 16] {
        self.fingerprints.as_chunks().0.get(record as usize).copied().unwrap_or_default()
    }

    /// The rows, one for each record, in order. Without any column all rows are empty.
    ///
    /// # Panics
    /// Never: the columns were verified when the table was decoded.
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
            expectation: self
                .expectations
                .as_chunks()
                .0
                .get(row)
                .and_then(|entry| Expectation::decode(entry).expect("verified when the table was decoded")),
            record_key: self.record_key(row),
            key_time: match number_at(self.key_times, row) {
                0 => None,
                micros => Some(Timestamp::from_micros(micros.cast_signed())),
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
    expectations: Vec<[u8; Expectation::BYTES]>,
    record_keys: Vec<[u8; 16]>,
    key_times: Vec<i64>,
}

impl TableBuilder {
    /// Adds the row of the next record.
    ///
    /// The routing hash and the fingerprint belong to an idempotency key and are dropped without one, so that a
    /// row does not depend on what the others need.
    ///
    /// # Panics
    /// If the idempotency key is empty or too long: callers check it first.
    pub fn push(&mut self, row: &TableRow<'_>) {
        let earlier = self.rows;
        self.rows += 1;
        self.columns |= columns_of(row);
        if self.columns & IDEMPOTENCY_KEY != 0 {
            let key = row.idempotency_key.unwrap_or(&[]);
            assert!(
                row.idempotency_key.is_none() || (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()),
                "an idempotency key has 1 to 64 bytes"
            );
            let (hash, fingerprint) =
                if key.is_empty() { (0, [0; 16]) } else { (row.routing_hash, row.fingerprint) };
            put_at(&mut self.routing_hashes, earlier, hash);
            put_at(&mut self.key_lengths, earlier, u8::try_from(key.len()).expect("at most 64"));
            self.keys.extend_from_slice(key);
            put_at(&mut self.fingerprints, earlier, fingerprint);
        }
        if self.columns & DELIVER_AT != 0 {
            put_at(&mut self.deliver_at, earlier, row.deliver_at.map_or(0, Timestamp::as_micros));
        }
        if self.columns & TIME_TO_LIVE != 0 {
            put_at(&mut self.time_to_live, earlier, row.time_to_live_us.unwrap_or(0));
        }
        if self.columns & EXPECTATION != 0 {
            put_at(&mut self.expectations, earlier, Expectation::encode(row.expectation));
        }
        if self.columns & RECORD_KEY != 0 {
            put_at(&mut self.record_keys, earlier, row.record_key.unwrap_or(NO_KEY));
        }
        if self.columns & KEY_TIME != 0 {
            let time = row.key_time.filter(|_| row.idempotency_key.is_some());
            put_at(&mut self.key_times, earlier, time.map_or(0, Timestamp::as_micros));
        }
    }

    /// The columns the table has, as a bit set.
    pub const fn columns(&self) -> u16 {
        self.columns
    }

    /// Bytes the table takes, with the rows there are now.
    pub const fn length(&self) -> usize {
        self.rows * row_width(self.columns) + self.keys.len()
    }

    /// Bytes the table would take with one more row.
    pub fn length_with(&self, row: &TableRow<'_>) -> usize {
        let width = row_width(self.columns | columns_of(row));
        (self.rows + 1) * width + self.keys.len() + row.idempotency_key.map_or(0, <[u8]>::len)
    }

    /// Writes the table.
    pub fn encode(&self, out: &mut impl BufMut) {
        self.routing_hashes.iter().for_each(|hash| out.put_u64_le(*hash));
        out.put_slice(&self.key_lengths);
        out.put_slice(&self.keys);
        self.fingerprints.iter().for_each(|fingerprint| out.put_slice(fingerprint));
        self.deliver_at.iter().for_each(|moment| out.put_i64_le(*moment));
        self.time_to_live.iter().for_each(|micros| out.put_u64_le(*micros));
        self.expectations.iter().for_each(|entry| out.put_slice(entry));
        self.record_keys.iter().for_each(|key| out.put_slice(key));
        self.key_times.iter().for_each(|moment| out.put_i64_le(*moment));
    }
}

/// The columns a row needs. A moment or time of 0 says the same as none.
fn columns_of(row: &TableRow<'_>) -> u16 {
    let mut columns = 0;
    if row.idempotency_key.is_some() {
        columns |= ROUTING_HASH | IDEMPOTENCY_KEY | FINGERPRINT;
        if row.key_time.is_some_and(|moment| moment != Timestamp::ZERO) {
            columns |= KEY_TIME;
        }
    }
    if row.deliver_at.is_some_and(|moment| moment != Timestamp::ZERO) {
        columns |= DELIVER_AT;
    }
    if row.time_to_live_us.is_some_and(|micros| micros != 0) {
        columns |= TIME_TO_LIVE;
    }
    if row.expectation.is_some() {
        columns |= EXPECTATION;
    }
    if row.record_key.is_some() {
        columns |= RECORD_KEY;
    }
    columns
}

/// Bytes of one row in these columns, without the idempotency key itself.
const fn row_width(columns: u16) -> usize {
    let mut width = 0;
    if columns & ROUTING_HASH != 0 {
        width += 8;
    }
    if columns & IDEMPOTENCY_KEY != 0 {
        width += 1;
    }
    if columns & FINGERPRINT != 0 {
        width += 16;
    }
    if columns & DELIVER_AT != 0 {
        width += 8;
    }
    if columns & TIME_TO_LIVE != 0 {
        width += 8;
    }
    if columns & EXPECTATION != 0 {
        width += Expectation::BYTES;
    }
    if columns & RECORD_KEY != 0 {
        width += NO_KEY.len();
    }
    if columns & KEY_TIME != 0 {
        width += 8;
    }
    width
}

/// Adds the entry of row `earlier` to a column; rows before the first that needed the column become empty.
fn put_at<T: Clone + Default>(column: &mut Vec<T>, earlier: usize, entry: T) {
    column.resize(earlier, T::default());
    column.push(entry);
}
