//! The node: routes events to the machines that own what they are about. It has no arithmetic of its own.

mod claim;
mod dedup;
mod explain;
mod failing;
mod group;
mod letter;
mod publish;
mod snapshot;
mod topic;
mod trim;

use std::collections::BTreeMap;

use weir_protocol::limits::PAGE_ENTRIES_MAX;
use weir_protocol::message::{
    Explanation, Failure, Message, ProducerOpened, SubscribeOpen, TopicDescription, TopicInfo,
};
use weir_protocol::units::{Epoch, Incarnation, PartitionId, PartitionKey, ProducerId, TopicId};
use weir_storage::frame::{Frame, TopicDefinition};
use weir_storage::state::{NodeState, PartitionState};

use crate::core::answers::{Answers, READER_BYTES, REQUEST_BYTES};
use crate::core::claims::Claims;
use crate::core::coordinator::{Coordinator, Refusal, TopicLimits, retry_after_ms};
use crate::core::dedup::{Dedup, KeyCounts};
use crate::core::event::{Flushed, Request};
use crate::core::group::Groups;
use crate::core::hot::HotCache;
use crate::core::ingest::{Ingest, IngestLimits};
use crate::core::ledger::{Budget, Ledger, Pool};
use crate::core::letter::{LetterProducers, Letters, SLOTS};
use crate::core::partition::Partition;
use crate::core::publish::{Publishing, TopicChange, TopicChangeKind, Waiting};
use crate::core::requests::Requests;
use crate::core::subscription::{DeliveryLimits, Partitions, Subscriptions};
use crate::core::trim::TrimLookups;
use crate::core::{Actions, ConnectionId, Event, LaneId, Now, Outgoing, Ticket};

pub use group::PendingGroup;

/// What a node is held to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NodeLimits {
    /// Memory, by what it is for.
    pub memory: Budget,
    /// How lanes of producers share theirs.
    pub ingest: IngestLimits,
    /// Topics and partitions.
    pub topics: TopicLimits,
    /// What is read and sent at a time.
    pub delivery: DeliveryLimits,
}

/// Everything a node knows, and the rules by which that changes.
#[derive(Debug)]
pub struct Node {
    ledger: Ledger,
    answers: Answers,
    coordinator: Coordinator,
    partitions: Partitions,
    ingest: Ingest,
    publishing: Publishing,
    requests: Requests,
    subscriptions: Subscriptions,
    trims: TrimLookups,
    groups: Groups,
    letters: Letters,
    letter_producers: LetterProducers,
    /// The names that clients gave themselves.
    clients: BTreeMap<ConnectionId, String>,
    /// When the last event happened.
    now: Now,
    dedup: Dedup,
    claims: Claims,
    /// Everything up to this one is durable.
    durable_through: Ticket,
    /// Who waits for the snapshot that is being made.
    snapshot: Option<(LaneId, u32)>,
    hot: HotCache,
    next_producer: u64,
    storage_full: bool,
    going_away: bool,
    counted: Counted,
}

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    batches: u64,
    records: u64,
    bytes: u64,
    duplicates: u64,
}

/// Figures for the metrics.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NodeFigures {
    /// Topics.
    pub topics: u64,
    /// Partitions.
    pub partitions: u64,
    /// Lanes of subscriptions.
    pub subscription_lanes: u64,
    /// Bytes granted to producers and not used.
    pub granted_bytes: u64,
    /// Bytes received and not durable.
    pub held_bytes: u64,
    /// Bytes durable and not in segments.
    pub unflushed_bytes: u64,
    /// Bytes taken from each pool, in the order of [`Pool::ALL`].
    pub taken_bytes: [u64; Pool::ALL.len()],
    /// Publish lanes that wait for memory.
    pub waiting_lanes: u64,
    /// Batches appended since the start.
    pub appended_batches: u64,
    /// Records appended since the start.
    pub appended_records: u64,
    /// Bytes of batches appended since the start.
    pub appended_bytes: u64,
    /// Batches that had been appended before.
    pub duplicate_batches: u64,
    /// Keyed records of all topics.
    pub keyed: KeyCounts,
    /// Records that were refused because what they expected was not so.
    pub unmet_expectations: u64,
    /// Idempotency keys in memory.
    pub recent_keys: u64,
}

impl Node {
    /// A node with what recovery found. `flushed_bytes` tells what a partition has in segments; `seed` makes
    /// identities.
    ///
    /// # Panics
    /// If the incarnation does not fit 32 bits: four billion starts.
    pub fn recovered(
        limits: NodeLimits,
        state: &NodeState,
        flushed_bytes: impl Fn(PartitionKey) -> u64,
        dedup: Dedup,
        (incarnation, seed): (Incarnation, u64),
    ) -> Self {
        assert!(incarnation.get() < 1 << 32, "producer identities carry the incarnation in 32 bits");
        let newest = state.partitions.values().map(|partition| partition.last_append_time).max();
        let mut dedup = dedup;
        dedup.clock().not_before(newest.unwrap_or_default());
        let coordinator = Coordinator::recovered(limits.topics, state.topics.values().cloned(), seed);
        let ledger = Ledger::new(limits.memory);
        let answers = Answers::new(ledger.clone());
        let groups = Groups::recovered(state, incarnation, &ledger);
        let mut letters = Letters::default();
        groups.letters().for_each(|letter| letters.add(letter));
        // The first identities of an incarnation are the node's own.
        let first_producer = incarnation.get() << 32;
        let mut node = Self {
            ledger: ledger.clone(),
            answers: answers.clone(),
            coordinator,
            partitions: Partitions::new(),
            ingest: Ingest::new(limits.ingest, ledger.clone()),
            publishing: Publishing::new(answers.clone()),
            requests: Requests::new(answers.clone()),
            subscriptions: Subscriptions::new(limits.delivery, answers),
            trims: TrimLookups::default(),
            groups,
            letters,
            letter_producers: LetterProducers(ProducerId::new(first_producer)),
            clients: BTreeMap::new(),
            now: Now::default(),
            dedup,
            claims: Claims::recovered(state.claims.clone()),
            durable_through: Ticket::default(),
            snapshot: None,
            hot: HotCache::new(ledger),
            next_producer: first_producer + SLOTS,
            storage_full: false,
            going_away: false,
            counted: Counted::default(),
        };
        for definition in state.topics.values() {
            node.add_partitions(definition, |key| {
                let known = state.partitions.get(&key);
                known.map(|partition| Partition::recovered(partition, flushed_bytes(key)))
            });
        }
        node
    }

    /// Takes an event. What follows from it for others waits until [`Node::settle`].
    pub fn handle(&mut self, now: Now, event: Event, actions: &mut Actions) {
        self.now = now;
        self.groups.observe(now);
        if self.groups.due().is_some_and(|due| due <= now.monotonic_us) {
            self.pass_time(now, actions);
        }
        match event {
            Event::Greeted(connection, name) => {
                self.clients.insert(connection, name);
            }
            Event::Request(lane, request) => {
                self.answers.due(lane.connection, REQUEST_BYTES);
                self.request(now, lane, request, actions);
            }
            Event::PublishOpened(lane, open) => self.publish_opened(lane, open, actions),
            Event::Publish(lane, publish, bytes) => self.publish(now, lane, (*publish, bytes), actions),
            Event::SubscribeOpened(lane, open) => self.subscribe_opened(lane, open, actions),
            Event::SubscribePartition(lane, subscribe) => {
                self.answers.due(lane.connection, READER_BYTES);
                self.subscribe(now, lane, subscribe, actions);
            }
            Event::UnsubscribePartition(lane, unsubscribe) => {
                self.note_delivered(lane, unsubscribe.partition);
                self.subscriptions.stop(lane, unsubscribe.partition, &mut self.partitions);
            }
            Event::Granted(lane, limit_bytes) => self.subscriptions.grant(lane, limit_bytes),
            Event::GrantedRecords(lane, limit_records) => {
                self.subscriptions.grant_records(lane, limit_records);
            }
            Event::Sent(lane, bytes) => self.subscriptions.sent(lane, bytes),
            Event::Throttled(lane, waits) => {
                self.publishing.throttled(lane, waits);
                self.subscriptions.throttled(lane, waits);
            }
            Event::LaneClosed(lane) => {
                self.group_lane_closed(now, lane, actions);
                self.close(lane);
            }
            Event::Member(lane, said) => {
                self.answers.due(lane.connection, REQUEST_BYTES);
                self.member(now, lane, said, actions);
            }
            // What was due has been done by now.
            Event::TimePassed => {}
            Event::Disconnected(connection) => {
                self.clients.remove(&connection);
                self.answers.close(connection);
            }
            Event::Written(through) => self.publishing.written(through),
            Event::Durable(through) => self.durable(through, actions),
            Event::ColdAnswer(answer) => {
                if !self.trim_located(&answer, actions) && !self.letter_read(&answer, actions) {
                    self.note_reached(answer.read.lane, answer.read.key.partition);
                    self.subscriptions.answer(&answer, &self.partitions, actions);
                }
            }
            Event::Keys(answer) => self.keys_found(now, answer, actions),
            Event::KeyLookedUp(answer) => self.key_looked_up(answer, actions),
            Event::Flushed(flushed) => self.flushed(&flushed, actions),
            Event::StorageFull(full) => self.storage_full = full,
            Event::SnapshotEnded(made) => self.snapshot_ended(made, actions),
        }
    }

    /// Sends what the events since the last call have made possible: answers, deliveries, credit.
    pub fn settle(&mut self, actions: &mut Actions) {
        self.letters_answered(actions);
        self.forward_letters(actions);
        self.letters_answered(actions);
        self.publishing.send_answers(actions);
        self.subscriptions.pump(self.now.monotonic_us, &mut self.partitions, actions);
        self.hot.settle(&mut self.partitions);
        while let Some((lane, limit)) = self.ingest.next_grant() {
            self.publishing.moved(lane, self.now.monotonic_us);
            actions.outgoing.push(Outgoing::Grant(lane, limit));
        }
        self.answers.settle(&actions.outgoing);
    }

    /// The node's memory, for those around it who take some.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// When [`Event::TimePassed`] is to be told, in microseconds on the clock that never goes back.
    pub fn due(&self) -> Option<u64> {
        self.groups.due().into_iter().chain(self.letters.due()).min()
    }

    /// The memory for answers, for those who hear what is to be answered.
    pub const fn answers(&self) -> &Answers {
        &self.answers
    }

    /// Takes no new batch from now on.
    pub const fn drain(&mut self) {
        self.going_away = true;
    }

    /// Whether more has come than memory was set aside for: publish lanes should not be read.
    pub fn is_over(&self) -> bool {
        self.ingest.is_over()
    }

    /// Whether everything that was taken has been answered.
    pub fn is_quiet(&self) -> bool {
        self.publishing.pending() == 0 && self.dedup.is_quiet()
    }

    /// Figures for the metrics.
    pub fn figures(&self) -> NodeFigures {
        NodeFigures {
            topics: self.coordinator.topics() as u64,
            partitions: self.partitions.len() as u64,
            subscription_lanes: self.subscriptions.lanes() as u64,
            granted_bytes: self.ingest.granted(),
            held_bytes: self.ingest.held(),
            unflushed_bytes: self.ledger.taken(Pool::Unflushed),
            taken_bytes: Pool::ALL.map(|pool| self.ledger.taken(pool)),
            waiting_lanes: self.ingest.waiting() as u64,
            appended_batches: self.counted.batches,
            appended_records: self.counted.records,
            appended_bytes: self.counted.bytes,
            duplicate_batches: self.counted.duplicates,
            keyed: self.dedup.counted(),
            unmet_expectations: self.dedup.unmet_expectations(),
            recent_keys: self.dedup.recent() as u64,
        }
    }

    fn add_partitions(
        &mut self,
        definition: &TopicDefinition,
        recovered: impl Fn(PartitionKey) -> Option<Partition>,
    ) {
        for partition in 0..definition.settings.partitions {
            let key = PartitionKey { topic: definition.id, partition: PartitionId::new(partition) };
            let state = recovered(key).unwrap_or_else(|| Partition::recovered(&PartitionState::default(), 0));
            self.partitions.insert(key, state);
        }
    }

    fn request(&mut self, now: Now, lane: LaneId, request: Request, actions: &mut Actions) {
        if let Err(refusal) = self.requests.admit(lane) {
            self.fail_request(lane, request.number(), refusal, actions);
            return;
        }
        let (number, result) = match request {
            Request::Create(create) => {
                let made = self.coordinator.create(&create.name, create.settings, now.wall);
                let kind = TopicChangeKind::Create;
                (create.request, made.map(|made| self.change((lane, create.request), made, kind, actions)))
            }
            Request::Alter(alter) => {
                let key_time = now.wall.max(self.dedup.clock().now(now));
                let made = self.coordinator.alter(&alter.name, alter.settings, key_time);
                let kind = TopicChangeKind::Alter;
                (alter.request, made.map(|made| self.change((lane, alter.request), made, kind, actions)))
            }
            Request::Delete(delete) => {
                let request = delete.request;
                let topic = self.coordinator.delete(&delete.name);
                let waits = |topic: TopicId| {
                    let ticket = actions.append(Frame::TopicDeleted(topic), false);
                    let kind = TopicChangeKind::Delete;
                    let change = TopicChange { lane, request, topic, kind };
                    self.requests.begun(lane);
                    self.publishing.wait(ticket, Waiting::Topic(change));
                };
                (request, topic.map(waits))
            }
            Request::List(list) => {
                let entries = self.page(lane, TopicInfo::BYTES_MAX);
                let frame = self.coordinator.list(list.request, &list.after, entries).to_frame();
                actions.outgoing.push(Outgoing::Frames(lane, vec![frame]));
                return;
            }
            Request::Describe(describe) => {
                let described = self.describe(lane, &describe);
                let answer = |description: TopicDescription| {
                    actions.outgoing.push(Outgoing::Frames(lane, vec![description.to_frame()]));
                };
                (describe.request, described.map(answer))
            }
            Request::Explain(explain) => {
                let explained = self.explain(lane, &explain);
                let answer = |explanation: Explanation| {
                    actions.outgoing.push(Outgoing::Frames(lane, vec![explanation.to_frame()]));
                };
                (explain.request, explained.map(answer))
            }
            Request::FindKey(find) => (find.request, self.find_key(lane, &find, actions)),
            Request::DescribeDedup(describe) => {
                (describe.request, self.describe_dedup(lane, &describe, actions))
            }
            Request::Trim(trim) => (trim.request, self.trim(lane, &trim, actions)),
            Request::Claim(claim) => (claim.request, self.claim(lane, &claim, actions)),
            Request::Snapshot(create) => (create.request, self.snapshot(lane, create, actions)),
            Request::Group(request) => return self.group_request(now, lane, request, actions),
            Request::OpenProducer(open) => {
                let producer = ProducerId::new(self.next_producer);
                self.next_producer += 1;
                let opened = ProducerOpened { request: open.request, producer, epoch: Epoch::ZERO };
                actions.outgoing.push(Outgoing::Frames(lane, vec![opened.to_frame()]));
                return;
            }
        };
        if let Err(refusal) = result {
            self.refuse_request((lane, number), refusal, actions);
        }
    }

    /// How many entries of so many bytes the page may have that is answered now: at least one.
    fn page(&self, lane: LaneId, entry_bytes: usize) -> usize {
        let most = PAGE_ENTRIES_MAX as usize;
        let more = self.answers.longer(lane.connection, ((most - 1) * entry_bytes) as u64);
        1 + usize::try_from(more).map_or(most, |more| more / entry_bytes).min(most - 1)
    }

    /// A request is refused, with as much of an explanation as there is memory for.
    fn fail_request(&self, lane: LaneId, request: u32, (code, detail): Refusal, actions: &mut Actions) {
        let bytes = detail.len() as u64;
        let is_told = self.answers.longer(lane.connection, bytes) >= bytes;
        let detail = if is_told { detail } else { String::new() };
        fail(lane, request, (code, detail), actions);
    }

    fn subscribe_opened(&mut self, lane: LaneId, open: SubscribeOpen, actions: &mut Actions) {
        match self.coordinator.live_by_id(open.topic) {
            Ok(_) => self.subscriptions.open(lane, (open.topic, open.limit_bytes), self.now.monotonic_us),
            Err(refusal) => refuse_lane(lane, refusal, actions),
        }
    }

    fn durable(&mut self, through: Ticket, actions: &mut Actions) {
        self.durable_through = through;
        while let Some(waiting) = self.publishing.next_durable(through) {
            match waiting {
                Waiting::Append(append) => self.append_durable(append),
                Waiting::Answer { lane, answer, frame_bytes } => {
                    self.ingest.release(lane, frame_bytes, 0);
                    if let Some(answer) = answer {
                        self.publishing.give(lane, answer);
                    }
                }
                Waiting::Topic(change) => {
                    self.requests.ended(change.lane);
                    self.topic_durable(change, actions);
                }
                Waiting::Trim(pending) => {
                    self.requests.ended(pending.trim.lane);
                    self.trim_durable(&pending, actions);
                }
                Waiting::Group(pending) => {
                    self.requests.ended(pending.lane());
                    self.group_durable(pending, actions);
                }
                Waiting::Longest(pending) => self.longest_durable(pending, actions),
                Waiting::Acked(pending) => self.ack_durable(&pending, actions),
                Waiting::Failed(pending) => self.failure_durable(pending, actions),
                Waiting::Claim(pending) => {
                    self.requests.ended(pending.lane);
                    claim::answer(&pending, actions);
                }
                Waiting::Refused(lane, number, refusal) => {
                    self.requests.ended(lane);
                    self.fail_request(lane, number, refusal, actions);
                }
            }
        }
    }

    fn flushed(&mut self, flushed: &Flushed, actions: &mut Actions) {
        // Before anything is evicted: the batch of a key in memory is in memory too.
        self.dedup.flushed(flushed.keys);
        for flushed in &flushed.partitions {
            if let Some(partition) = self.partitions.get_mut(&flushed.key) {
                let bytes = partition.flushed(flushed.flushed_end, flushed.log_start, flushed.bytes);
                self.hot.flushed(bytes);
            }
        }
        self.keys_released(self.now, actions);
    }

    fn close(&mut self, lane: LaneId) {
        if self.publishing.lane(lane).is_some() {
            self.publishing.close(lane);
            self.ingest.close(lane);
        }
        self.subscriptions.close(lane, &mut self.partitions);
    }
}

fn fail(lane: LaneId, request: u32, (code, detail): Refusal, actions: &mut Actions) {
    let failure = Failure { request, code, retry_after_ms: retry_after_ms(code), detail };
    actions.outgoing.push(Outgoing::Frames(lane, vec![failure.to_frame()]));
}

fn refuse_lane(lane: LaneId, refusal: Refusal, actions: &mut Actions) {
    fail(lane, 0, refusal, actions);
    actions.outgoing.push(Outgoing::Finish(lane));
}

#[cfg(test)]
pub(crate) mod tests;
