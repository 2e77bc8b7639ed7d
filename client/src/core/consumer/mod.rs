//! The consumer: positions, what waits for the application, and the credit it gives.
//!
//! What is handed out of a partition is contiguous: each offset from the start on is either handed out or announced as
//! missing, in order, once, whatever happens to the connection. A new start (at the beginning, after a lost connection, after
//! a seek) raises the partition's generation; whatever came under an earlier one is thrown away, and reading goes on at
//! the position the application has reached.

mod lane;
mod leased;
#[cfg(test)]
mod tests;
mod types;

use std::collections::{BTreeMap, VecDeque};

use weir_protocol::ErrorCode;
use weir_protocol::message::{
    Deliver, Gap, GapReason, PartitionEnded, PartitionStarted, StartAt, SubscribeOpen, SubscribePartition,
};
use weir_protocol::units::{Offset, PartitionId};

use lane::{Lane, Window};
pub use types::{Command, ConsumerOptions, Ended, Frame, LaneId, Missing, Step, Taken};

/// Something that waits for the application, in the order in which it came.
#[derive(Debug)]
enum Item {
    Frame(Frame),
    Gap(Gap),
    Ended(Ended, u32),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Reading,
    /// Everything wanted has been handed out.
    Finished,
    Failed,
    /// It is not leased to this consumer any more; it may be again.
    Away,
}

/// Reading one partition.
#[derive(Debug)]
struct Reading {
    lane: LaneId,
    generation: u32,
    /// Where it was asked to start.
    start: StartAt,
    /// The next offset to be handed out, once the broker has said where the start lies.
    position: Option<Offset>,
    /// Where to stop, once known.
    bound: Option<Offset>,
    high_watermark: Offset,
    state: State,
}

impl Reading {
    fn start(&self) -> StartAt {
        match (self.start, self.position) {
            // The group knows where it stands.
            (lease @ StartAt::Lease(_), _) => lease,
            (_, Some(position)) => StartAt::Offset(position),
            (start, None) => start,
        }
    }

    fn subscribe(&mut self, partition: PartitionId) -> SubscribePartition {
        self.generation = self.generation.wrapping_add(1);
        SubscribePartition { partition, generation: self.generation, start: self.start() }
    }

    /// Whether the position has reached the bound for the first time.
    fn finishes(&mut self) -> bool {
        let reached =
            matches!((self.position, self.bound), (Some(position), Some(bound)) if position >= bound);
        let finishes = reached && self.state == State::Reading;
        if finishes {
            self.state = State::Finished;
        }
        finishes
    }
}

/// The machine of one consumer.
#[derive(Debug)]
pub struct Consumer {
    options: ConsumerOptions,
    partitions: BTreeMap<PartitionId, Reading>,
    lanes: Vec<Lane>,
    queue: VecDeque<Item>,
    missing: Vec<Missing>,
    /// For a member of a group: how many partitions there may be, which come and go.
    leasable: Option<u32>,
}

impl Consumer {
    /// A consumer that has not started.
    #[must_use]
    pub fn new(options: ConsumerOptions) -> Self {
        let reading = |start| Reading {
            lane: LaneId(0),
            generation: 0,
            start,
            position: None,
            bound: None,
            high_watermark: Offset::ZERO,
            state: State::Reading,
        };
        let partitions =
            options.partitions.iter().map(|(partition, start)| (*partition, reading(*start))).collect();
        Self {
            options,
            partitions,
            lanes: Vec::new(),
            queue: VecDeque::new(),
            missing: Vec::new(),
            leasable: None,
        }
    }

    /// A connection was made: partitions are spread over at most so many lanes while it lasts. All lanes are closed.
    pub fn connected(&mut self, lanes_max: u32) {
        let partitions = self.partitions.len().max(self.leasable.unwrap_or(0) as usize);
        let count = u32::try_from(partitions).unwrap_or(u32::MAX).min(lanes_max).max(1);
        let share = self.options.window_bytes / u64::from(count);
        let bytes = lane::window(share, self.options.frame_bytes_max);
        let records = self.options.window_records.map(|records| (records / u64::from(count)).max(1));
        let window = Window { bytes, records };
        let incarnation = self.lanes.iter().map(|lane| lane.incarnation).max().unwrap_or(0);
        self.lanes = (0..count).map(|_| Lane::new(window, incarnation)).collect();
        for (reading, lane) in self.partitions.values_mut().zip((0..count).cycle()) {
            reading.lane = LaneId(lane);
        }
        if self.leasable.is_some() {
            for (partition, reading) in &mut self.partitions {
                reading.lane = LaneId(partition.get() % count);
            }
        }
        self.discard_stale();
    }

    /// How many lanes there are.
    ///
    /// # Panics
    /// Never: their number came in 32 bits.
    ///
    /// # Panics
    /// If the rules above are broken: a defect of the caller.
    #[must_use]
    pub fn lanes(&self) -> u32 {
        u32::try_from(self.lanes.len()).expect("lanes are few")
    }

    fn lane_mut(&mut self, lane: LaneId) -> Option<&mut Lane> {
        self.lanes.get_mut(lane.0 as usize)
    }

    /// Whether some partition of the lane is still being read.
    #[must_use]
    pub fn is_lane_needed(&self, lane: LaneId) -> bool {
        self.partitions.values().any(|reading| reading.lane == lane && reading.state == State::Reading)
    }

    /// The stream of a lane was opened. Returns its first frame; what starts its partitions is among its commands.
    pub fn lane_opened(&mut self, lane: LaneId) -> SubscribeOpen {
        let topic = self.options.topic;
        let limit_bytes = self.lane_mut(lane).map_or(0, Lane::open);
        let reading = self.partitions.iter_mut().filter(|(_, reading)| reading.lane == lane);
        let reading = reading.filter(|(_, reading)| reading.state == State::Reading);
        let starts: Vec<Command> =
            reading.map(|(partition, reading)| Command::Subscribe(reading.subscribe(*partition))).collect();
        if let Some(opened) = self.lane_mut(lane) {
            opened.commands.extend(starts);
        }
        self.discard_stale();
        SubscribeOpen { topic, limit_bytes }
    }

    /// The stream of a lane is gone.
    pub fn lane_lost(&mut self, lane: LaneId) {
        if let Some(lost) = self.lane_mut(lane) {
            lost.close();
        }
        for reading in self.partitions.values_mut().filter(|reading| reading.lane == lane) {
            reading.generation = reading.generation.wrapping_add(1);
        }
        self.discard_stale();
    }

    /// What is to be sent on a lane, in order.
    pub fn commands(&mut self, lane: LaneId) -> Vec<Command> {
        self.lane_mut(lane).map(|lane| std::mem::take(&mut lane.commands)).unwrap_or_default()
    }

    /// The lanes that have something to send.
    pub fn commanded(&self) -> impl Iterator<Item = LaneId> + '_ {
        let lanes = (0..).map(LaneId).zip(&self.lanes);
        lanes.filter(|(_, lane)| !lane.commands.is_empty()).map(|(id, _)| id)
    }

    /// The partition, if what came with this generation still counts.
    fn current(&mut self, partition: PartitionId, generation: u32) -> Option<&mut Reading> {
        let reading = self.partitions.get_mut(&partition)?;
        (reading.generation == generation && reading.state == State::Reading).then_some(reading)
    }

    /// The broker says where reading starts.
    pub fn started(&mut self, started: &PartitionStarted) {
        let to_end = self.options.to_end;
        let Some(reading) = self.current(started.partition, started.generation) else { return };
        reading.high_watermark = started.high_watermark;
        reading.position = Some(started.position);
        if to_end && reading.bound.is_none() {
            reading.bound = Some(started.high_watermark);
        }
        self.finish_if_done(started.partition);
    }

    /// Batches came on a lane. Says whether the broker kept to the credit.
    pub fn delivered(&mut self, lane: LaneId, deliver: &Deliver) -> bool {
        let Some(opened) = self.lane_mut(lane) else { return true };
        let frame = Frame::new(deliver, lane, opened.incarnation);
        let in_credit = opened.receive(&frame);
        match self.current(deliver.partition, deliver.generation) {
            Some(reading) => {
                reading.high_watermark = reading.high_watermark.max(deliver.high_watermark);
                self.queue.push_back(Item::Frame(frame));
            }
            None => self.consumed(&frame),
        }
        in_credit
    }

    /// The broker says that offsets will not come.
    pub fn gap(&mut self, gap: Gap) {
        if self.current(gap.partition, gap.generation).is_some() {
            self.queue.push_back(Item::Gap(gap));
        }
    }

    /// Reading a partition cannot start or go on.
    pub fn ended(&mut self, ended: &PartitionEnded) {
        let Some(reading) = self.current(ended.partition, ended.generation) else { return };
        let asked = match reading.start() {
            StartAt::Offset(offset) => Some(offset),
            StartAt::Earliest | StartAt::Latest | StartAt::Time(_) | StartAt::Last(_) | StartAt::Lease(_) => {
                None
            }
        };
        // The stream of the member tells why a lease has ended.
        if matches!((reading.start(), ended.code), (StartAt::Lease(_), ErrorCode::Fenced)) {
            reading.state = State::Away;
            return;
        }
        // Retention went past a reader that was away: announced like to one that was there but behind.
        let passed = reading.position.filter(|position| *position < ended.log_start);
        if let (Some(from), ErrorCode::OffsetOutOfRange) = (passed, ended.code) {
            reading.position = Some(ended.log_start);
            let again = reading.subscribe(ended.partition);
            let lane = reading.lane;
            let (partition, to) = (ended.partition, ended.log_start);
            self.missing.push(Missing { partition, from, to, reason: GapReason::Retention });
            self.command(lane, Command::Subscribe(again));
            self.finish_if_done(partition);
            return;
        }
        let told = Ended {
            partition: ended.partition,
            asked,
            code: ended.code,
            log_start: ended.log_start,
            high_watermark: ended.high_watermark,
            detail: ended.detail.clone(),
        };
        self.queue.push_back(Item::Ended(told, ended.generation));
    }

    fn command(&mut self, lane: LaneId, command: Command) {
        if let Some(lane) = self.lane_mut(lane).filter(|lane| lane.is_open) {
            lane.commands.push(command);
        }
    }

    fn finish_if_done(&mut self, partition: PartitionId) {
        let Some(reading) = self.partitions.get_mut(&partition) else { return };
        if reading.finishes() {
            let lane = reading.lane;
            self.command(lane, Command::Unsubscribe(partition));
        }
    }

    /// What the application gets next, if anything has come. A frame is to be taken apart batch by batch with
    /// [`Consumer::begin_batch`] and given back with [`Consumer::consumed`].
    pub fn take(&mut self) -> Option<Taken> {
        while let Some(item) = self.queue.pop_front() {
            match item {
                Item::Frame(frame) if self.current(frame.partition, frame.generation).is_some() => {
                    return Some(Taken::Frame(frame));
                }
                Item::Frame(frame) => self.consumed(&frame),
                Item::Gap(gap) => self.pass_gap(&gap),
                Item::Ended(ended, generation) => {
                    if let Some(reading) = self.current(ended.partition, generation) {
                        reading.state = State::Failed;
                        return Some(Taken::Ended(ended));
                    }
                }
            }
        }
        None
    }

    fn pass_gap(&mut self, gap: &Gap) {
        let Some(reading) = self.current(gap.partition, gap.generation) else { return };
        let position = reading.position.unwrap_or(gap.from);
        if gap.to > position {
            reading.position = Some(gap.to);
            let missing = Missing {
                partition: gap.partition,
                from: position.max(gap.from),
                to: gap.to,
                reason: gap.reason,
            };
            self.missing.push(missing);
            self.finish_if_done(gap.partition);
        }
    }

    /// Whether something waits for the application.
    #[must_use]
    pub fn is_queue_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The application begins a batch with the offsets `base..end` of a frame it has taken: says which of them it gets.
    /// The position is moved behind them at once: they will be handed out, whatever happens to the connection.
    pub fn begin_batch(&mut self, frame: &Frame, base: Offset, end: Offset) -> Step {
        let Some(reading) = self.current(frame.partition, frame.generation) else { return Step::Stale };
        let position = reading.position.unwrap_or(base);
        let from = position.max(base);
        let until = reading.bound.map_or(end, |bound| bound.min(end));
        if from >= until {
            return Step::Skip;
        }
        reading.position = Some(until);
        // Offsets that are neither there nor announced: never silent.
        if base > position {
            let reason = GapReason::Retention;
            self.missing.push(Missing { partition: frame.partition, from: position, to: base, reason });
        }
        self.finish_if_done(frame.partition);
        Step::Deliver { from, until }
    }

    /// The application is done with a frame: its bytes are granted again.
    pub fn consumed(&mut self, frame: &Frame) {
        if let Some(lane) = self.lane_mut(frame.lane)
            && lane.is_open
            && lane.incarnation == frame.incarnation
        {
            lane.consume(frame);
        }
    }

    /// The application found a frame damaged: reading its partition ends.
    pub fn failed(&mut self, partition: PartitionId) {
        if let Some(reading) = self.partitions.get_mut(&partition) {
            reading.state = State::Failed;
            let lane = reading.lane;
            self.command(lane, Command::Unsubscribe(partition));
        }
    }

    /// Everything without connection failed for good.
    pub fn fail_all(&mut self) {
        self.partitions.values_mut().for_each(|reading| reading.state = State::Failed);
        self.leasable = None;
        self.queue.clear();
    }

    /// Moves a partition. Says whether it is one of those that are read.
    pub fn seek(&mut self, partition: PartitionId, start: StartAt) -> bool {
        let Some(reading) = self.partitions.get_mut(&partition) else { return false };
        reading.start = start;
        reading.position = None;
        reading.state = State::Reading;
        let again = reading.subscribe(partition);
        let lane = reading.lane;
        self.command(lane, Command::Subscribe(again));
        self.discard_stale();
        true
    }

    /// Throws away what came under earlier generations and gives its credit back.
    fn discard_stale(&mut self) {
        for item in std::mem::take(&mut self.queue) {
            let (partition, generation) = match &item {
                Item::Frame(frame) => (frame.partition, frame.generation),
                Item::Gap(gap) => (gap.partition, gap.generation),
                Item::Ended(ended, generation) => (ended.partition, *generation),
            };
            if self.current(partition, generation).is_some() {
                self.queue.push_back(item);
            } else if let Item::Frame(frame) = item {
                self.consumed(&frame);
            }
        }
    }

    /// Whether something is to be told or sent.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.missing.is_empty() || self.commanded().next().is_some()
    }

    /// The first refusal among what waits for the application: takes it out.
    pub fn first_refusal(&mut self) -> Option<Ended> {
        let at = self.queue.iter().position(|item| matches!(item, Item::Ended(..)))?;
        match self.queue.remove(at) {
            Some(Item::Ended(ended, _)) => Some(ended),
            Some(Item::Frame(_) | Item::Gap(_)) | None => None,
        }
    }

    /// Offsets that turned out to be missing since the last call.
    pub fn missing(&mut self) -> Vec<Missing> {
        std::mem::take(&mut self.missing)
    }

    /// Whether nothing more will come: every partition has been read to its bound or has failed.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.leasable.is_none() && self.partitions.values().all(|reading| reading.state != State::Reading)
    }

    /// Whether every partition was read to its bound.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.partitions.values().all(|reading| reading.state == State::Finished)
    }

    /// Whether the broker has answered the first start of every partition.
    #[must_use]
    pub fn is_started(&self) -> bool {
        let told = |partition| {
            self.queue.iter().any(|item| matches!(item, Item::Ended(e, _) if e.partition == partition))
        };
        self.partitions.iter().all(|(partition, reading)| {
            reading.position.is_some() || reading.state != State::Reading || told(*partition)
        })
    }

    /// The partitions that are read.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.partitions.keys().copied()
    }

    /// The next offset to be handed out in each partition, where it is known.
    pub fn positions(&self) -> impl Iterator<Item = (PartitionId, Offset)> + '_ {
        let here = self.partitions.iter().filter(|(_, reading)| reading.state != State::Away);
        here.filter_map(|(partition, reading)| Some((*partition, reading.position?)))
    }

    /// How many offsets of each partition lie between what was handed out and the end, as far as is known.
    pub fn lag(&self) -> impl Iterator<Item = (PartitionId, u64)> + '_ {
        let lag = |reading: &Reading| {
            let position = reading.position.unwrap_or(reading.high_watermark);
            reading.high_watermark.get().saturating_sub(position.get())
        };
        let here = self.partitions.iter().filter(|(_, reading)| reading.state != State::Away);
        here.map(move |(partition, reading)| (*partition, lag(reading)))
    }
}
