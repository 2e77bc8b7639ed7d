//! A consumer that is a member of a group: its partitions come and go with their leases.

use weir_protocol::message::StartAt;
use weir_protocol::units::{LeaseEpoch, Offset, PartitionId};

use super::{Command, Consumer, ConsumerOptions, LaneId, Reading, State};

impl Consumer {
    /// A consumer whose partitions come and go with their leases, at most so many.
    #[must_use]
    pub fn of_member(options: ConsumerOptions, partitions: u32) -> Self {
        Self { leasable: Some(partitions), ..Self::new(options) }
    }

    /// A partition was leased: it is read from where the group stands.
    pub fn lease(&mut self, partition: PartitionId, lease: LeaseEpoch) {
        let lane = LaneId(partition.get().checked_rem(self.lanes()).unwrap_or(0));
        let reading = self.partitions.entry(partition).or_insert_with(|| Reading {
            lane,
            generation: 0,
            start: StartAt::Lease(lease),
            position: None,
            bound: None,
            high_watermark: Offset::ZERO,
            state: State::Reading,
        });
        reading.lane = lane;
        self.seek(partition, StartAt::Lease(lease));
    }

    /// A lease has ended: nothing more of the partition is handed out.
    pub fn leave(&mut self, partition: PartitionId) {
        let Some(reading) = self.partitions.get_mut(&partition) else { return };
        reading.state = State::Away;
        let lane = reading.lane;
        self.command(lane, Command::Unsubscribe(partition));
        self.discard_stale();
    }

    /// The broker has to name the leases anew: until then nothing is read.
    pub fn suspend(&mut self) {
        let leased = self.partitions.iter().filter(|(_, reading)| reading.state == State::Reading);
        for partition in leased.map(|(partition, _)| *partition).collect::<Vec<_>>() {
            self.leave(partition);
        }
    }

    /// The lease under which a partition is read.
    #[must_use]
    pub fn lease_of(&self, partition: PartitionId) -> Option<LeaseEpoch> {
        let reading = self.partitions.get(&partition).filter(|reading| reading.state == State::Reading)?;
        match reading.start {
            StartAt::Lease(lease) => Some(lease),
            StartAt::Earliest
            | StartAt::Latest
            | StartAt::Offset(_)
            | StartAt::Time(_)
            | StartAt::Last(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_protocol::units::TopicId;

    use super::*;

    const PARTITION: PartitionId = PartitionId::new(2);
    const LEASE: LeaseEpoch = LeaseEpoch::new(7);

    fn asked(consumer: &mut Consumer) -> Vec<(u32, StartAt)> {
        let commands = consumer.commands(LaneId(0)).into_iter().filter_map(|command| match command {
            Command::Subscribe(subscribe) => Some((subscribe.generation, subscribe.start)),
            Command::Unsubscribe(_) | Command::Grant(_) | Command::GrantRecords(_) => None,
        });
        commands.collect()
    }

    #[test]
    fn a_lease_is_read_on_a_connection_once_the_broker_has_named_it_there() {
        let options = ConsumerOptions {
            topic: TopicId::default(),
            partitions: Vec::new(),
            window_bytes: 4000,
            window_records: None,
            frame_bytes_max: 100,
            to_end: false,
        };
        let mut consumer = Consumer::of_member(options, 4);
        consumer.connected(1);
        consumer.lane_opened(LaneId(0));
        consumer.lease(PARTITION, LEASE);
        assert_eq!(asked(&mut consumer), [(1, StartAt::Lease(LEASE))]);
        consumer.lane_lost(LaneId(0));
        consumer.suspend();
        consumer.connected(1);
        assert!(!consumer.is_lane_needed(LaneId(0)));
        consumer.lease(PARTITION, LEASE);
        assert!(consumer.is_lane_needed(LaneId(0)));
        consumer.lane_opened(LaneId(0));
        let again = asked(&mut consumer);
        assert!(matches!(again[..], [(generation, StartAt::Lease(LEASE))] if generation > 1), "{again:?}");
    }
}
