//! A lane of a consumer: the stream some of its partitions come on, and the credit it gives.

use weir_protocol::RecordCredit;

use crate::core::consumer::types::{Command, Frame};

/// What may wait for the application.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Window {
    pub(super) bytes: u64,
    /// `None` for as many as fit the bytes.
    pub(super) records: Option<u64>,
}

/// A limit is what the application has consumed plus the window, and only grows; so what waits in memory never exceeds
/// the window, in records by less than one batch.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) is_open: bool,
    /// Raised with each stream, so that frames of an earlier one are recognised.
    pub(super) incarnation: u64,
    window: Window,
    received: u64,
    consumed: u64,
    limit: u64,
    records: RecordCredit,
    records_consumed: u64,
    records_limit: u64,
    pub(super) commands: Vec<Command>,
}

/// The window of a lane with a share of the memory. The longest frame has room in it also while a grant is held back: the
/// broker waits for that room, and nothing would be left whose consumption could bring the grant.
pub(super) fn window(share: u64, frame_bytes_max: u64) -> u64 {
    share.max(frame_bytes_max.saturating_mul(4).div_ceil(3))
}

impl Lane {
    pub(super) fn new(window: Window, incarnation: u64) -> Self {
        Self {
            is_open: false,
            incarnation,
            window,
            received: 0,
            consumed: 0,
            limit: 0,
            records: RecordCredit::default(),
            records_consumed: 0,
            records_limit: 0,
            commands: Vec::new(),
        }
    }

    /// A new stream. Returns its first limit in bytes; that in records is the first of its commands.
    pub(super) fn open(&mut self) -> u64 {
        let window = self.window;
        *self = Self { is_open: true, limit: window.bytes, ..Self::new(window, self.incarnation + 1) };
        if let Some(records) = window.records {
            self.grant_records(records);
        }
        window.bytes
    }

    /// The stream is gone.
    pub(super) fn close(&mut self) {
        *self = Self::new(self.window, self.incarnation + 1);
    }

    /// Counts a frame that came. Says whether the broker kept to the limits.
    pub(super) fn receive(&mut self, frame: &Frame) -> bool {
        self.received += frame.wire_bytes;
        let is_within = frame.records.iter().all(|records| self.records.spend(u64::from(*records)).is_ok());
        is_within && self.received <= self.limit
    }

    /// The application is done with a frame of this stream. Grants go out in steps of a quarter of the window: a grant for each
    /// frame would be as many frames again.
    pub(super) fn consume(&mut self, frame: &Frame) {
        self.consumed += frame.wire_bytes;
        assert!(self.consumed <= self.received, "no more is consumed than came");
        let limit = self.consumed + self.window.bytes;
        if limit - self.limit >= self.window.bytes.div_ceil(4) {
            self.limit = limit;
            self.commands.push(Command::Grant(limit));
        }
        self.records_consumed += frame.records.iter().map(|records| u64::from(*records)).sum::<u64>();
        if let Some(window) = self.window.records
            && self.records_consumed + window - self.records_limit >= window.div_ceil(4)
        {
            self.grant_records(self.records_consumed + window);
        }
    }

    fn grant_records(&mut self, limit: u64) {
        self.records.grant(limit);
        self.records_limit = limit;
        self.commands.push(Command::GrantRecords(limit));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use weir_protocol::units::PartitionId;

    use super::*;
    use crate::core::consumer::LaneId;

    fn frame(wire_bytes: u64, records: Vec<u32>) -> Frame {
        Frame {
            partition: PartitionId::ZERO,
            generation: 0,
            batches: Bytes::new(),
            lane: LaneId(0),
            incarnation: 0,
            wire_bytes,
            records,
        }
    }

    #[test]
    fn a_batch_that_begins_within_the_limit_is_whatever_its_length_and_one_behind_is_not() {
        let lane = || {
            let mut lane = Lane::new(Window { bytes: 1000, records: Some(10) }, 0);
            lane.open();
            lane
        };
        assert!(lane().receive(&frame(1, vec![9, 60_000])));
        assert!(!lane().receive(&frame(1, vec![10, 1])));
    }

    proptest! {
        #[test]
        fn the_longest_frame_always_has_room_once_all_others_are_consumed(
            frame_bytes_max in 1u64..5000,
            share in 0u64..10_000,
            records_max in 1u64..100,
            frames in prop::collection::vec((any::<u64>(), 1u32..200), 1..100),
        ) {
            let bytes = window(share, frame_bytes_max);
            let mut lane = Lane::new(Window { bytes, records: Some(records_max) }, 0);
            lane.open();
            for (bytes, records) in frames {
                let frame = frame(bytes % frame_bytes_max + 1, vec![records]);
                prop_assert!(lane.receive(&frame));
                lane.consume(&frame);
                prop_assert!(lane.limit - lane.received >= frame_bytes_max);
                prop_assert!(lane.records.may_send(), "a batch of any length may come");
            }
        }
    }
}
