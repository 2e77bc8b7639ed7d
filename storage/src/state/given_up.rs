//! Records that an operator gave up: their offsets stay theirs, and no other record ever gets one.

use std::ops::Range;

use weir_protocol::units::Offset;

/// Ranges a partition may give up. Bounds its state; neighbours become one range.
pub const GIVEN_UP_RANGES_MAX: usize = 4096;

/// Ranges of offsets, in order, none of which touches the next.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GivenUp {
    ranges: Vec<Range<Offset>>,
}

impl GivenUp {
    /// Adds a range, which may lie over others. An empty one changes nothing.
    pub fn add(&mut self, range: Range<Offset>) {
        if range.is_empty() {
            return;
        }
        let mut whole = range;
        self.ranges.retain(|other| {
            let apart = other.end < whole.start || whole.end < other.start;
            if !apart {
                whole = whole.start.min(other.start)..whole.end.max(other.end);
            }
            apart
        });
        let index = self.ranges.partition_point(|other| other.start < whole.start);
        self.ranges.insert(index, whole);
    }

    /// Forgets what lies below the first record that is kept.
    pub(super) fn trim(&mut self, log_start: Offset) {
        self.ranges.retain(|range| range.end > log_start);
    }

    /// The ranges, in order.
    pub fn ranges(&self) -> &[Range<Offset>] {
        &self.ranges
    }

    /// What is left of a range without those that were given up.
    pub fn remainder(&self, of: &Range<Offset>) -> Vec<Range<Offset>> {
        let mut rest = Vec::new();
        let mut start = of.start;
        for range in &self.ranges {
            let end = range.start.min(of.end);
            if start < end {
                rest.push(start..end);
            }
            start = start.max(range.end);
        }
        if start < of.end {
            rest.push(start..of.end);
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> Range<Offset> {
        Offset::new(start)..Offset::new(end)
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let mut given_up = GivenUp::default();
        for (start, end) in [(10, 20), (40, 50), (5, 5), (20, 25), (24, 40), (60, 70)] {
            given_up.add(range(start, end));
        }
        assert_eq!(given_up.ranges(), [range(10, 50), range(60, 70)]);
        given_up.trim(Offset::new(50));
        assert_eq!(given_up.ranges(), [range(60, 70)]);
    }

    #[test]
    fn the_remainder_is_what_was_not_given_up() {
        let mut given_up = GivenUp::default();
        given_up.add(range(10, 20));
        given_up.add(range(30, 40));
        assert_eq!(given_up.remainder(&range(0, 50)), [range(0, 10), range(20, 30), range(40, 50)]);
        assert_eq!(given_up.remainder(&range(12, 18)), []);
        assert_eq!(given_up.remainder(&range(15, 35)), [range(20, 30)]);
        assert_eq!(given_up.remainder(&range(40, 45)), [range(40, 45)]);
    }
}
