//! Whether what was sent is what came back: nothing lost, duplicated, reordered or changed.

use serde_json::json;

use super::arguments::Load;
use super::payload::{Foreign, Mark, Pattern};

/// What was found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Verified {
    /// Records of the run that were read.
    pub(crate) records: u64,
    /// Records that were sent and not read.
    pub(crate) lost: u64,
    /// Records that were read again.
    pub(crate) duplicated: u64,
    /// Records that came after a later one of the same producer in their partition.
    pub(crate) reordered: u64,
    /// Records that came with other bytes.
    pub(crate) damaged: u64,
}

impl Verified {
    /// Whether everything is as it should be.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.reordered == 0 && self.damaged == 0
    }

    /// As an object.
    pub(crate) fn json(&self) -> serde_json::Value {
        json!({
            "records": self.records, "lost": self.lost, "duplicated": self.duplicated,
            "reordered": self.reordered, "damaged": self.damaged,
        })
    }

    /// As a line.
    pub(crate) fn text(&self) -> String {
        let Self { records, lost, duplicated, reordered, damaged } = self;
        format!(
            "{records} records read back: {lost} lost, {duplicated} duplicated, {reordered} reordered, {damaged} damaged"
        )
    }
}

/// Looks at each record that comes back.
#[derive(Debug)]
pub(crate) struct Check<'a> {
    pattern: &'a Pattern,
    /// Per producer: a bit for each record it sent.
    seen: Vec<Bits>,
    /// Highest number seen, for all producers of the first partition, then of the second, and so on.
    highest: Vec<Option<u64>>,
    verified: Verified,
    distinct: u64,
    expected: u64,
}

impl<'a> Check<'a> {
    /// Expects the records of this load.
    pub(crate) fn new(pattern: &'a Pattern, load: &Load) -> Self {
        let seen = (0..load.producers).map(|producer| Bits::new(load.share(producer))).collect();
        Self {
            pattern,
            seen,
            highest: Vec::new(),
            verified: Verified::default(),
            distinct: 0,
            expected: load.records,
        }
    }

    /// Looks at a value; answers its mark if it is a record of this run.
    pub(crate) fn look(&mut self, partition: u32, value: &[u8]) -> Option<Mark> {
        match self.pattern.read(value) {
            Ok(mark) => {
                self.count(partition, mark);
                Some(mark)
            }
            Err(Foreign::Damaged) => {
                self.verified.damaged += 1;
                None
            }
            // In a topic that was there before, others may have written.
            Err(Foreign::Unknown) => None,
        }
    }

    fn count(&mut self, partition: u32, mark: Mark) {
        let bits = usize::try_from(mark.producer).ok().and_then(|producer| self.seen.get_mut(producer));
        let Some(first) = bits.and_then(|bits| bits.set(mark.number)) else {
            self.verified.damaged += 1;
            return;
        };
        self.verified.records += 1;
        if first {
            self.distinct += 1;
        } else {
            self.verified.duplicated += 1;
        }
        let highest = self.highest(partition, mark.producer);
        if highest.is_some_and(|highest| mark.number < highest) {
            self.verified.reordered += 1;
        } else {
            *highest = Some(mark.number);
        }
    }

    fn highest(&mut self, partition: u32, producer: u32) -> &mut Option<u64> {
        let place = |number: u32| usize::try_from(number).expect("32 bits fit");
        let index = place(partition) * self.seen.len() + place(producer);
        if index >= self.highest.len() {
            self.highest.resize(index + 1, None);
        }
        self.highest.get_mut(index).expect("it has just been made long enough")
    }

    /// Whether every record was seen.
    pub(crate) fn is_complete(&self) -> bool {
        self.distinct == self.expected
    }

    /// What was found, now that no more records come.
    pub(crate) fn finish(self) -> Verified {
        Verified { lost: self.expected - self.distinct, ..self.verified }
    }
}

/// A fixed number of bits.
#[derive(Debug)]
struct Bits {
    words: Vec<u64>,
    length: u64,
}

impl Bits {
    fn new(length: u64) -> Self {
        let words = usize::try_from(length.div_ceil(64)).expect("a run fits memory");
        Self { words: vec![0; words], length }
    }

    /// Sets a bit; answers whether it was clear, or none if there is no such bit.
    fn set(&mut self, index: u64) -> Option<bool> {
        if index >= self.length {
            return None;
        }
        let word = self.words.get_mut(usize::try_from(index / 64).ok()?)?;
        let bit = 1 << (index % 64);
        let clear = *word & bit == 0;
        *word |= bit;
        Some(clear)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::payload::Cutter;
    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        load: Load,
    }

    fn verified(order: &[(u32, usize)]) -> Verified {
        let load = Line::try_parse_from(["bench", "--records", "4", "--size", "30"]).unwrap().load;
        let pattern = Pattern::new(1, 30, None);
        let mut cutter = Cutter::new(&pattern, 0);
        let values: Vec<bytes::Bytes> = (0..5).map(|_| cutter.cut(0).1).collect();
        let mut check = Check::new(&pattern, &load);
        for (partition, number) in order {
            check.look(*partition, &values[*number]);
        }
        check.finish()
    }

    #[test]
    fn each_record_once_and_in_order_is_clean() {
        let clean = verified(&[(0, 0), (0, 1), (0, 2), (0, 3)]);
        assert!(clean.is_clean());
        assert_eq!(clean.records, 4);
        assert!(verified(&[(1, 2), (0, 0), (1, 3), (0, 1)]).is_clean(), "partitions have no common order");
    }

    #[test]
    fn each_kind_of_trouble_is_counted() {
        assert_eq!(verified(&[(0, 0), (0, 1), (0, 3)]).lost, 1);
        assert_eq!(verified(&[(0, 0), (0, 1), (0, 1), (0, 2), (0, 3)]).duplicated, 1);
        let swapped = verified(&[(0, 0), (0, 2), (0, 1), (0, 3)]);
        assert_eq!((swapped.reordered, swapped.lost, swapped.duplicated), (1, 0, 0));
        let beyond = verified(&[(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)]);
        assert_eq!(beyond.damaged, 1, "a record that was never sent");
        assert!(!beyond.is_clean());
    }
}
