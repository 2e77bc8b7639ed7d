//! What happens by the passing of time: pauses and lingering end, batches grow too old.

use std::time::Duration;

use weir_protocol::units::PartitionId;

use crate::core::producer::partition::Pause;
use crate::core::producer::types::Completion;
use crate::core::producer::{Producer, index};
use crate::core::time::Mono;

/// When a batch that cannot expire yet, because it is being sealed, is looked at again.
const SOON: Duration = Duration::from_millis(5);

impl<T> Producer<T> {
    /// When [`Producer::tick`] has something to do next.
    #[must_use]
    pub fn next_timer(&self) -> Option<Mono> {
        self.timers.first().map(|(at, _)| *at)
    }

    pub(super) fn set_timer(&mut self, partition: PartitionId) {
        let (linger, timeout) = (self.options.linger, self.options.delivery_timeout);
        let Some(queue) = self.partitions.get_mut(index(partition)).and_then(Option::as_deref_mut) else {
            return;
        };
        let pause_end = match queue.pause {
            Pause::Until(at, _) => Some(at),
            Pause::None | Pause::Identity => None,
        };
        let wanted =
            [pause_end, queue.linger_end(linger), queue.deadline(timeout)].into_iter().flatten().min();
        if let Some(at) = wanted
            && queue.timer.is_none_or(|set| at < set)
        {
            if let Some(set) = queue.timer.replace(at) {
                self.timers.remove(&(set, partition.get()));
            }
            self.timers.insert((at, partition.get()));
        }
    }

    /// Time has passed: ends pauses and lingering, fails batches that are too old.
    pub fn tick(&mut self, now: Mono, out: &mut Vec<Completion<T>>) {
        let (linger, timeout) = (self.options.linger, self.options.delivery_timeout);
        while let Some((at, partition)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, partition));
            let partition = PartitionId::new(partition);
            let mut expired = Vec::new();
            let Some(queue) = self.queue_mut(partition) else { continue };
            queue.timer = None;
            if matches!(queue.pause, Pause::Until(at, _) if at <= now) {
                queue.pause = Pause::None;
            }
            if queue.linger_end(linger).is_some_and(|at| at <= now) {
                queue.make_due();
            }
            if queue.deadline(timeout).is_some_and(|at| at <= now) {
                queue.expire(now.before(timeout), |ended| expired.push(ended));
            }
            expired.into_iter().for_each(|ended| self.end_batch(ended, out));
            self.schedule_later(partition);
            self.set_later_timer(partition, now);
        }
    }

    /// Sets the next timer, later than now: a batch that cannot expire yet, because it is being sealed, is looked at
    /// again soon.
    fn set_later_timer(&mut self, partition: PartitionId, now: Mono) {
        self.set_timer(partition);
        let soon = now.after(SOON);
        let Some(queue) = self.partitions.get_mut(index(partition)).and_then(Option::as_deref_mut) else {
            return;
        };
        if let Some(at) = queue.timer.filter(|at| *at <= now) {
            self.timers.remove(&(at, partition.get()));
            queue.timer = Some(soon);
            self.timers.insert((soon, partition.get()));
        }
    }
}
