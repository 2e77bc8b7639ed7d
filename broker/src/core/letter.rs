//! Dead letters on their way: each is sent until it is known to be in its topic, and no more often than it has to be.
//!
//! A letter is sent under a key of its own (group, partition, offset), so that one that is sent again is recognised. A few are
//! under way at a time, each in a slot with a producer identity of its own.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use weir_protocol::batch::{
    BatchBuilder, BatchIdentity, BuildError, Compression, Header, ProducerBatch, Record, RecordInput,
    StoredBatch, TableRow,
};
use weir_protocol::lifetime::LIFETIME_HEADER;
use weir_protocol::limits::RECORD_HEADERS_MAX;
use weir_protocol::partitioner::{partition_of, routing_hash};
use weir_protocol::units::{Epoch, Offset, PartitionKey, ProducerId, Sequence, Timestamp, TopicId};
use weir_protocol::{DecodeError, ErrorCode};

use crate::core::group::{Letter, LetterId};
use crate::core::ledger::Reservation;
use crate::core::{ConnectionId, LaneId, StreamId};

/// Letters under way at a time. Each may need a batch in memory.
pub const SLOTS: u64 = 8;

/// How long a letter waits that could not be sent.
pub const RETRY_US: u64 = 5_000_000;

/// The connection that the lanes of letters belong to: none that a client has.
const CONNECTION: ConnectionId = ConnectionId(u64::MAX);

/// The letters of a node that wait, or are under way.
#[derive(Debug, Default)]
pub struct Letters {
    /// When each is due, and why it was not taken before.
    waiting: BTreeMap<LetterId, (u64, Option<ErrorCode>)>,
    due: BTreeSet<(u64, LetterId)>,
    slots: BTreeMap<u64, Slot>,
}

/// A letter under way.
#[derive(Debug)]
pub struct Slot {
    /// The letter.
    pub id: LetterId,
    /// Memory for the batch that holds its record, while that is read from segments.
    pub memory: Option<Reservation>,
}

impl Letters {
    /// A letter is to be sent.
    pub fn add(&mut self, id: LetterId) {
        self.postpone(id, 0, None);
    }

    /// A letter is to be tried again then.
    pub fn postpone(&mut self, id: LetterId, due: u64, refused: Option<ErrorCode>) {
        if let Some((before, _)) = self.waiting.insert(id, (due, refused)) {
            self.due.remove(&(before, id));
        }
        self.due.insert((due, id));
    }

    /// Takes the next letter that is due, if there is a free slot for it.
    pub fn next(&mut self, now: u64) -> Option<(u64, LetterId)> {
        let slot = (0..SLOTS).find(|slot| !self.slots.contains_key(slot))?;
        let (due, id) = self.due.first().copied().filter(|(due, _)| *due <= now)?;
        self.due.remove(&(due, id));
        self.waiting.remove(&id);
        Some((slot, id))
    }

    /// A letter is under way.
    pub fn begin(&mut self, slot: u64, under_way: Slot) {
        self.slots.insert(slot, under_way);
    }

    /// The record of a letter was read: its memory is free.
    pub fn read(&mut self, slot: u64) -> Option<LetterId> {
        let slot = self.slots.get_mut(&slot)?;
        slot.memory = None;
        Some(slot.id)
    }

    /// A letter is under way no longer.
    pub fn end(&mut self, slot: u64) -> Option<LetterId> {
        self.slots.remove(&slot).map(|slot| slot.id)
    }

    /// When the next letter is due, if there is a free slot for it.
    pub fn due(&self) -> Option<u64> {
        let is_free = (self.slots.len() as u64) < SLOTS;
        self.due.first().map(|(due, _)| *due).filter(|_| is_free)
    }

    /// Why a letter was not taken, if it was tried.
    pub fn refused(&self, id: LetterId) -> Option<ErrorCode> {
        self.waiting.get(&id).and_then(|(_, refused)| *refused)
    }

    /// Whether none is under way.
    pub fn is_quiet(&self) -> bool {
        self.slots.is_empty()
    }
}

/// The lane of a slot.
pub const fn lane(slot: u64) -> LaneId {
    LaneId { connection: CONNECTION, stream: StreamId(slot) }
}

/// The slot that a lane belongs to, if it is one of a slot.
pub fn slot_of(lane: LaneId) -> Option<u64> {
    (lane.connection == CONNECTION).then_some(lane.stream.0)
}

/// The record of a letter, or why it is not there any more.
#[derive(Clone, Debug)]
pub enum Content {
    /// It is there.
    Record(Box<Found>),
    /// Retention has removed it, or it is damaged: the letter says so in a word.
    Lost(&'static str),
}

/// A record that was found.
#[derive(Clone, Debug)]
pub struct Found {
    record: Record,
    created: Timestamp,
}

impl Content {
    /// Finds a record in its batch.
    ///
    /// # Errors
    /// What is wrong with the bytes of the batch.
    pub fn find(batch: &StoredBatch, offset: Offset) -> Result<Self, DecodeError> {
        let delta = offset.since(batch.base_offset());
        for record in batch.producer.records()? {
            let record = record?;
            if u64::from(record.offset_delta) == delta {
                let created = batch.producer.header().create_time_of(record.timestamp_delta_ms);
                return Ok(Self::Record(Box::new(Found { record, created })));
            }
        }
        Ok(Self::Lost("missing"))
    }

    /// Finds a record in batches that were read from segments.
    ///
    /// # Errors
    /// What is wrong with their bytes.
    pub fn find_in(mut batches: Bytes, offset: Offset) -> Result<Self, DecodeError> {
        while !batches.is_empty() {
            let batch = StoredBatch::decode(&mut batches)?;
            if batch.end_offset() > offset {
                return Self::find(&batch, offset);
            }
        }
        Ok(Self::Lost("missing"))
    }
}

/// Where a batch with a letter goes.
#[derive(Clone, Copy, Debug)]
pub struct Destination {
    /// The dead-letter topic.
    pub topic: TopicId,
    /// Its partitions.
    pub partitions: u32,
    /// Bytes that a batch of it may have.
    pub batch_bytes_max: u32,
}

/// A letter that has its place.
#[derive(Debug)]
pub struct Placed<'a> {
    id: LetterId,
    letter: &'a Letter,
    content: &'a Content,
    key: String,
    /// The partition of the dead-letter topic.
    pub partition: PartitionKey,
}

impl<'a> Placed<'a> {
    /// A letter goes where records with the key of its record go.
    pub fn new(id: LetterId, (letter, content): (&'a Letter, &'a Content), to: &Destination) -> Self {
        let key = format!("{:x}-{}-{}", id.group.get(), id.partition, id.offset);
        let routing = match content {
            Content::Record(found) => found.record.key.as_deref(),
            Content::Lost(_) => None,
        };
        let hash = routing_hash(routing.unwrap_or(key.as_bytes()));
        let partition = PartitionKey { topic: to.topic, partition: partition_of(hash, to.partitions) };
        Self { id, letter, content, key, partition }
    }

    /// The batch that holds it, alone.
    ///
    /// # Errors
    /// It does not fit the batches of its topic.
    pub fn batch(
        &self,
        (producer, sequence): (ProducerId, Sequence),
        to: &Destination,
    ) -> Result<ProducerBatch, BuildError> {
        let told = self.told();
        let mut headers: Vec<(&str, Option<&[u8]>)> = Vec::new();
        let original: Vec<Header> = match self.content {
            // A dead letter waits until somebody has looked at it.
            Content::Record(found) => {
                found.record.headers.iter().filter(|header| header.key != LIFETIME_HEADER).collect()
            }
            Content::Lost(_) => Vec::new(),
        };
        // Of a record that has as many headers as it may, the last make room.
        let kept = RECORD_HEADERS_MAX - told.len();
        headers.extend(original.iter().take(kept).map(|header| (&*header.key, header.value.as_deref())));
        headers.extend(told.iter().map(|(name, value)| (*name, Some(value.as_bytes()))));
        let (key, value, create_time) = match self.content {
            Content::Record(found) => {
                (found.record.key.as_deref(), found.record.value.as_deref(), found.created)
            }
            Content::Lost(_) => (None, None, self.letter.letter.last),
        };
        let row = TableRow {
            routing_hash: routing_hash(key.unwrap_or(self.key.as_bytes())),
            idempotency_key: Some(self.key.as_bytes()),
            // Whatever the letter says: there is one for each key.
            fingerprint: [1; 16],
            ..TableRow::default()
        };
        let mut builder = BatchBuilder::new(to.batch_bytes_max as usize);
        builder.push(&RecordInput { create_time, key, value, headers: &headers, row })?;
        let partition = self.partition;
        let identity = BatchIdentity { producer, producer_epoch: Epoch::ZERO, sequence, partition };
        Ok(builder.finish(&identity, Compression::None))
    }

    /// What the letter tells of its record.
    fn told(&self) -> Vec<(&'static str, String)> {
        let Letter { topic_name, group_name, letter, .. } = self.letter;
        let mut told = vec![
            ("weir-origin-topic", topic_name.clone()),
            ("weir-origin-partition", self.id.partition.to_string()),
            ("weir-origin-offset", self.id.offset.to_string()),
            ("weir-group", group_name.clone()),
            ("weir-attempts", letter.failed.to_string()),
            ("weir-returned", letter.returned.to_string()),
            ("weir-reason", letter.reason.clone()),
            ("weir-first-failure", letter.first.as_micros().to_string()),
            ("weir-last-failure", letter.last.as_micros().to_string()),
        ];
        if let Content::Lost(why) = self.content {
            told.push(("weir-content-lost", (*why).to_owned()));
        }
        told
    }
}

/// The producer identities of the slots: the first, and those that follow it.
#[derive(Clone, Copy, Debug)]
pub struct LetterProducers(pub ProducerId);

impl LetterProducers {
    /// That of a slot.
    pub const fn of(self, slot: u64) -> ProducerId {
        ProducerId::new(self.0.get() + slot)
    }
}
