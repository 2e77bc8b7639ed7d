//! The thread of the scrub: reads what is stored at a low rate, and tells of what has rotted. It never changes anything.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weir_storage::disk::Disk;
use weir_storage::store::{DamagedRange, Reader, Scrub, Scrubbed};

use crate::core::pace::Pace;
use crate::queue::{Drained, Receiver, Sender, mailbox};
use crate::server::Fatal;
use crate::server::clock::{Clock, wall_now};
use crate::server::failure::Failures;
use crate::server::metrics::Metrics;
use crate::server::spawn;

/// Passes begin no closer together: rot is slow, and a small store would be read again and again.
const PASS_EVERY: Duration = Duration::from_hours(24);

/// Pause after a read that failed, so that a sick disk is not pestered.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Nothing is ever said to the thread but that it shall end: by dropping the sender.
#[derive(Debug)]
pub(crate) enum Never {}

/// What the thread works with.
#[derive(Debug)]
pub(crate) struct ScrubThread<D: Disk> {
    scrub: Scrub<D>,
    pace: Pace,
    clock: Clock,
    end: Receiver<Never>,
    metrics: Arc<Metrics>,
}

impl<D: Disk> ScrubThread<D> {
    /// Starts the thread. It ends, within the time a batch is read in, when the sender is dropped.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start(
        reader: &Reader<D>,
        bytes_per_second: u64,
        (metrics, failures): (&Arc<Metrics>, &Failures),
    ) -> std::io::Result<(Sender<Never>, JoinHandle<()>)> {
        let (sender, end) = mailbox(1);
        let (scrub, pace, clock) = (reader.scrub(), Pace::new(bytes_per_second), Clock::start());
        let thread = Self { scrub, pace, clock, end, metrics: Arc::clone(metrics) };
        let handle = spawn("weir-scrub", failures.clone(), move || {
            thread.run();
            Ok::<(), Fatal>(())
        })?;
        Ok((sender, handle))
    }

    fn run(mut self) {
        let mut began = Instant::now();
        let mut pause = Duration::ZERO;
        while !self.is_over(pause) {
            pause = match self.step() {
                Ok(Scrubbed::Segment { damage, .. }) => {
                    self.report(&damage);
                    Duration::ZERO
                }
                Ok(Scrubbed::Stopped) => return,
                Ok(Scrubbed::PassEnded) => {
                    let seconds = u64::try_from(wall_now().as_micros() / 1_000_000).unwrap_or(0);
                    self.metrics.scrub_pass_ended.set(seconds);
                    tracing::info!(took = ?began.elapsed(), "all segments were verified");
                    let rest = PASS_EVERY.saturating_sub(began.elapsed());
                    began = Instant::now() + rest;
                    rest
                }
                Err(error) => {
                    self.metrics.scrub_damaged_ranges.increment();
                    tracing::error!(%error, "a segment cannot be read");
                    RETRY_AFTER
                }
            };
        }
    }

    fn step(&mut self) -> Result<Scrubbed, weir_storage::disk::DiskError> {
        let Self { scrub, pace, clock, end, metrics } = self;
        scrub.step(|bytes| {
            metrics.scrubbed_bytes.add(bytes);
            let wait = pace.spend(bytes, clock.now().monotonic_us);
            if is_over(end, Duration::from_micros(wait)) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
    }

    fn is_over(&mut self, after: Duration) -> bool {
        is_over(&mut self.end, after)
    }

    fn report(&self, damage: &[DamagedRange]) {
        for damaged in damage {
            self.metrics.scrub_damaged_ranges.increment();
            let segment = damaged.path.display();
            let (bytes, what) = (&damaged.bytes, &damaged.what);
            match &damaged.records {
                Some((partition, records)) => {
                    let (from, to) = (records.start, records.end);
                    tracing::error!(%segment, %partition, %from, %to, ?bytes, what, "stored records are damaged");
                }
                None => tracing::error!(%segment, ?bytes, what, "a segment is damaged"),
            }
        }
    }
}

/// Waits, and says whether it is time to end.
fn is_over(end: &mut Receiver<Never>, after: Duration) -> bool {
    end.drain_wait(&mut Vec::new(), Some(after)) == Some(Drained::Closed)
}
