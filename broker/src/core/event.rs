//! The vocabulary of a node: everything that can happen to it, and everything it can want done.

use bytes::Bytes;
use weir_protocol::ErrorCode;
use weir_protocol::message::{
    AckRecords, AlterTopic, ClaimProducer, CreateGroup, CreateSnapshot, CreateTopic, DeleteGroup,
    DeleteTopic, DescribeDedup, DescribeFailures, DescribeGroup, DescribeTopic, Explain, FailRecords,
    FindKey, Heartbeat, JoinGroup, ListGroups, ListTopics, OpenProducer, Publish, PublishOpen,
    ReleasePartition, ResetGroup, SetRedelivery, SubscribeOpen, SubscribePartition, TrimPartition,
    UnsubscribePartition,
};
use weir_protocol::units::{Offset, PartitionKey, Timestamp};
use weir_storage::frame::Frame;

use crate::core::dedup::{KeyAnswer, KeyLookup, KeyLookupAnswer, KeyProbe};

/// The two times an event happens at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Now {
    /// Microseconds on a clock that never goes back: for waiting.
    pub monotonic_us: u64,
    /// The wall clock: for time stamps. It may jump.
    pub wall: Timestamp,
}

/// A connection of this process. Never reused.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnectionId(pub u64);

/// A stream of a connection, as the transport numbers it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamId(pub u64);

/// A stream that carries batches one way and their credit the other.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LaneId {
    /// Its connection.
    pub connection: ConnectionId,
    /// Its stream there.
    pub stream: StreamId,
}

/// Number of a frame among those this process gave to the journal.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ticket(pub u64);

/// Something happened.
#[derive(Debug)]
pub enum Event {
    /// A client gave its name.
    Greeted(ConnectionId, String),
    /// A request came on a control stream.
    Request(LaneId, Request),
    /// A stream became a publish lane.
    PublishOpened(LaneId, PublishOpen),
    /// A batch came, in a frame of this many bytes, within the lane's credit.
    Publish(LaneId, Box<Publish>, u64),
    /// A stream became a lane of a subscription.
    SubscribeOpened(LaneId, SubscribeOpen),
    /// A lane is to read a partition.
    SubscribePartition(LaneId, SubscribePartition),
    /// A lane is no longer to read a partition.
    UnsubscribePartition(LaneId, UnsubscribePartition),
    /// A lane of a subscription may be sent more.
    Granted(LaneId, u64),
    /// A lane of a subscription may be sent more records.
    GrantedRecords(LaneId, u64),
    /// Bytes of deliveries have left the outbox of a lane.
    Sent(LaneId, u64),
    /// A lane waits for a quota of its client, or does so no more.
    Throttled(LaneId, bool),
    /// A stream has ended.
    LaneClosed(LaneId),
    /// A connection has ended, with all its streams.
    Disconnected(ConnectionId),
    /// The operating system has every frame up to this one.
    Written(Ticket),
    /// Every frame up to this one has been synced.
    Durable(Ticket),
    /// A read of flushed data has ended.
    ColdAnswer(ColdAnswer),
    /// The older keys that were asked for are known.
    Keys(KeyAnswer),
    /// A key that somebody asked for was looked up.
    KeyLookedUp(KeyLookupAnswer),
    /// Partitions were flushed or trimmed.
    Flushed(Flushed),
    /// Storage has run out of space, or has space again.
    StorageFull(bool),
    /// A member of a group says something.
    Member(LaneId, FromMember),
    /// The time has come that [`Node::due`](crate::core::Node::due) tells.
    TimePassed,
    /// The snapshot that was asked for was made, or could not be.
    SnapshotEnded(Result<SnapshotMade, (ErrorCode, String)>),
}

/// A request on a control stream.
#[derive(Debug)]
pub enum Request {
    /// Make a topic.
    Create(CreateTopic),
    /// Change a topic.
    Alter(AlterTopic),
    /// Delete a topic.
    Delete(DeleteTopic),
    /// List topics.
    List(ListTopics),
    /// Describe a topic.
    Describe(DescribeTopic),
    /// Give up records of a partition.
    Trim(TrimPartition),
    /// Tell what lanes wait for.
    Explain(Explain),
    /// Tell what is remembered of an idempotency key.
    FindKey(FindKey),
    /// Tell figures of idempotency keys.
    DescribeDedup(DescribeDedup),
    /// Make a snapshot.
    Snapshot(CreateSnapshot),
    /// Give out a producer identity.
    OpenProducer(OpenProducer),
    /// Give a name to a producer.
    Claim(ClaimProducer),
    /// Something about consumer groups.
    Group(GroupRequest),
}

/// A request about consumer groups.
#[derive(Debug)]
pub enum GroupRequest {
    /// Make a group.
    Create(CreateGroup),
    /// Remove a group.
    Delete(DeleteGroup),
    /// Move the positions of a group.
    Reset(ResetGroup),
    /// List groups.
    List(ListGroups),
    /// Describe a group.
    Describe(DescribeGroup),
    /// Say what a group does with records that fail.
    SetRedelivery(SetRedelivery),
    /// Tell that, and which have failed.
    DescribeFailures(DescribeFailures),
}

impl GroupRequest {
    /// The number that its client gave it.
    pub const fn number(&self) -> u32 {
        match self {
            Self::Create(create) => create.request,
            Self::Delete(delete) => delete.request,
            Self::Reset(reset) => reset.request,
            Self::List(list) => list.request,
            Self::Describe(describe) => describe.request,
            Self::SetRedelivery(set) => set.request,
            Self::DescribeFailures(describe) => describe.request,
        }
    }
}

/// What a member of a group says on its stream.
#[derive(Debug)]
pub enum FromMember {
    /// It joins: the first thing it says.
    Join(JoinGroup),
    /// It is there.
    Heartbeat(Heartbeat),
    /// It gives a partition back.
    Release(ReleasePartition),
    /// It has settled records.
    Ack(AckRecords),
    /// Records have failed.
    Fail(FailRecords),
    /// It leaves.
    Leave,
}

impl Request {
    /// The number that its answer carries.
    pub const fn number(&self) -> u32 {
        match self {
            Self::Create(create) => create.request,
            Self::Alter(alter) => alter.request,
            Self::Delete(delete) => delete.request,
            Self::List(list) => list.request,
            Self::Describe(describe) => describe.request,
            Self::Explain(explain) => explain.request,
            Self::Trim(trim) => trim.request,
            Self::FindKey(find) => find.request,
            Self::DescribeDedup(describe) => describe.request,
            Self::Snapshot(create) => create.request,
            Self::OpenProducer(open) => open.request,
            Self::Group(request) => request.number(),
            Self::Claim(claim) => claim.request,
        }
    }
}

/// What has left memory.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Flushed {
    /// The partitions of which something did.
    pub partitions: Vec<FlushedPartition>,
    /// So many of the idempotency keys ever taken, counted from the first, are among the older ones.
    pub keys: u64,
}

/// What is in segments of a partition now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FlushedPartition {
    /// The partition.
    pub key: PartitionKey,
    /// Everything below is in segments.
    pub flushed_end: Offset,
    /// The first record that is kept.
    pub log_start: Offset,
    /// Bytes in segments.
    pub bytes: u64,
}

/// A snapshot that was made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SnapshotMade {
    /// Its directory, as text for people.
    pub directory: String,
    /// Segments in it.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Wanted: data that is no longer in memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ColdRead {
    /// Who waits for it.
    pub lane: LaneId,
    /// The partition.
    pub key: PartitionKey,
    /// The start it belongs to: an answer to an earlier one is ignored.
    pub generation: u32,
    /// What is wanted.
    pub want: ColdWant,
}

/// What is wanted of flushed data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ColdWant {
    /// Batches from an offset on.
    Batches {
        /// The offset.
        from: Offset,
        /// About how many bytes; at least one batch is read.
        bytes_max: u64,
    },
    /// The first offset appended at or after a moment.
    OffsetAt(Timestamp),
}

/// The answer to a [`ColdRead`].
#[derive(Clone, Debug)]
pub struct ColdAnswer {
    /// What was asked.
    pub read: ColdRead,
    /// What was found.
    pub result: ColdResult,
}

/// What a read of flushed data gave.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ColdResult {
    /// Whole, verified batches.
    Batches {
        /// Back to back.
        bytes: Bytes,
        /// The offset after the last record.
        end: Offset,
    },
    /// The first batch is longer than what was asked for: so many bytes. It was not kept.
    Longer(u64),
    /// The offset asked for, or none in segments.
    Offset(Option<Offset>),
    /// What was asked for is no longer kept.
    Trimmed {
        /// The first record that is kept.
        log_start: Offset,
    },
    /// The data has not been flushed: it is in memory.
    NotFlushed,
    /// Offsets that are damaged on disk.
    Corrupt {
        /// First offset that cannot be read.
        from: Offset,
        /// The offset after the last that cannot be read.
        to: Offset,
    },
    /// The disk failed in a way that may pass.
    Failed,
}

impl ColdResult {
    /// Batches that were read where at most `bytes_max` bytes were asked for.
    pub fn batches(bytes: Bytes, end: Offset, bytes_max: u64) -> Self {
        match bytes.len() as u64 {
            length if length > bytes_max => Self::Longer(length),
            _ => Self::Batches { bytes, end },
        }
    }
}

/// Something to be sent to a peer.
#[derive(Debug)]
pub enum Outgoing {
    /// Whole frames for a stream, in pieces.
    Frames(LaneId, Vec<Bytes>),
    /// Deliveries for a stream, in pieces; their departure is to be reported by [`Event::Sent`].
    Delivery(LaneId, Vec<Bytes>),
    /// A publish lane may send more: also tells the session what to allow.
    Grant(LaneId, u64),
    /// No more will be sent on the stream.
    Finish(LaneId),
    /// The peer broke the rules: end the connection.
    Close(ConnectionId, ErrorCode, String),
}

/// A frame on its way to the journal.
#[derive(Debug)]
pub struct ToWrite {
    /// Its number.
    pub ticket: Ticket,
    /// The frame.
    pub frame: Frame,
    /// Somebody is content once the operating system has it.
    pub early: bool,
}

/// What a node wants done, in order within each list.
#[derive(Debug, Default)]
pub struct Actions {
    /// Frames for the journal; tickets count up from the last one.
    pub journal: Vec<ToWrite>,
    /// What is to be sent.
    pub outgoing: Vec<Outgoing>,
    /// Reads of flushed data.
    pub cold_reads: Vec<ColdRead>,
    /// Keys to be looked for among the older ones.
    pub key_probes: Vec<KeyProbe>,
    /// Keys to be looked up for those who asked.
    pub key_lookups: Vec<KeyLookup>,
    /// A snapshot to be made behind everything given to the journal so far.
    pub snapshot: Option<String>,
    /// Why batches were refused, for the metrics.
    pub rejections: Vec<ErrorCode>,
    last_ticket: Ticket,
}

impl Actions {
    /// Gives a frame to the journal. `early` asks for [`Event::Written`] as well.
    pub fn append(&mut self, frame: Frame, early: bool) -> Ticket {
        self.last_ticket = Ticket(self.last_ticket.0 + 1);
        self.journal.push(ToWrite { ticket: self.last_ticket, frame, early });
        self.last_ticket
    }

    /// The ticket of the last frame ever given to the journal.
    pub const fn last_ticket(&self) -> Ticket {
        self.last_ticket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_longer_than_was_asked_for_only_the_length_is_kept() {
        let read = |bytes_max| ColdResult::batches(Bytes::from_static(b"batch"), Offset::new(1), bytes_max);
        assert_eq!(read(4), ColdResult::Longer(5));
        assert!(matches!(read(5), ColdResult::Batches { .. }));
    }
}
