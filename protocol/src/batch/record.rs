//! Records as they stand in a decompressed body: the encoding of Kafka's version 2 records.

use bytes::Bytes;

use crate::error::{DecodeError, Problem};
use crate::limits::RECORD_HEADERS_MAX;
use crate::read::{Reader, slice_of};

/// One record, as slices of the batch it came in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Its number in the batch; its offset is the batch's base offset plus this.
    pub offset_delta: u32,
    /// Milliseconds between the batch's create time and this record's.
    pub timestamp_delta_ms: i64,
    /// What it is about; also routes it, if present.
    pub key: Option<Bytes>,
    /// Its payload. `None` is a statement (a tombstone), not an empty payload.
    pub value: Option<Bytes>,
    /// Named values beside the payload.
    pub headers: Headers,
}

/// Named values of a record, decoded one by one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Headers {
    bytes: Bytes,
    count: u32,
}

/// A named value beside a record's payload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// Its name; several headers may share it.
    pub key: String,
    /// Its value.
    pub value: Option<Bytes>,
}

impl Headers {
    /// How many there are.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The value of the first header of a name, if it has one.
    ///
    /// # Panics
    /// Never: the bytes were verified when the record was decoded.
    pub fn find(&self, name: &str) -> Option<Bytes> {
        let mut reader = Reader::new(&self.bytes);
        for _ in 0..self.count {
            let key = header_name(&mut reader).expect("verified when the record was decoded");
            let value = optional(&mut reader, "header value").expect("verified when the record was decoded");
            if key == name {
                return value.map(|value| slice_of(&self.bytes, value));
            }
        }
        None
    }

    /// Goes through the headers in order.
    ///
    /// # Panics
    /// Never: the bytes were verified when the record was decoded.
    pub fn iter(&self) -> impl Iterator<Item = Header> + '_ {
        let mut reader = Reader::new(&self.bytes);
        (0..self.count).map(move |_| {
            let key = header_name(&mut reader).expect("verified when the record was decoded");
            let value = optional(&mut reader, "header value").expect("verified when the record was decoded");
            Header { key: key.to_owned(), value: value.map(|value| slice_of(&self.bytes, value)) }
        })
    }
}

/// Iterator over the records of a body; ends at the first error.
#[derive(Clone, Debug)]
pub struct Records {
    body: Bytes,
    position: usize,
    next_delta: u32,
    record_count: u32,
}

impl Records {
    pub(crate) const fn new(body: Bytes, record_count: u32) -> Self {
        Self { body, position: 0, next_delta: 0, record_count }
    }

    fn decode_next(&mut self) -> Result<Record, DecodeError> {
        let at = self.position;
        let rest = self.body.get(at..).unwrap_or(&[]);
        let mut outer = Reader::new(rest);
        let shift = |error: DecodeError| error.shifted(at);
        let length = length(&mut outer, "record length", false).map_err(shift)?.unwrap_or(0);
        let inner_at = at + outer.position();
        let mut reader = Reader::new(outer.take(length).map_err(shift)?);
        let record = self.decode_fields(&mut reader).map_err(|error| error.shifted(inner_at))?;
        self.position = at + outer.position();
        self.next_delta += 1;
        if self.next_delta == self.record_count && outer.remaining() > 0 {
            return Err(DecodeError::new(self.position, Problem::Trailing(outer.remaining())));
        }
        Ok(record)
    }

    fn decode_fields(&self, reader: &mut Reader<'_>) -> Result<Record, DecodeError> {
        let attributes = reader.u8()?;
        if attributes != 0 {
            let problem = Problem::Invalid { what: "record attributes", value: u64::from(attributes) };
            return Err(DecodeError::new(0, problem));
        }
        let timestamp_delta_ms = reader.zigzag()?;
        let delta_at = reader.position();
        let delta = reader.zigzag()?;
        if delta != i64::from(self.next_delta) {
            let problem = Problem::Mismatch {
                what: "offset delta",
                value: delta.cast_unsigned(),
                expected: u64::from(self.next_delta),
            };
            return Err(DecodeError::new(delta_at, problem));
        }
        let key = optional(reader, "key")?.map(|key| slice_of(&self.body, key));
        let value = optional(reader, "value")?.map(|value| slice_of(&self.body, value));
        let headers = self.decode_headers(reader)?;
        Ok(Record { offset_delta: self.next_delta, timestamp_delta_ms, key, value, headers })
    }

    fn decode_headers(&self, reader: &mut Reader<'_>) -> Result<Headers, DecodeError> {
        let at = reader.position();
        let count = length(reader, "header count", false)?.unwrap_or(0);
        if count > RECORD_HEADERS_MAX {
            let problem = Problem::TooLarge {
                what: "header count",
                value: count as u64,
                max: RECORD_HEADERS_MAX as u64,
            };
            return Err(DecodeError::new(at, problem));
        }
        let start = reader.position();
        let mut walk = reader.clone();
        for _ in 0..count {
            header_name(&mut walk)?;
            optional(&mut walk, "header value")?;
        }
        let bytes = reader.take(walk.position() - start)?;
        if reader.remaining() > 0 {
            return Err(reader.error(Problem::Trailing(reader.remaining())));
        }
        if count == 0 {
            return Ok(Headers::default());
        }
        let count = u32::try_from(count).expect("bounded by RECORD_HEADERS_MAX");
        Ok(Headers { bytes: slice_of(&self.body, bytes), count })
    }
}

impl Iterator for Records {
    type Item = Result<Record, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next_delta >= self.record_count {
            return None;
        }
        let result = self.decode_next();
        if result.is_err() {
            self.next_delta = self.record_count;
        }
        Some(result)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some((self.record_count - self.next_delta) as usize))
    }
}

/// A zigzag length; -1 means "absent" where that is allowed.
fn length(
    reader: &mut Reader<'_>,
    what: &'static str,
    absent_allowed: bool,
) -> Result<Option<usize>, DecodeError> {
    let at = reader.position();
    let value = reader.zigzag()?;
    if value == -1 && absent_allowed {
        return Ok(None);
    }
    match usize::try_from(value) {
        Ok(length) => Ok(Some(length)),
        Err(_negative) => Err(DecodeError::new(at, Problem::Invalid { what, value: value.cast_unsigned() })),
    }
}

fn optional<'a>(reader: &mut Reader<'a>, what: &'static str) -> Result<Option<&'a [u8]>, DecodeError> {
    match length(reader, what, true)? {
        Some(length) => reader.take(length).map(Some),
        None => Ok(None),
    }
}

fn header_name<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let length = length(reader, "header name", false)?.unwrap_or(0);
    let at = reader.position();
    let name = reader.take(length)?;
    std::str::from_utf8(name)
        .map_err(|error| DecodeError::new(at + error.valid_up_to(), Problem::Utf8("header name")))
}
