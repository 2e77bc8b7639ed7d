//! Frames: how messages stand in a stream, and how they are found in received bytes.
//!
//! A frame is a header of 8 bytes (length of the body, kind, two reserved bytes of zero) and the body. All is
//! little endian. Nothing in it depends on QUIC.

use bytes::{Buf, BufMut, Bytes};

use crate::error::{DecodeError, Problem};
use crate::limits::FRAME_BYTES_MAX;
use crate::read::Reader;

/// Length of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 8;

/// Declares the kinds with their numbers in one table.
macro_rules! kinds {
    ($($(#[$meta:meta])* $name:ident = $number:literal,)*) => {
        /// What a frame says. The numbers are stable.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum FrameKind { $($(#[$meta])* $name,)* }

        impl FrameKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its number on the wire.
            pub const fn number(self) -> u16 {
                match self { $(Self::$name => $number,)* }
            }

            /// The kind with this number, if there is one.
            pub const fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }
    };
}

kinds! {
    /// Client: opens a connection.
    Hello = 1,
    /// Broker: accepts it.
    Welcome = 2,
    /// Broker: a request, a stream or the connection failed.
    Failure = 3,
    /// Broker: no new work, please move on.
    GoAway = 4,
    /// Client: makes a topic.
    CreateTopic = 16,
    /// Client: changes a topic's settings.
    AlterTopic = 17,
    /// Client: deletes a topic.
    DeleteTopic = 18,
    /// Client: lists topics.
    ListTopics = 19,
    /// Client: describes a topic and a page of its partitions.
    DescribeTopic = 20,
    /// Client: gives up the records of a partition below a point.
    TrimPartition = 21,
    /// Broker: done, nothing to tell.
    Done = 24,
    /// Broker: a topic.
    TopicInfo = 25,
    /// Broker: a page of topics.
    TopicList = 26,
    /// Broker: a topic and a page of its partitions.
    TopicDescription = 27,
    /// Broker: a partition was trimmed.
    PartitionTrimmed = 28,
    /// Client: asks for a producer identity.
    OpenProducer = 32,
    /// Broker: gives it.
    ProducerOpened = 33,
    /// Client: makes a snapshot of everything.
    CreateSnapshot = 40,
    /// Broker: it was made.
    SnapshotCreated = 41,
    /// Client: makes the stream a lane for publishing.
    PublishOpen = 48,
    /// Client: a batch.
    Publish = 49,
    /// Broker: results of batches.
    PublishAck = 50,
    /// Broker: a batch that was not taken.
    PublishRejected = 51,
    /// Both: raises the limit of bytes that may be sent on the stream.
    Grant = 52,
    /// Broker: the client has used up its quota, and is granted nothing more for a while.
    Throttled = 53,
    /// Client: makes the stream a lane of a subscription.
    SubscribeOpen = 64,
    /// Client: starts reading a partition, or moves to another position.
    SubscribePartition = 65,
    /// Broker: where reading a partition starts.
    PartitionStarted = 66,
    /// Broker: batches.
    Deliver = 67,
    /// Broker: offsets that will not come.
    Gap = 68,
    /// Client: ends reading a partition.
    UnsubscribePartition = 69,
    /// Broker: reading a partition cannot start or go on.
    PartitionEnded = 70,
    /// Client: raises the limit of records that may be sent on the lane.
    GrantRecords = 71,
    /// Client: asks what the lanes of a topic wait for.
    Explain = 96,
    /// Broker: a page of what they wait for.
    Explanation = 97,
    /// Broker: results of single records, ahead of that of their batch.
    PublishExceptions = 112,
    /// Client: makes a consumer group.
    CreateGroup = 128,
    /// Client: removes a consumer group.
    DeleteGroup = 129,
    /// Client: moves the positions of a group.
    ResetGroup = 130,
    /// Client: lists groups.
    ListGroups = 131,
    /// Client: describes a group and a page of its partitions.
    DescribeGroup = 132,
    /// Broker: positions were moved.
    GroupReset = 136,
    /// Broker: a page of groups.
    GroupList = 137,
    /// Broker: a group and a page of its partitions.
    GroupDescription = 138,
    /// Client: makes the stream that of a member of a group.
    JoinGroup = 144,
    /// Both: the member is there.
    Heartbeat = 145,
    /// Broker: a partition is leased to the member.
    PartitionAssigned = 146,
    /// Broker: the member is to give a partition back.
    PartitionRevoked = 147,
    /// Client: gives a partition back.
    ReleasePartition = 148,
    /// Broker: the lease of a partition has ended.
    PartitionLost = 149,
    /// Client: records are settled.
    AckRecords = 150,
    /// Broker: what became of that.
    RecordsAcked = 151,
    /// Client: leaves the group.
    LeaveGroup = 152,
    /// Client: records have failed.
    FailRecords = 153,
    /// Broker: what becomes of them.
    RecordsFailed = 154,
    /// Broker: records of a partition that have failed before.
    PartitionFailures = 155,
    /// Client: says what a group does with records that fail.
    SetRedelivery = 156,
    /// Client: asks what a group does with records that fail, and which have.
    DescribeFailures = 157,
    /// Broker: tells it.
    GroupFailures = 158,
    /// Client: claims a name for its producer.
    ClaimProducer = 176,
    /// Client: asks what is remembered of an idempotency key.
    FindKey = 184,
    /// Broker: what is.
    KeyFound = 185,
    /// Client: asks for figures of idempotency keys.
    DescribeDedup = 186,
    /// Broker: these, with a page of topics.
    DedupDescription = 187,
}

/// A frame whose body has been received whole, not yet decoded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RawFrame {
    /// What it says.
    pub kind: FrameKind,
    /// Its body.
    pub body: Bytes,
}

/// Writes the header of a frame.
///
/// # Panics
/// If the body exceeds [`FRAME_BYTES_MAX`]: senders keep their limits.
pub fn put_header(kind: FrameKind, body_bytes: usize, out: &mut impl BufMut) {
    let length = u32::try_from(body_bytes).expect("frames are limited to 32 bits");
    assert!(length <= FRAME_BYTES_MAX, "a frame exceeds the limit of the wire");
    out.put_u32_le(length);
    out.put_u16_le(kind.number());
    out.put_u16_le(0);
}

/// Reads a frame header from the start of `bytes`, or says that it is not all there.
///
/// Returns the kind and the length of the body, which is at most `body_bytes_max`.
///
/// # Errors
/// An unknown kind, a body that is too long, or reserved bytes that are not zero.
pub fn peek_header(bytes: &[u8], body_bytes_max: u32) -> Result<Option<(FrameKind, usize)>, DecodeError> {
    if bytes.len() < FRAME_HEADER_BYTES {
        return Ok(None);
    }
    let mut reader = Reader::new(bytes);
    let length = reader.u32()?;
    let number = reader.u16()?;
    let reserved = reader.u16()?;
    if length > body_bytes_max {
        let (value, max) = (u64::from(length), u64::from(body_bytes_max));
        return Err(DecodeError::new(0, Problem::TooLarge { what: "frame length", value, max }));
    }
    let Some(kind) = FrameKind::from_number(number) else {
        return Err(DecodeError::new(4, Problem::Invalid { what: "frame kind", value: u64::from(number) }));
    };
    if reserved != 0 {
        let problem = Problem::Invalid { what: "reserved frame bytes", value: u64::from(reserved) };
        return Err(DecodeError::new(6, problem));
    }
    Ok(Some((kind, length as usize)))
}

/// Takes the next whole frame from the front of `bytes`, or says that it is not all there.
///
/// # Errors
/// As [`peek_header`]; the position counts from the start of the frame.
pub fn take_frame(bytes: &mut Bytes, body_bytes_max: u32) -> Result<Option<RawFrame>, DecodeError> {
    let Some((kind, length)) = peek_header(bytes, body_bytes_max)? else { return Ok(None) };
    if bytes.len() < FRAME_HEADER_BYTES + length {
        return Ok(None);
    }
    bytes.advance(FRAME_HEADER_BYTES);
    Ok(Some(RawFrame { kind, body: bytes.split_to(length) }))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: FrameKind, body: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        put_header(kind, body.len(), &mut out);
        out.put_slice(body);
        out
    }

    #[test]
    fn kinds_have_numbers_of_their_own() {
        let mut numbers: Vec<u16> = FrameKind::ALL.iter().map(|kind| kind.number()).collect();
        for kind in FrameKind::ALL {
            assert_eq!(FrameKind::from_number(kind.number()), Some(*kind));
        }
        assert!(numbers.is_sorted(), "kinds stand in order of number");
        numbers.dedup();
        assert_eq!(numbers.len(), FrameKind::ALL.len());
    }

    #[test]
    fn a_bad_header_is_refused_at_the_byte_that_is_bad() {
        let whole = frame(FrameKind::Grant, &[1, 2, 3]);
        let refusal = |at: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            peek_header(&bytes, 3).unwrap_err()
        };
        let length = Problem::TooLarge { what: "frame length", value: 4, max: 3 };
        assert_eq!(refusal(0, 4), DecodeError::new(0, length));
        assert_eq!(refusal(4, 0), DecodeError::new(4, Problem::Invalid { what: "frame kind", value: 0 }));
        let reserved = Problem::Invalid { what: "reserved frame bytes", value: 256 };
        assert_eq!(refusal(7, 1), DecodeError::new(6, reserved));
        assert_eq!(peek_header(&whole, 3), Ok(Some((FrameKind::Grant, 3))));
        assert_eq!(peek_header(&whole[..7], 3), Ok(None));
    }

    proptest! {
        #[test]
        fn frames_are_found_however_the_bytes_arrive(
            bodies in vec((proptest::sample::select(FrameKind::ALL), vec(any::<u8>(), 0..50)), 0..10),
            cuts in vec(1usize..40, 1..40),
        ) {
            // given
            let mut stream = BytesMut::new();
            for (kind, body) in &bodies {
                stream.extend_from_slice(&frame(*kind, body));
            }
            // when
            let (mut buffered, mut found, mut cuts) = (Bytes::new(), Vec::new(), cuts.into_iter().cycle());
            while !stream.is_empty() {
                let arrived = stream.split_to(cuts.next().unwrap().min(stream.len()));
                buffered = [buffered, arrived.freeze()].concat().into();
                while let Some(frame) = take_frame(&mut buffered, 50).unwrap() {
                    found.push((frame.kind, frame.body.to_vec()));
                }
            }
            // then
            prop_assert!(buffered.is_empty());
            prop_assert_eq!(found, bodies);
        }
    }
}
