//! The state as bytes: what stands in the bodies of state files.
//!
//! ```text
//! topics     = count u32 , topic definitions , claims
//! claims     = nothing, or: count u32 , claimed names: topic id (16) , producer u64 , epoch u32 , name
//! groups     = count u32 , group definitions
//! partitions = count u32 , partitions
//! partition  = length u32 , topic id (16) , partition u32 , epoch u32 , log start u64 , end offset u64 ,
//!              last append time i64 , producer count u32 , producers , given up , cursors , failures
//! producer   = id u64 , epoch u32 , result count u32 , next sequence u64 , last offset u64 , results
//! result     = base offset u64 , append time i64 , record count u32
//! given up   = nothing, or: count u32 , ranges: from u64 , to u64 , voids
//! voids      = nothing, or: count u32 , results with void records: producer id u64 , sequence u64 , length u16 , bitmap ,
//!              cursors
//! cursors    = nothing, or: count u32 , cursors: group u64 , floor u64 , word count u32 , words u64
//! failures   = nothing, or: count u32 , failures: group u64 , count u32 , records , count u32 , letters
//! record     = offset u64 , failed u32 , returned u32 , first i64 , last i64 , due i64
//! letter     = offset u64 , failed u32 , returned u32 , first i64 , last i64 , reason length u16 , reason
//! ```
//!
//! Of given up, voids, cursors and failures none is left out before one that is written. A partition's length covers what
//! follows it, so that later versions may add fields at its end.

use std::collections::{BTreeMap, VecDeque};

use bytes::BufMut;
use weir_protocol::batch::Voids;
use weir_protocol::limits::UNACKED_BATCHES_MAX;
use weir_protocol::read::Reader;
use weir_protocol::units::{Epoch, GroupId, PartitionId, PartitionKey, ProducerId, Timestamp, TopicId};
use weir_protocol::write::Write;
use weir_protocol::{Cursor, DecodeError, Problem};

use super::{
    AppendResult, Claims, GIVEN_UP_RANGES_MAX, GivenUp, PRODUCERS_PER_PARTITION_MAX, PartitionState,
    ProducerWindow, Producers, failures,
};
use crate::frame::{ClaimedName, GroupDefinition, TopicDefinition};

/// Writes topics.
pub(crate) fn encode_topics(
    (topics, claims): (&BTreeMap<TopicId, TopicDefinition>, &Claims),
    out: &mut Vec<u8>,
) {
    out.put_count(topics.len());
    for definition in topics.values() {
        definition.encode(out);
    }
    let count = claims.values().map(BTreeMap::len).sum();
    if count > 0 {
        out.put_count(count);
    }
    for (topic, names) in claims {
        for (name, claim) in names {
            ClaimedName { topic: *topic, name: name.clone(), claim: *claim }.encode(out);
        }
    }
}

/// Reads topics.
pub(crate) fn decode_topics(
    bytes: &[u8],
) -> Result<(BTreeMap<TopicId, TopicDefinition>, Claims), DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut topics = BTreeMap::new();
    for _ in 0..reader.count("topic count", 4)? {
        let definition = TopicDefinition::decode(&mut reader)?;
        topics.insert(definition.id, definition);
    }
    let mut claims = Claims::new();
    let count = if reader.remaining() > 0 { reader.count("claim count", CLAIM_BYTES_MIN)? } else { 0 };
    for _ in 0..count {
        let claimed = ClaimedName::decode(&mut reader)?;
        claims.entry(claimed.topic).or_default().insert(claimed.name, claimed.claim);
    }
    reader.finish()?;
    Ok((topics, claims))
}

/// Writes groups.
pub(crate) fn encode_groups(groups: &BTreeMap<GroupId, GroupDefinition>, out: &mut Vec<u8>) {
    out.put_count(groups.len());
    for definition in groups.values() {
        definition.encode(out);
    }
}

/// Reads groups.
pub(crate) fn decode_groups(bytes: &[u8]) -> Result<BTreeMap<GroupId, GroupDefinition>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut groups = BTreeMap::new();
    for _ in 0..reader.count("group count", 4)? {
        let definition = GroupDefinition::decode(&mut reader)?;
        groups.insert(definition.id, definition);
    }
    reader.finish()?;
    Ok(groups)
}

/// Writes partitions.
pub(crate) fn encode_partitions<'a>(
    partitions: impl Iterator<Item = (PartitionKey, &'a PartitionState)>,
    out: &mut Vec<u8>,
) {
    let count_at = out.len();
    out.put_count(0);
    let mut count = 0;
    for (partition, state) in partitions {
        let length_at = out.len();
        out.put_count(0);
        encode_partition(partition, state, out);
        let length = out.len() - length_at - 4;
        overwrite_count(out, length_at, length);
        count += 1;
    }
    overwrite_count(out, count_at, count);
}

/// Reads partitions.
pub(crate) fn decode_partitions(bytes: &[u8]) -> Result<BTreeMap<PartitionKey, PartitionState>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut partitions = BTreeMap::new();
    for _ in 0..reader.count("partition count", 4 + PARTITION_BYTES_MIN)? {
        let length = reader.count("partition length", 1)?;
        let at = reader.position();
        let mut fields = Reader::new(reader.take(length)?);
        let (partition, state) = decode_partition(&mut fields).map_err(|error| error.shifted(at))?;
        partitions.insert(partition, state);
    }
    reader.finish()?;
    Ok(partitions)
}

fn overwrite_count(out: &mut [u8], at: usize, count: usize) {
    let count = u32::try_from(count).expect("state is limited to 32 bits");
    let place = out.get_mut(at..at + 4).expect("the place was left for it");
    place.copy_from_slice(&count.to_le_bytes());
}

fn encode_partition(partition: PartitionKey, state: &PartitionState, out: &mut Vec<u8>) {
    out.put_slice(&partition.topic.to_bytes());
    out.put_u32_le(partition.partition.get());
    out.put_u32_le(state.epoch.get());
    out.put_u64_le(state.log_start.get());
    out.put_u64_le(state.end_offset.get());
    out.put_i64_le(state.last_append_time.as_micros());
    out.put_count(state.producers.windows.len());
    for (id, window) in &state.producers.windows {
        out.put_u64_le(id.get());
        out.put_u32_le(window.epoch.get());
        out.put_count(window.results.len());
        out.put_u64_le(window.next.get());
        out.put_u64_le(window.last_offset.get());
        for result in &window.results {
            out.put_u64_le(result.base_offset.get());
            out.put_i64_le(result.append_time.as_micros());
            out.put_u32_le(result.record_count);
        }
    }
    let voids = voids_of(&state.producers);
    let given_up = state.given_up.ranges();
    let has_failures = !state.failures.is_empty();
    let has_cursors = has_failures || !state.cursors.is_empty();
    let has_voids = has_cursors || !voids.is_empty();
    if has_voids || !given_up.is_empty() {
        out.put_count(given_up.len());
        for range in given_up {
            out.put_u64_le(range.start.get());
            out.put_u64_le(range.end.get());
        }
    }
    if has_voids {
        out.put_count(voids.len());
        for (id, sequence, voids) in voids {
            out.put_u64_le(id.get());
            out.put_u64_le(sequence);
            out.put_u16_le(u16::try_from(voids.bytes().len()).expect("one bit a record fits two bytes"));
            out.put_slice(voids.bytes());
        }
    }
    if has_cursors {
        out.put_count(state.cursors.len());
        for (group, cursor) in &state.cursors {
            out.put_u64_le(group.get());
            cursor.encode(out);
        }
    }
    if has_failures {
        failures::encode_all(&state.failures, out);
    }
}

/// The results with void records: their producer, and their sequence.
fn voids_of(producers: &Producers) -> Vec<(ProducerId, u64, &Voids)> {
    let mut found = Vec::new();
    for (id, window) in &producers.windows {
        let first = window.next.get() - window.results.len() as u64;
        let results = (first..).zip(&window.results).filter(|(_, result)| !result.voids.is_empty());
        found.extend(results.map(|(sequence, result)| (*id, sequence, &result.voids)));
    }
    found
}

fn decode_voids(fields: &mut Reader<'_>, producers: &mut Producers) -> Result<(), DecodeError> {
    let most = PRODUCERS_PER_PARTITION_MAX * UNACKED_BATCHES_MAX;
    for _ in 0..bounded_count(fields, "void count", 8 + 8 + 2, most)? {
        let at = fields.position();
        let id = ProducerId::new(fields.u64()?);
        let sequence = fields.u64()?;
        let length = usize::from(fields.u16()?);
        let voids = Voids::from_bytes(fields.take(length)?);
        let window = producers.windows.get_mut(&id);
        let result = window.and_then(|window| {
            let first = window.next.get() - window.results.len() as u64;
            window.results.get_mut(usize::try_from(sequence.checked_sub(first)?).ok()?)
        });
        match result {
            Some(result) if (result.record_count as usize).div_ceil(8) == length => result.voids = voids,
            Some(_) | None => {
                let problem = Problem::Invalid { what: "result with void records", value: sequence };
                return Err(DecodeError::new(at, problem));
            }
        }
    }
    Ok(())
}

fn decode_partition(fields: &mut Reader<'_>) -> Result<(PartitionKey, PartitionState), DecodeError> {
    let topic = TopicId::from_bytes(fields.bytes16()?);
    let partition = PartitionKey { topic, partition: PartitionId::new(fields.u32()?) };
    let epoch = Epoch::new(fields.u32()?);
    let log_start = fields.offset()?;
    let end_offset = fields.offset()?;
    if log_start > end_offset {
        let problem =
            Problem::TooLarge { what: "log start offset", value: log_start.get(), max: end_offset.get() };
        return Err(fields.error(problem));
    }
    let last_append_time = Timestamp::from_micros(fields.i64()?);
    let mut producers = decode_producers(fields)?;
    let given_up = if fields.remaining() > 0 { decode_given_up(fields)? } else { GivenUp::default() };
    if fields.remaining() > 0 {
        decode_voids(fields, &mut producers)?;
    }
    let cursors = if fields.remaining() > 0 { decode_cursors(fields)? } else { BTreeMap::new() };
    let failures = if fields.remaining() > 0 { failures::decode_all(fields)? } else { BTreeMap::new() };
    let state = PartitionState {
        epoch,
        log_start,
        end_offset,
        last_append_time,
        producers,
        given_up,
        cursors,
        failures,
    };
    Ok((partition, state))
}

fn decode_cursors(fields: &mut Reader<'_>) -> Result<BTreeMap<GroupId, Cursor>, DecodeError> {
    let count = fields.count("cursor count", CURSOR_BYTES_MIN)?;
    (0..count).map(|_| Ok((GroupId::new(fields.u64()?), Cursor::decode(fields)?))).collect()
}

fn decode_given_up(fields: &mut Reader<'_>) -> Result<GivenUp, DecodeError> {
    let mut given_up = GivenUp::default();
    for _ in 0..bounded_count(fields, "given up count", 16, GIVEN_UP_RANGES_MAX)? {
        let from = fields.offset()?;
        given_up.add(from..fields.offset()?);
    }
    Ok(given_up)
}

fn decode_producers(fields: &mut Reader<'_>) -> Result<Producers, DecodeError> {
    let count = bounded_count(fields, "producer count", PRODUCER_BYTES_MIN, PRODUCERS_PER_PARTITION_MAX)?;
    let mut windows = BTreeMap::new();
    for _ in 0..count {
        let id = ProducerId::new(fields.u64()?);
        let epoch = Epoch::new(fields.u32()?);
        // The two numbers between the count and the results are no results.
        let results = bounded_count(fields, "result count", 0, UNACKED_BATCHES_MAX)?;
        let next = fields.sequence()?;
        if results as u64 > next.get() {
            let problem = Problem::TooLarge { what: "result count", value: results as u64, max: next.get() };
            return Err(fields.error(problem));
        }
        let last_offset = fields.offset()?;
        let results = (0..results).map(|_| decode_result(fields)).collect::<Result<VecDeque<_>, _>>()?;
        windows.insert(id, ProducerWindow { epoch, next, last_offset, results });
    }
    Ok(Producers { windows })
}

fn decode_result(fields: &mut Reader<'_>) -> Result<AppendResult, DecodeError> {
    let base_offset = fields.offset()?;
    let append_time = Timestamp::from_micros(fields.i64()?);
    Ok(AppendResult { base_offset, record_count: fields.u32()?, append_time, voids: Voids::NONE })
}

/// A count that must fit the input and a limit of its own.
fn bounded_count(
    fields: &mut Reader<'_>,
    what: &'static str,
    item_len: usize,
    max: usize,
) -> Result<usize, DecodeError> {
    let at = fields.position();
    let count = fields.u32()? as usize;
    let max = max.min(fields.remaining().checked_div(item_len).unwrap_or(max));
    if count <= max {
        return Ok(count);
    }
    Err(DecodeError::new(at, Problem::TooLarge { what, value: count as u64, max: max as u64 }))
}

/// Bytes of a partition without producers.
const PARTITION_BYTES_MIN: usize = 16 + 4 + 4 + 8 + 8 + 8 + 4;
/// Bytes of a cursor without words, and of its group.
const CURSOR_BYTES_MIN: usize = 8 + 8 + 4;
/// Bytes of a producer without results.
const PRODUCER_BYTES_MIN: usize = 8 + 4 + 4 + 8 + 8;
/// A claim without the bytes of its name.
const CLAIM_BYTES_MIN: usize = 16 + 8 + 4 + 2;
