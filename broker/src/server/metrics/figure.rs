//! The kinds of figures: counters, gauges, histograms, and counters by a label of few known values.

use std::fmt::{self, Write as _};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Figures are independent of each other and of all else: no order between them is promised.
const ORDER: Ordering = Ordering::Relaxed;

/// What can stand on the page.
pub(super) trait Figure {
    /// Its kind, in the words of the format.
    const KIND: &'static str;

    /// Writes its lines.
    fn write(&self, name: &str, page: &mut String) -> fmt::Result;
}

/// Writes a figure with its help and kind.
pub(super) fn render<F: Figure>(figure: &F, name: &str, help: &str, page: &mut String) {
    let written = writeln!(page, "# HELP {name} {}\n# TYPE {name} {}", help.trim(), F::KIND)
        .and_then(|()| figure.write(name, page));
    written.expect("a string takes everything");
}

/// Counts up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Counts several.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, ORDER);
    }

    /// Takes over a count that is kept elsewhere and only grows.
    pub fn follow(&self, count: u64) {
        self.0.store(count, ORDER);
    }

    /// What was counted so far.
    pub fn value(&self) -> u64 {
        self.0.load(ORDER)
    }
}

impl Figure for Counter {
    const KIND: &'static str = "counter";

    fn write(&self, name: &str, page: &mut String) -> fmt::Result {
        writeln!(page, "{name} {}", self.value())
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Replaces the number.
    pub fn set(&self, value: u64) {
        self.0.store(value, ORDER);
    }

    /// Raises the number.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, ORDER);
    }

    /// Lowers the number. What is subtracted was added before.
    pub fn subtract(&self, count: u64) {
        self.0.fetch_sub(count, ORDER);
    }

    /// The number.
    pub fn value(&self) -> u64 {
        self.0.load(ORDER)
    }
}

impl Figure for Gauge {
    const KIND: &'static str = "gauge";

    fn write(&self, name: &str, page: &mut String) -> fmt::Result {
        writeln!(page, "{name} {}", self.value())
    }
}

/// How many observed units make one shown unit, and how many decimals that needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    divisor: u64,
    decimals: usize,
}

/// Shown as observed.
pub(super) const PLAIN: Scale = Scale { divisor: 1, decimals: 0 };

/// Observed in microseconds, shown in seconds.
pub(super) const MICROSECONDS: Scale = Scale { divisor: 1_000_000, decimals: 6 };

impl Scale {
    fn show(self, value: u64) -> String {
        match self.decimals {
            0 => value.to_string(),
            decimals => format!("{}.{:0decimals$}", value / self.divisor, value % self.divisor),
        }
    }
}

/// Counts observations by size.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds, each included in its bucket, in ascending order.
    bounds: &'static [u64],
    scale: Scale,
    /// One for each bound, and one for what is larger than all.
    buckets: Vec<AtomicU64>,
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [u64], scale: Scale) -> Self {
        assert!(bounds.is_sorted_by(|left, right| left < right), "bounds ascend");
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, scale, buckets, sum: AtomicU64::new(0) }
    }

    /// Counts an observation, in the unit of the bounds.
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, ORDER);
        }
        self.sum.fetch_add(value, ORDER);
    }

    /// Counts a duration, where the unit of the bounds is the microsecond.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// How many were observed.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(ORDER)).sum()
    }
}

impl Figure for Histogram {
    const KIND: &'static str = "histogram";

    fn write(&self, name: &str, page: &mut String) -> fmt::Result {
        // The count is the sum of the buckets read, so that the page agrees with itself.
        let mut count = 0;
        let bounds = self.bounds.iter().map(|bound| self.scale.show(*bound));
        for (bucket, bound) in self.buckets.iter().zip(bounds.chain(["+Inf".to_owned()])) {
            count += bucket.load(ORDER);
            writeln!(page, "{name}_bucket{{le=\"{bound}\"}} {count}")?;
        }
        writeln!(page, "{name}_sum {}", self.scale.show(self.sum.load(ORDER)))?;
        writeln!(page, "{name}_count {count}")
    }
}

/// A label with few values, all known beforehand.
pub trait Label: Copy + PartialEq + 'static {
    /// Its name.
    const NAME: &'static str;
    /// Its values.
    const ALL: &'static [Self];

    /// A value as it stands on the page, which needs no escaping.
    fn text(self) -> String;
}

/// A number for each value of a label.
#[derive(Debug)]
pub struct Gauges<L> {
    gauges: Vec<Gauge>,
    label: PhantomData<fn(L)>,
}

impl<L: Label> Default for Gauges<L> {
    fn default() -> Self {
        Self { gauges: L::ALL.iter().map(|_| Gauge::default()).collect(), label: PhantomData }
    }
}

impl<L: Label> Gauges<L> {
    /// Replaces all numbers, in the order of the label's values.
    pub fn set_all(&self, values: impl IntoIterator<Item = u64>) {
        self.gauges.iter().zip(values).for_each(|(gauge, value)| gauge.set(value));
    }
}

impl<L: Label> Figure for Gauges<L> {
    const KIND: &'static str = "gauge";

    fn write(&self, name: &str, page: &mut String) -> fmt::Result {
        for (label, gauge) in L::ALL.iter().zip(&self.gauges) {
            writeln!(page, "{name}{{{}=\"{}\"}} {}", L::NAME, label.text(), gauge.value())?;
        }
        Ok(())
    }
}

/// A counter for each value of a label.
#[derive(Debug)]
pub struct ByLabel<L> {
    counters: Vec<Counter>,
    label: PhantomData<fn(L)>,
}

impl<L: Label> Default for ByLabel<L> {
    fn default() -> Self {
        Self { counters: L::ALL.iter().map(|_| Counter::default()).collect(), label: PhantomData }
    }
}

impl<L: Label> ByLabel<L> {
    /// Counts one.
    pub fn increment(&self, label: L) {
        if let Some(counter) = self.counter(label) {
            counter.increment();
        }
    }

    /// What was counted so far for this value.
    pub fn value(&self, label: L) -> u64 {
        self.counter(label).map_or(0, Counter::value)
    }

    fn counter(&self, label: L) -> Option<&Counter> {
        L::ALL.iter().zip(&self.counters).find(|(present, _)| **present == label).map(|(_, counter)| counter)
    }
}

impl<L: Label> Figure for ByLabel<L> {
    const KIND: &'static str = "counter";

    fn write(&self, name: &str, page: &mut String) -> fmt::Result {
        for (label, counter) in L::ALL.iter().zip(&self.counters) {
            writeln!(page, "{name}{{{}=\"{}\"}} {}", L::NAME, label.text(), counter.value())?;
        }
        Ok(())
    }
}
