//! Dead letters of a node: records are found, and sent to the dead-letter topic as any producer would.

use weir_protocol::ErrorCode;
use weir_protocol::batch::BuildError;
use weir_protocol::limits::BATCH_FRAME_OVERHEAD_BYTES;
use weir_protocol::message::{Publish, RecordFate};
use weir_protocol::units::{Durability, Offset, PartitionKey};
use weir_storage::frame::TopicDefinition;

use super::Node;
use crate::core::dedup::Incoming;
use crate::core::event::ColdWant;
use crate::core::group::{Letter, LetterId};
use crate::core::ledger::Pool;
use crate::core::letter::{Content, Destination, Placed, RETRY_US, Slot, lane, slot_of};
use crate::core::partition::Partition;
use crate::core::publish::{Answer, PublishLane};
use crate::core::{Actions, ColdAnswer, ColdRead, ColdResult};

/// Where the record of a letter is.
enum Sought {
    Here(Content),
    InSegments,
}

impl Node {
    /// Whether a topic takes dead letters now.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn dead_letter_topic(&self, name: &str) -> Result<&TopicDefinition, ErrorCode> {
        let definition = self.coordinator.live(name).map_err(|_refusal| ErrorCode::DeadLetterMissing)?;
        if definition.settings.dedup_horizon_us.is_none() {
            // Without keys a letter that is sent again would be there twice.
            return Err(ErrorCode::DeadLetterMissing);
        }
        if self.storage_full {
            return Err(ErrorCode::StorageFull);
        }
        Ok(definition)
    }

    /// Sends letters that are due, as far as there are slots.
    pub(super) fn forward_letters(&mut self, actions: &mut Actions) {
        if self.going_away {
            return;
        }
        let now = self.now.monotonic_us;
        while let Some((slot, id)) = self.letters.next(now) {
            // Its group or topic may be gone.
            let Some(letter) = self.groups.letter(id) else { continue };
            if let Err(code) = self.begin_letter(slot, (id, &letter), actions) {
                self.letters.end(slot);
                self.letters.postpone(id, now + RETRY_US, Some(code));
            }
        }
    }

    fn begin_letter(
        &mut self,
        slot: u64,
        (id, letter): (LetterId, &Letter),
        actions: &mut Actions,
    ) -> Result<(), ErrorCode> {
        let name = letter.dead_letter.as_deref().ok_or(ErrorCode::DeadLetterMissing)?;
        self.dead_letter_topic(name)?;
        let key = PartitionKey { topic: letter.topic, partition: id.partition };
        let origin = self.partitions.get(&key).ok_or(ErrorCode::TopicDeleted)?;
        match seek(origin, id.offset)? {
            Sought::Here(content) => {
                self.letters.begin(slot, Slot { id, memory: None });
                self.send_letter(slot, (id, letter), &content, actions)
            }
            Sought::InSegments => {
                let largest = self.coordinator.live_by_id(letter.topic).map_err(|(code, _)| code)?;
                let bytes = u64::from(largest.settings.batch_bytes_max + BATCH_FRAME_OVERHEAD_BYTES);
                self.read_letter(slot, (id, key), bytes, actions)
            }
        }
    }

    /// Asks segments for the batch with a record, of at most so many bytes.
    fn read_letter(
        &mut self,
        slot: u64,
        (id, key): (LetterId, PartitionKey),
        bytes_max: u64,
        actions: &mut Actions,
    ) -> Result<(), ErrorCode> {
        let memory = self.ledger.reserve(Pool::Delivery, bytes_max).ok_or(ErrorCode::Throttled)?;
        self.letters.begin(slot, Slot { id, memory: Some(memory) });
        let want = ColdWant::Batches { from: id.offset, bytes_max };
        actions.cold_reads.push(ColdRead { lane: lane(slot), key, generation: 0, want });
        Ok(())
    }

    /// Takes the answer of segments if it is for a letter. Says whether it is.
    pub(super) fn letter_read(&mut self, answer: &ColdAnswer, actions: &mut Actions) -> bool {
        let Some(slot) = slot_of(answer.read.lane) else { return false };
        let Some(id) = self.letters.read(slot) else { return true };
        let content = match &answer.result {
            // The topic had a higher limit when the batch came.
            ColdResult::Longer(bytes) => {
                if let Err(code) = self.read_letter(slot, (id, answer.read.key), *bytes, actions) {
                    self.letters.end(slot);
                    self.letters.postpone(id, self.now.monotonic_us + RETRY_US, Some(code));
                }
                return true;
            }
            ColdResult::Batches { bytes, .. } => {
                Ok(Content::find_in(bytes.clone(), id.offset).unwrap_or(Content::Lost("damaged")))
            }
            ColdResult::Corrupt { .. } => Ok(Content::Lost("damaged")),
            ColdResult::Trimmed { .. } => Ok(Content::Lost("retention")),
            ColdResult::NotFlushed | ColdResult::Offset(_) | ColdResult::Failed => Err(ErrorCode::Internal),
        };
        let sent = content.and_then(|content| match self.groups.letter(id) {
            Some(letter) => self.send_letter(slot, (id, &letter), &content, actions),
            None => Err(ErrorCode::GroupNotFound),
        });
        if let Err(code) = sent {
            self.letters.end(slot);
            self.letters.postpone(id, self.now.monotonic_us + RETRY_US, Some(code));
        }
        true
    }

    fn send_letter(
        &mut self,
        slot: u64,
        (id, letter): (LetterId, &Letter),
        content: &Content,
        actions: &mut Actions,
    ) -> Result<(), ErrorCode> {
        let name = letter.dead_letter.as_deref().ok_or(ErrorCode::DeadLetterMissing)?;
        let definition = self.dead_letter_topic(name)?;
        let to = Destination {
            topic: definition.id,
            partitions: definition.settings.partitions,
            batch_bytes_max: definition.settings.batch_bytes_max,
        };
        let placed = Placed::new(id, (letter, content), &to);
        let producer = self.letter_producers.of(slot);
        let sequence =
            self.partitions.get(&placed.partition).map(|partition| partition.next_sequence(producer));
        let sequence = sequence.ok_or(ErrorCode::DeadLetterMissing)?;
        let batch = placed.batch((producer, sequence), &to).map_err(|error| match error {
            BuildError::Full | BuildError::TooLarge { .. } | BuildError::TooManyHeaders { .. } => {
                ErrorCode::BatchTooLarge
            }
        })?;
        let bytes = (Publish::OVERHEAD_BYTES + batch.length()) as u64;
        if !self.ingest.receive_own(bytes) {
            return Err(ErrorCode::Throttled);
        }
        let state = PublishLane { topic: to.topic, durability: Durability::Durable };
        self.publishing.open(lane(slot), state, self.now.monotonic_us);
        let publish = Publish { acked_below: sequence, batch };
        let incoming = Incoming { lane: lane(slot), publish, bytes };
        if let Some(incoming) = self.dedup.waiting().follow(incoming) {
            self.offer(self.now, incoming, None, actions);
        }
        Ok(())
    }

    /// Takes what became of letters.
    pub(super) fn letters_answered(&mut self, actions: &mut Actions) {
        while let Some((lane, answer)) = self.publishing.take_last_answer(|lane| slot_of(lane).is_some()) {
            self.publishing.close(lane);
            let Some(slot) = slot_of(lane) else { continue };
            let Some(id) = self.letters.end(slot) else { continue };
            let code = match &answer {
                Answer::Stored(_, exceptions) => {
                    exceptions.first().and_then(|exception| match exception.fate {
                        // It was there already: it had been sent before a restart.
                        RecordFate::Duplicate(_) | RecordFate::Conflict(_) => None,
                        RecordFate::Expired
                        | RecordFate::Full
                        | RecordFate::Off
                        | RecordFate::Unmet(_)
                        | RecordFate::UnmetAbsent
                        | RecordFate::VersionsOff
                        | RecordFate::VersionsFull => exception.fate.code(),
                    })
                }
                Answer::Refused(rejected) => Some(rejected.code),
            };
            match code {
                None => {
                    if let Some(frame) = self.groups.forwarded(self.now.monotonic_us, id) {
                        actions.append(frame, false);
                    }
                }
                Some(code) => self.letters.postpone(id, self.now.monotonic_us + RETRY_US, Some(code)),
            }
        }
    }
}

/// Looks for a record in memory.
fn seek(partition: &Partition, offset: Offset) -> Result<Sought, ErrorCode> {
    if offset < partition.log_start() {
        return Ok(Sought::Here(Content::Lost("retention")));
    }
    match partition.tail().from(offset).next().filter(|batch| batch.base_offset() <= offset) {
        Some(batch) => {
            let found = Content::find(batch, offset).unwrap_or(Content::Lost("damaged"));
            Ok(Sought::Here(found))
        }
        None => Ok(Sought::InSegments),
    }
}
