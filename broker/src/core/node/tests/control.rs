//! With every pool full, what lets the others go on still moves: answers, credit, requests.

use weir_protocol::message::{
    DeleteTopic, DescribeTopic, Explain, Explanation, Failure, ListTopics, OpenProducer, ProducerOpened,
    TopicDescription, TopicList,
};

use super::*;
use crate::core::answers::{BATCH_BYTES, READER_BYTES, REQUEST_BYTES};
use crate::core::ledger::Reservation;
use crate::plan::ANSWERS_KEPT_BYTES;

const CONNECTION: ConnectionId = ConnectionId(1);

impl Script {
    /// A node with a peer whose answers count.
    fn with_peer(limits: NodeLimits) -> Self {
        let script = Self::with(limits, 0);
        script.node.answers().open(CONNECTION);
        script
    }

    /// What others leave of all pools: nothing. What was heard already keeps its own.
    fn fill(&self) -> Vec<Reservation> {
        let ledger = self.node.ledger();
        let kept = ledger.taken(Pool::Ingest);
        let fill = |pool: Pool| {
            let kept = if pool == Pool::Unflushed { kept } else { 0 };
            ledger.reserve(pool, ledger.room(pool) - kept).unwrap()
        };
        Pool::ALL.map(fill).into()
    }

    /// A request is heard, and the peer takes what it is answered.
    fn request(&mut self, request: Request) {
        assert!(self.node.answers().promise(CONNECTION, REQUEST_BYTES), "it is heard");
        self.event(Event::Request(lane(CONTROL), request));
    }

    /// The peer takes all it was answered.
    fn answers_leave(&self) {
        let answers = self.node.answers();
        answers.left(CONNECTION, answers.held(CONNECTION));
    }

    fn create_longest_name(&mut self, number: u32) {
        let settings = TopicSettings {
            partitions: 1,
            retention_age_us: None,
            retention_bytes: None,
            batch_bytes_max: 16 << 10,
            explicit_partitions: false,
            dedup_horizon_us: None,
            dedup_since: Timestamp::ZERO,
            dedup_keys_per_second: None,
            keyed_versions: false,
        };
        let name = format!("{number:0>128}");
        self.request(Request::Create(CreateTopic { request: number, name, settings }));
        self.sync();
        let made: TopicInfo = self.take(CONTROL, FrameKind::TopicInfo);
        assert_eq!(made.request, number);
        self.answers_leave();
    }
}

#[test]
fn batches_under_way_are_answered_and_their_lane_is_granted_more() {
    let mut script = Script::with_peer(LIMITS);
    for sequence in 0..6 {
        assert!(script.node.answers().promise(CONNECTION, BATCH_BYTES));
        script.publish(0, sequence, &[7; 14 << 10]);
    }
    let granted = script.granted;
    let full = script.fill();
    script.sync();
    let ack: PublishAck = script.take(PUBLISH, FrameKind::PublishAck);
    assert_eq!(ack.entries.len(), 6);
    drop(full);
    script.sync();
    assert!(script.granted > granted, "the lane is granted more once there is memory");
    script.answers_leave();
    assert_eq!(script.node.answers().held(CONNECTION), 0);
}

#[test]
fn requests_are_answered_with_every_pool_full_a_page_at_a_time() {
    let mut script = Script::with_peer(LIMITS);
    let _full = script.fill();
    for number in 2..11 {
        script.create_longest_name(number);
    }
    let (mut after, mut names) = (String::new(), Vec::new());
    loop {
        script.request(Request::List(ListTopics { request: 5, after }));
        let page: TopicList = script.take(CONTROL, FrameKind::TopicList);
        assert!(script.node.answers().held(CONNECTION) <= ANSWERS_KEPT_BYTES);
        script.answers_leave();
        names.extend(page.topics.into_iter().map(|topic| topic.name));
        after = names.last().unwrap().clone();
        if !page.more {
            break;
        }
    }
    assert_eq!(names.len(), 10);

    let (name, first_partition) = ("orders".to_owned(), PartitionId::ZERO);
    script.request(Request::Describe(DescribeTopic { request: 6, name: name.clone(), first_partition }));
    let described: TopicDescription = script.take(CONTROL, FrameKind::TopicDescription);
    assert_eq!(described.partitions.len(), 2);
    script.request(Request::Explain(Explain { request: 7, name: name.clone(), after: None }));
    let explained: Explanation = script.take(CONTROL, FrameKind::Explanation);
    assert_eq!(explained.waits.len(), 1);
    script.request(Request::OpenProducer(OpenProducer { request: 8 }));
    script.take::<ProducerOpened>(CONTROL, FrameKind::ProducerOpened);
    assert!(script.node.answers().promise(CONNECTION, REQUEST_BYTES));
    script.trim(9, TrimBefore::Offset(Offset::ZERO), false);
    assert_eq!(script.trimmed().0, 9);
    script.answers_leave();
    script.request(Request::Delete(DeleteTopic { request: 10, name }));
    script.sync();
    script.take::<Done>(CONTROL, FrameKind::Done);
    script.answers_leave();
}

#[test]
fn a_reader_without_memory_is_told_so_and_one_that_reads_may_be_granted_more() {
    let mut script = Script::with_peer(LIMITS);
    assert!(script.node.answers().promise(CONNECTION, READER_BYTES));
    script.subscribe(0, 0, StartAt::Earliest);
    let full = script.fill();
    assert!(script.node.answers().promise(CONNECTION, READER_BYTES));
    script.subscribe(1, 0, StartAt::Earliest);
    let ended: PartitionEnded = script.take(SUBSCRIBE, FrameKind::PartitionEnded);
    assert_eq!((ended.partition.get(), ended.code), (1, ErrorCode::Throttled));
    script.event(Event::Granted(lane(SUBSCRIBE), 1 << 20));
    drop(full);
    assert!(script.node.answers().promise(CONNECTION, BATCH_BYTES));
    script.publish(0, 0, b"one");
    script.sync();
    script.take::<Deliver>(SUBSCRIBE, FrameKind::Deliver);
}

/// Whoever asks again and again and takes no answer: nothing more is heard of it, and others are not concerned.
#[test]
fn a_peer_that_takes_no_answers_is_heard_no_more_and_others_are() {
    let mut script = Script::with_peer(LIMITS);
    (2..11).for_each(|number| script.create_longest_name(number));
    let pool = LIMITS.memory.control / 2;
    let most = (pool + ANSWERS_KEPT_BYTES) / 128;
    let mut heard = 0;
    while u64::from(heard) < most && script.node.answers().promise(CONNECTION, REQUEST_BYTES) {
        heard += 1;
        let list = ListTopics { request: heard, after: String::new() };
        script.event(Event::Request(lane(CONTROL), Request::List(list)));
    }
    let held = script.node.answers().held(CONNECTION);
    assert!(held <= pool + ANSWERS_KEPT_BYTES && script.node.ledger().taken(Pool::Control) <= pool, "{held}");
    assert!(u64::from(heard) < most, "it is heard as long as it asks");

    let other = LaneId { connection: ConnectionId(2), stream: StreamId(CONTROL) };
    script.node.answers().open(other.connection);
    assert!(script.node.answers().promise(other.connection, REQUEST_BYTES));
    let list = ListTopics { request: 1, after: String::new() };
    script.event(Event::Request(other, Request::List(list)));
    let (_, frame) = script.sent.iter().rfind(|(lane, _)| *lane == other).unwrap();
    assert_eq!(TopicList::from_frame(frame).unwrap().topics.len(), 10);
    script.event(Event::Disconnected(CONNECTION));
    script.event(Event::Disconnected(other.connection));
    assert_eq!(script.node.ledger().taken(Pool::Control), 0);
}

/// A batch may be told of record by record. Where there is no memory for that it is refused before its keys are taken, and
/// may come again.
#[test]
fn a_batch_with_keys_waits_until_there_is_memory_for_what_may_be_told_of_it() {
    let mut script = Script::with_peer(LIMITS);
    let full = script.fill();
    let before = script.node.answers().longer(CONNECTION, ANSWERS_KEPT_BYTES - BATCH_BYTES - 100);
    assert!(script.node.answers().promise(CONNECTION, BATCH_BYTES));
    drop(full);
    let full = script.node.ledger().reserve(Pool::Control, LIMITS.memory.control).unwrap();
    let records = [("a", "1"), ("a", "1"), ("b", "2"), ("b", "2"), ("c", "3")];
    script.send(1, 0, &records);
    let refused: PublishRejected = script.take(PUBLISH, FrameKind::PublishRejected);
    assert_eq!((refused.code, refused.retry_after_ms > 0), (ErrorCode::Throttled, true), "{before}");
    assert!(script.appended().is_empty());
    script.answers_leave();

    drop(full);
    assert!(script.node.answers().promise(CONNECTION, BATCH_BYTES));
    script.send(1, 0, &records);
    script.sync();
    let answers = script.answers();
    assert_eq!((answers.len(), answers[0].2.len()), (1, 2), "its keys had not been taken");
    script.answers_leave();
    assert_eq!(script.node.answers().held(CONNECTION), 0);
}

#[test]
fn a_refusal_is_told_without_explanation_where_there_is_no_memory_for_one() {
    let mut script = Script::with_peer(LIMITS);
    let _full = script.fill();
    let mut explained = Vec::new();
    // Nothing leaves, and each answer leaves less for the next.
    while script.node.answers().promise(CONNECTION, REQUEST_BYTES) {
        let name = "x".repeat(128);
        script.event(Event::Request(lane(CONTROL), Request::Delete(DeleteTopic { request: 3, name })));
        let failure: Failure = script.take(CONTROL, FrameKind::Failure);
        assert_eq!(failure.code, ErrorCode::TopicNotFound);
        explained.push(!failure.detail.is_empty());
    }
    assert!(explained[0] && script.node.answers().held(CONNECTION) <= ANSWERS_KEPT_BYTES);
    assert!(explained.len() >= 16, "{}", explained.len());
}
