//! Records with idempotency keys, and repetitions whose answers are checked.

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut};
use weir_client::{Deliveries, Message, Receipt};

use crate::code::Code;
use crate::failure::{Exit, Failure};

/// Groups whose receipts may be awaited: bounds memory, and is more than is ever in flight.
const GROUPS_MAX: usize = 4096;

/// Records that have their receipts and may be sent again.
const KNOWN_MAX: usize = 1024;

/// Which idempotency keys records have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ids {
    /// Each its own.
    Unique,
    /// So many of a hundred records that are sent are repetitions.
    Repeated(u32),
}

/// Reads `unique` or `dup=50%`.
pub(crate) fn ids(text: &str) -> Result<Ids, String> {
    if text == "unique" {
        return Ok(Ids::Unique);
    }
    let percent = text.strip_prefix("dup=").and_then(|rest| rest.strip_suffix('%'));
    match percent.map(str::parse) {
        Some(Ok(percent @ 1..=90)) => Ok(Ids::Repeated(percent)),
        Some(_) | None => Err("expected unique, or dup=1% to dup=90%".to_owned()),
    }
}

/// The key of a record, which no other one of any run has.
pub(crate) fn key(run: u64, producer: u32, number: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(8 + 4 + 8);
    key.put_u64(run);
    key.put_u32(producer);
    key.put_u64(number);
    key.freeze()
}

/// Sends some records again, and checks that each answer names the original.
#[derive(Debug)]
pub(crate) struct Repeats {
    /// Repetitions for a hundred new records.
    per_hundred: u64,
    sent: u64,
    awaited: VecDeque<Group>,
    known: VecDeque<(Message, Receipt)>,
}

#[derive(Debug)]
struct Group {
    deliveries: Deliveries,
    /// The new records, ahead of the repetitions.
    new: Vec<Message>,
    repetitions: Vec<Repetition>,
}

#[derive(Debug)]
enum Repetition {
    /// Of the new record with this number in the group.
    Of(usize),
    /// Of one that had its receipt.
    Known(Receipt),
}

impl Repeats {
    pub(crate) fn new(percent: u32) -> Self {
        let per_hundred = u64::from(percent) * 100 / (100 - u64::from(percent));
        Self { per_hundred, sent: 0, awaited: VecDeque::new(), known: VecDeque::new() }
    }

    /// The repetitions that go with some new records, as messages; they are remembered with the deliveries that
    /// [`Repeats::expect`] is given.
    pub(crate) fn choose(&mut self, new: &[Message]) -> (Vec<Message>, Vec<Choice>) {
        let before = self.sent * self.per_hundred / 100;
        self.sent += new.len() as u64;
        let count = self.sent * self.per_hundred / 100 - before;
        let mut messages = Vec::new();
        let mut choices = Vec::new();
        for number in 0..count {
            let of = usize::try_from(number).unwrap_or(0) % new.len().max(1);
            // In turns one that is on its way, and one whose receipt is there.
            match self.known.pop_front().filter(|_| number % 2 == 0) {
                Some((message, receipt)) => {
                    messages.push(message);
                    choices.push(Choice(Repetition::Known(receipt)));
                }
                None => {
                    messages.extend(new.get(of).cloned());
                    choices.push(Choice(Repetition::Of(of)));
                }
            }
        }
        (messages, choices)
    }

    /// Awaits the answers to new records and their repetitions, once enough are on their way.
    pub(crate) async fn expect(
        &mut self,
        deliveries: Deliveries,
        new: Vec<Message>,
        choices: Vec<Choice>,
    ) -> Result<(), Failure> {
        let repetitions = choices.into_iter().map(|choice| choice.0).collect();
        self.awaited.push_back(Group { deliveries, new, repetitions });
        if self.awaited.len() < GROUPS_MAX { Ok(()) } else { self.check_first().await }
    }

    /// Checks all answers that are left. Says how many repetitions there were.
    pub(crate) async fn finish(&mut self) -> Result<u64, Failure> {
        while !self.awaited.is_empty() {
            self.check_first().await?;
        }
        Ok(self.sent * self.per_hundred / 100)
    }

    async fn check_first(&mut self) -> Result<(), Failure> {
        let Some(Group { deliveries, new, repetitions }) = self.awaited.pop_front() else { return Ok(()) };
        let receipts = deliveries.await.map_err(|error| match error.failed.first() {
            Some(first) => Failure::from(&first.error),
            None => Failure::new(Exit::Failed, Code::NoReceipt, "a receipt is missing"),
        })?;
        let (originals, repeated) = receipts.split_at(new.len().min(receipts.len()));
        for (repetition, answer) in repetitions.iter().zip(repeated) {
            let original = match repetition {
                Repetition::Of(number) => originals.get(*number),
                Repetition::Known(receipt) => Some(receipt),
            };
            let is_true = original.is_some_and(|original| {
                (original.partition, original.offset, original.timestamp)
                    == (answer.partition, answer.offset, answer.timestamp)
            });
            if !is_true || !answer.duplicate {
                let text =
                    format_args!("a repetition was answered with {answer:?}, the original with {original:?}");
                return Err(Failure::new(Exit::Failed, Code::Unverified, text));
            }
        }
        for (message, receipt) in new.into_iter().zip(originals.iter().cloned()) {
            self.known.push_back((message, receipt));
        }
        let excess = self.known.len().saturating_sub(KNOWN_MAX);
        self.known.drain(..excess);
        Ok(())
    }
}

/// What a repetition repeats.
#[derive(Debug)]
pub(crate) struct Choice(Repetition);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_repetitions_are_read_and_kept() {
        assert_eq!(ids("unique"), Ok(Ids::Unique));
        assert_eq!(ids("dup=50%"), Ok(Ids::Repeated(50)));
        for bad in ["dup=0%", "dup=91%", "dup=50", "dup", ""] {
            assert!(ids(bad).is_err(), "{bad}");
        }
        let new: Vec<Message> = (0..10).map(|number: u32| Message::new(number.to_string())).collect();
        let count = |percent, groups| {
            let mut repeats = Repeats::new(percent);
            (0..groups).map(|_| repeats.choose(&new).0.len()).sum::<usize>()
        };
        assert_eq!((count(50, 10), count(20, 10), count(75, 2)), (100, 25, 60));
    }
}
