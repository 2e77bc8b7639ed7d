//! What a producer is told and what it answers.

use std::time::Duration;

use weir_protocol::ErrorCode;
use weir_protocol::batch::{BatchBuilder, BatchIdentity, ProducerBatch};
use weir_protocol::message::{AckEntry, RecordException};
use weir_protocol::units::{Epoch, PartitionId, ProducerId, Sequence, TopicId};

use crate::options::Retry;

/// What a producer is bound to.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// The topic.
    pub topic: TopicId,
    /// Its number of partitions, at least 1.
    pub partitions: u32,
    /// A batch is closed at this size in bytes.
    pub batch_bytes: usize,
    /// No batch may be larger than this: a record that needs more than `batch_bytes` gets a batch of its own.
    pub batch_bytes_max: usize,
    /// A batch is closed at this number of records.
    pub batch_records: u32,
    /// Least time a batch waits for more records.
    pub linger: Duration,
    /// Bytes of messages without a result.
    pub in_flight_bytes: u64,
    /// Messages without a result.
    pub in_flight_messages: u64,
    /// Unanswered batches of a partition.
    pub unacked_batches: usize,
    /// Longest time from the first record of a batch to its result.
    pub delivery_timeout: Duration,
    /// When to send again what was rejected.
    pub retry: Retry,
    /// It writes under a name that it has claimed: without that identity it must not go on.
    pub is_claimed: bool,
}

/// Who a producer is to the broker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity {
    /// Given out by the broker.
    pub producer: ProducerId,
    /// Its generation.
    pub epoch: Epoch,
}

/// Number of a lane of this producer.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct LaneId(pub u32);

/// Number of a batch among all of this producer, in order of opening.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct BatchNumber(pub u64);

/// How a record finds its partition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Routing {
    /// It names it.
    Partition(PartitionId),
    /// By the hash of its key.
    Hash(u64),
    /// Any will do: one partition is kept for a batch.
    Any,
}

/// A record was taken into a batch.
#[derive(Debug)]
pub struct Pushed {
    /// Number of the record in the batch.
    pub index: u32,
    /// The lane that has something to send now and had not before.
    pub wake: Option<LaneId>,
}

/// A record was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PushError {
    /// No batch is open: open one with this bound, then push again.
    NeedsBatch {
        /// Bytes the batch may have.
        bytes_max: usize,
        /// Bytes the last batch of the partition had: what memory to bring.
        expected: usize,
    },
    /// The open batch had no room and was closed: route and push again.
    Closed {
        /// The lane that has something to send now and had not before.
        wake: Option<LaneId>,
    },
    /// It fits no batch.
    TooLarge {
        /// Bytes it would take.
        bytes: usize,
        /// Bytes a batch may have.
        max: usize,
    },
    /// It has too many headers.
    TooManyHeaders {
        /// How many it may have.
        max: usize,
    },
    /// There is no such partition.
    NoPartition,
}

/// A batch that is to be sent on a lane.
#[derive(Debug)]
pub struct Outgoing {
    /// The lane's incarnation it was taken for.
    pub(crate) incarnation: u64,
    /// Bytes of credit set aside for it.
    pub(crate) reserved: u64,
    /// Its number.
    pub number: BatchNumber,
    /// Its partition.
    pub partition: PartitionId,
    /// All sequences below this have their results.
    pub acked_below: Sequence,
    /// What is to be sent.
    pub content: OutgoingContent,
}

/// The bytes to send, or what they are to be made of.
#[derive(Debug)]
pub enum OutgoingContent {
    /// Ready to be sent.
    Sealed(ProducerBatch),
    /// To be sealed outside of every lock, because checksum and compression take time; then handed to
    /// [`Producer::sealed`](super::Producer::sealed).
    Unsealed(Box<BatchBuilder>, BatchIdentity),
    /// The driver has taken it out.
    Taken,
}

/// A batch has its result.
#[derive(Debug)]
pub struct Completion<T> {
    /// What the batch was opened with.
    pub ticket: T,
    /// Records in it.
    pub records: u32,
    /// The result.
    pub outcome: Outcome,
}

/// The result of a batch.
#[derive(Debug)]
pub enum Outcome {
    /// It is stored, except for the records that are named. Its bytes come along so that their memory can be used again.
    Stored(AckEntry, Vec<RecordException>, ProducerBatch),
    /// It is not, or nobody knows.
    Failed(Failed),
}

/// A batch that was not stored as far as is known.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Its records.
    pub batch: ProducerBatch,
    /// How often it was sent.
    pub attempts: u32,
    /// Whether it may be stored all the same.
    pub maybe_stored: bool,
    /// Why.
    pub why: Why,
}

/// Why a batch failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Why {
    /// The broker refused it for good.
    Rejected {
        /// The broker's reason.
        code: ErrorCode,
        /// Its explanation.
        detail: String,
    },
    /// There was no result in time.
    TimedOut,
    /// The producer was closed.
    Closed,
}

/// The broker answered what was never asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an answer for batch {sequence} of partition {partition}, which does not wait for one")]
pub struct Violation {
    /// The partition.
    pub partition: PartitionId,
    /// The batch.
    pub sequence: Sequence,
}
