//! A lane of a consumer: the stream some of its partitions come on, and the credit it gives.

use crate::core::consumer::types::Command;

/// The limit is what the application has consumed plus the window, and only grows; so what waits in memory never exceeds
/// the window.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) is_open: bool,
    /// Raised with each stream, so that frames of an earlier one are recognised.
    pub(super) incarnation: u64,
    window: u64,
    received: u64,
    consumed: u64,
    limit: u64,
    pub(super) commands: Vec<Command>,
}

/// The window of a lane with a share of the memory. The longest frame has room in it also while a grant is held back: the
/// broker waits for that room, and nothing would be left whose consumption could bring the grant.
pub(super) fn window(share: u64, frame_bytes_max: u64) -> u64 {
    share.max(frame_bytes_max.saturating_mul(4).div_ceil(3))
}

impl Lane {
    pub(super) fn new(window: u64, incarnation: u64) -> Self {
        Self { is_open: false, incarnation, window, received: 0, consumed: 0, limit: 0, commands: Vec::new() }
    }

    /// A new stream. Returns its first limit.
    pub(super) fn open(&mut self) -> u64 {
        let window = self.window;
        *self = Self { is_open: true, limit: window, ..Self::new(window, self.incarnation + 1) };
        window
    }

    /// The stream is gone.
    pub(super) fn close(&mut self) {
        *self = Self::new(self.window, self.incarnation + 1);
    }

    /// Counts a frame that came. Says whether the broker kept to the limit.
    pub(super) const fn receive(&mut self, bytes: u64) -> bool {
        self.received += bytes;
        self.received <= self.limit
    }

    /// The application is done with so many bytes of this stream. Grants go out in steps of a quarter of the window: a grant
    /// for each frame would be as many frames again.
    pub(super) fn consume(&mut self, bytes: u64) {
        self.consumed += bytes;
        assert!(self.consumed <= self.received, "no more is consumed than came");
        let limit = self.consumed + self.window;
        if limit - self.limit >= self.window.div_ceil(4) {
            self.limit = limit;
            self.commands.push(Command::Grant(limit));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_longest_frame_always_has_room_once_all_others_are_consumed(
            frame_bytes_max in 1u64..5000,
            share in 0u64..10_000,
            frames in prop::collection::vec(any::<u64>(), 1..100),
        ) {
            let mut lane = Lane::new(window(share, frame_bytes_max), 0);
            lane.open();
            for frame in frames {
                let bytes = frame % frame_bytes_max + 1;
                prop_assert!(lane.receive(bytes));
                lane.consume(bytes);
                prop_assert!(lane.limit - lane.received >= frame_bytes_max);
            }
        }
    }
}
