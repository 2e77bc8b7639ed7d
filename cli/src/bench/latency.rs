//! Time from sending to the receipt, for some of the records.
//!
//! The moment is noted by the waker, in the thread that brings the receipt: a producing loop that is busy must not
//! make receipts look late, and waking it for each would slow it down.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;
use weir_client::{Delivery, SendError};

/// Longest time that is told apart from longer ones: an hour, in microseconds.
const LATENCY_MAX_US: u64 = 3_600_000_000;

/// Three digits of each value are kept.
const DIGITS: u8 = 3;

/// Distribution of times, in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    histogram: Histogram<u64>,
}

impl Latencies {
    /// None yet.
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_MAX_US, DIGITS);
        Self { histogram: histogram.expect("the bounds are in order") }
    }

    /// Adds a time.
    pub(crate) fn record(&mut self, time: Duration) {
        self.histogram.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds the times of another producer.
    pub(crate) fn add(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("all have the same bounds");
    }

    /// The usual percentiles.
    pub(crate) fn json(&self) -> serde_json::Value {
        let at = |quantile| self.histogram.value_at_quantile(quantile);
        json!({
            "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": self.histogram.max(),
            "samples": self.histogram.len(),
        })
    }

    /// The usual percentiles on a line.
    pub(crate) fn text(&self) -> String {
        let at = |quantile| self.histogram.value_at_quantile(quantile);
        let (p50, p90, p99, p999) = (at(0.5), at(0.9), at(0.99), at(0.999));
        format!("p50 {p50} us, p90 {p90} us, p99 {p99} us, p99.9 {p999} us, max {} us", self.histogram.max())
    }
}

/// Notes when it is woken.
#[derive(Debug)]
struct Stamp {
    base: Instant,
    /// Nanoseconds since `base`; 0 until woken.
    woken_ns: AtomicU64,
}

impl Stamp {
    fn woken(&self) -> Option<Instant> {
        match self.woken_ns.load(Ordering::Acquire) {
            0 => None,
            nanos => Some(self.base + Duration::from_nanos(nanos)),
        }
    }
}

impl Wake for Stamp {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let nanos = u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1);
        self.woken_ns.store(nanos, Ordering::Release);
    }
}

struct Sample {
    delivery: Delivery,
    stamp: Arc<Stamp>,
    since: Instant,
}

/// Follows the receipts of some records.
pub(crate) struct Sampler {
    base: Instant,
    waiting: VecDeque<Sample>,
    latencies: Latencies,
}

impl Sampler {
    /// Follows none yet.
    pub(crate) fn new() -> Self {
        Self { base: Instant::now(), waiting: VecDeque::new(), latencies: Latencies::new() }
    }

    /// Follows a receipt whose time counts from `since`.
    pub(crate) fn follow(&mut self, delivery: Delivery, since: Instant) -> Result<(), SendError> {
        let stamp = Arc::new(Stamp { base: self.base, woken_ns: AtomicU64::new(0) });
        let mut sample = Sample { delivery, stamp, since };
        match sample.poll() {
            Poll::Ready(settled) => self.time(settled?.saturating_duration_since(since)),
            Poll::Pending => self.waiting.push_back(sample),
        }
        Ok(())
    }

    /// Takes up what has come since the last time. Costs next to nothing if nothing has.
    pub(crate) fn collect(&mut self) -> Result<(), SendError> {
        while let Some(sample) = self.waiting.front_mut() {
            if sample.stamp.woken().is_none() {
                break;
            }
            let since = sample.since;
            match sample.poll() {
                Poll::Ready(settled) => {
                    self.waiting.pop_front();
                    self.time(settled?.saturating_duration_since(since));
                }
                // Woken for nothing: the next wake counts.
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Waits for the rest.
    pub(crate) async fn finish(mut self) -> Result<Latencies, SendError> {
        while let Some(sample) = self.waiting.pop_front() {
            let woken = sample.stamp.woken();
            let since = sample.since;
            sample.delivery.await?;
            let at = woken.unwrap_or_else(Instant::now);
            self.time(at.saturating_duration_since(since));
        }
        Ok(self.latencies)
    }

    /// Takes a time that somebody else measured.
    pub(crate) fn time(&mut self, time: Duration) {
        self.latencies.record(time);
    }
}

impl Sample {
    /// Asks for the receipt; answers when it came.
    fn poll(&mut self) -> Poll<Result<Instant, SendError>> {
        let woken = self.stamp.woken();
        self.stamp.woken_ns.store(0, Ordering::Release);
        let waker = Waker::from(Arc::clone(&self.stamp));
        match Pin::new(&mut self.delivery).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(settled) => Poll::Ready(settled.map(|_| woken.unwrap_or_else(Instant::now))),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_all_producers() {
        let mut all = Latencies::new();
        for micros in 1..=500 {
            all.record(Duration::from_micros(micros));
        }
        let mut other = Latencies::new();
        for micros in 501..=1000 {
            other.record(Duration::from_micros(micros));
        }
        all.add(&other);
        let json = all.json();
        assert_eq!(json["p50"], 500);
        assert_eq!(json["p99"], 990);
        assert_eq!(json["max"], 1000);
        assert_eq!(json["samples"], 1000);
    }

    #[test]
    fn a_stamp_notes_the_wake_and_not_the_look() {
        let stamp = Arc::new(Stamp { base: Instant::now(), woken_ns: AtomicU64::new(0) });
        assert_eq!(stamp.woken(), None);
        Waker::from(Arc::clone(&stamp)).wake();
        let woken = stamp.woken().unwrap();
        assert!(woken <= Instant::now());
        assert_eq!(stamp.woken(), Some(woken), "looking changes nothing");
    }
}
