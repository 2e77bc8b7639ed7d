//! Picks the batches that were asked for out of bytes that were read.

use std::ops::Range;

use bytes::Bytes;
use weir_protocol::batch::StoredBatch;
use weir_protocol::units::Offset;

use super::Request;
use crate::segment::batch_length;

/// What was found.
#[derive(Debug)]
pub(super) enum Pick {
    /// The batches.
    Found {
        /// Where they stand.
        range: Range<usize>,
        /// Offset of the first record.
        base_offset: Offset,
        /// The offset after the last record.
        end_offset: Offset,
    },
    /// Not even the first one is whole.
    More {
        /// Bytes of batches that come before.
        skip: usize,
        /// Bytes that must be read from there on.
        needed: usize,
    },
    /// There is no batch where the first one, or one before it, should be.
    Damaged {
        /// Where it should be.
        at: usize,
        /// Its length, if its broker section is whole.
        length: Option<u64>,
    },
}

/// Walks over `bytes`, which start with a batch of the extent. `is_last` if they reach to its end.
pub(super) fn pick(bytes: &Bytes, request: &Request, is_last: bool) -> Pick {
    let mut found: Option<(usize, Offset, Offset)> = None;
    let mut at = 0;
    let mut expected = request.extent.base_offset;
    let stop = loop {
        let rest = bytes.get(at..).unwrap_or(&[]);
        if rest.is_empty() && is_last {
            break Pick::Damaged { at, length: None };
        }
        let length = match batch_length(rest) {
            Ok(Some((_, length))) if length <= rest.len() => length,
            Ok(Some((_, length))) if !is_last => break Pick::More { skip: at, needed: length },
            Ok(None) if !is_last => {
                break Pick::More { skip: at, needed: request.bytes_max.min(super::READ_BYTES_MAX) };
            }
            Ok(Some(_) | None) | Err(_) => break Pick::Damaged { at, length: None },
        };
        if found.is_some_and(|(start, ..)| at + length - start > request.bytes_max) {
            break Pick::More { skip: at, needed: length };
        }
        let batch = StoredBatch::decode(&mut bytes.slice(at..at + length)).ok();
        let batch = batch.filter(|batch| {
            // A whole batch of something else was misplaced by the disk.
            batch.producer.header().partition == request.partition && batch.base_offset() >= expected
        });
        let Some(batch) = batch else {
            break Pick::Damaged { at, length: Some(length as u64) };
        };
        expected = batch.end_offset();
        if let Some((_, _, end)) = &mut found {
            *end = expected;
        } else if expected > request.from {
            found = Some((at, batch.base_offset(), expected));
        }
        at += length;
    };
    match found {
        Some((start, base_offset, end_offset)) => Pick::Found { range: start..at, base_offset, end_offset },
        None => stop,
    }
}
