//! What a consumer is told and what it answers.

use bytes::Bytes;
use weir_protocol::ErrorCode;
use weir_protocol::message::{Deliver, GapReason, StartAt, SubscribePartition};
use weir_protocol::units::{Offset, PartitionId, TopicId};

/// What a consumer reads.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// The topic.
    pub topic: TopicId,
    /// The partitions, each once, and where each starts.
    pub partitions: Vec<(PartitionId, StartAt)>,
    /// Bytes of frames that may wait for the application, over all lanes.
    pub window_bytes: u64,
    /// Records that may wait for the application, over all lanes; `None` for as many as fit the bytes.
    pub window_records: Option<u64>,
    /// The largest frame that can come: no lane's window is smaller.
    pub frame_bytes_max: u64,
    /// Stop at the end seen at the start.
    pub to_end: bool,
}

/// Number of a lane of this consumer.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct LaneId(pub u32);

/// Something to be sent on a lane.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command {
    /// Start reading, or move.
    Subscribe(SubscribePartition),
    /// End reading.
    Unsubscribe(PartitionId),
    /// Raise the limit of the lane in bytes.
    Grant(u64),
    /// Raise the limit of the lane in records, or set the first.
    GrantRecords(u64),
}

/// A frame of batches that waits for the application, or is being taken apart by it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The partition.
    pub partition: PartitionId,
    /// The start it follows from.
    pub generation: u32,
    /// Stored batches, back to back.
    pub batches: Bytes,
    pub(crate) lane: LaneId,
    pub(crate) incarnation: u64,
    pub(crate) wire_bytes: u64,
    /// Records of each batch.
    pub(crate) records: Vec<u32>,
}

impl Frame {
    pub(crate) fn new(deliver: &Deliver, lane: LaneId, incarnation: u64) -> Self {
        let records = Deliver::measures(&deliver.batches).map(|batch| batch.records).collect();
        Self {
            partition: deliver.partition,
            generation: deliver.generation,
            batches: deliver.batches.clone(),
            lane,
            incarnation,
            wire_bytes: (Deliver::OVERHEAD_BYTES + deliver.batches.len()) as u64,
            records,
        }
    }
}

/// What the application gets next.
#[derive(Clone, Debug)]
pub enum Taken {
    /// A frame of batches.
    Frame(Frame),
    /// Reading a partition ended.
    Ended(Ended),
}

/// Reading a partition cannot start or go on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ended {
    /// The partition.
    pub partition: PartitionId,
    /// The position that was asked for, if it was an offset.
    pub asked: Option<Offset>,
    /// Why.
    pub code: ErrorCode,
    /// Offset of the first record that is kept.
    pub log_start: Offset,
    /// The offset after the last visible record.
    pub high_watermark: Offset,
    /// The facts, for people.
    pub detail: String,
}

/// Which records of a batch the application gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Those in `from..until`.
    Deliver {
        /// First offset.
        from: Offset,
        /// The offset after the last.
        until: Offset,
    },
    /// None: all lie outside of what is wanted.
    Skip,
    /// The whole frame is out of date.
    Stale,
}

/// Something that happened beside records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Missing {
    /// The partition.
    pub partition: PartitionId,
    /// First missing offset.
    pub from: Offset,
    /// The offset after the last missing one.
    pub to: Offset,
    /// Why.
    pub reason: GapReason,
}
