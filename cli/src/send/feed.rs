//! The loop of `weir send`: takes records from the input and hands them to the producer.

use std::time::Instant;

use weir_client::{Delivery, Message, Producer, SendError, TryEnqueueError};

use super::SendArguments;
use super::input::{Input, Records};
use super::receipts::ReceiptPrinter;
use super::tally::Tally;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::value::Rate;

/// Records between two looks at the clock, for progress.
const LOOK_RECORDS: u64 = 1024;

/// Hands records to a producer until the input ends, something fails or the user has enough.
pub(crate) struct Feed<'a> {
    producer: &'a Producer,
    tally: &'a Tally,
    printer: Option<&'a ReceiptPrinter>,
    rate: Option<Rate>,
    interrupt: Interrupt,
    fed: Fed,
    started: Instant,
}

/// What was handed over, and why it ended.
#[derive(Debug, Default)]
pub(crate) struct Fed {
    /// Records handed over, or refused on the way.
    pub(crate) records: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Why the input could not be read to its end.
    pub(crate) failure: Option<Failure>,
    /// Whether the user stopped it.
    pub(crate) interrupted: bool,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Next {
    Continue,
    Stop,
}

impl<'a> Feed<'a> {
    /// Prepares to hand records to `producer`; what fails is in `tally`.
    pub(crate) fn new(
        producer: &'a Producer,
        tally: &'a Tally,
        printer: Option<&'a ReceiptPrinter>,
        arguments: &SendArguments,
        interrupt: Interrupt,
    ) -> Self {
        let rate = arguments.rate;
        Self { producer, tally, printer, rate, interrupt, fed: Fed::default(), started: Instant::now() }
    }

    /// Runs to the end.
    pub(crate) async fn run(mut self, mut input: Input, progress: &mut Progress) -> Fed {
        let mut bytes_read = 0;
        loop {
            let records = tokio::select! {
                biased;
                () = self.interrupt.asked() => {
                    self.fed.interrupted = true;
                    break;
                }
                () = self.tally.anything() => break,
                records = input.next() => records,
            };
            match records {
                Ok(Some(records)) => {
                    bytes_read += records.bytes_read;
                    if self.records(records, progress, bytes_read).await == Next::Stop {
                        break;
                    }
                }
                Ok(None) => break,
                Err(failure) => {
                    self.fed.failure = Some(failure);
                    break;
                }
            }
        }
        self.fed
    }

    async fn records(&mut self, records: Records, progress: &mut Progress, bytes_read: u64) -> Next {
        for message in records {
            if self.fed.records.is_multiple_of(LOOK_RECORDS) {
                progress.show(self.fed.records, self.fed.bytes, bytes_read);
                if self.interrupt.is_asked() {
                    self.fed.interrupted = true;
                    return Next::Stop;
                }
            }
            if self.tally.any() || self.pace().await == Next::Stop || self.record(message).await == Next::Stop
            {
                return Next::Stop;
            }
        }
        Next::Continue
    }

    /// Waits until the next record may go.
    async fn pace(&mut self) -> Next {
        let Some(rate) = self.rate else { return Next::Continue };
        let due = self.started + rate.due(self.fed.records);
        if due <= Instant::now() {
            return Next::Continue;
        }
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => Next::Continue,
            () = self.tally.anything() => Next::Stop,
            () = self.interrupt.asked() => {
                self.fed.interrupted = true;
                Next::Stop
            }
        }
    }

    async fn record(&mut self, message: Message) -> Next {
        let size = u64::try_from(message.size()).unwrap_or(u64::MAX);
        let handed = match self.producer.try_enqueue(message) {
            Ok(delivery) => Ok(delivery),
            Err(TryEnqueueError::Failed(error)) => Err(error),
            Err(TryEnqueueError::Full(message, _)) => match self.wait(*message).await {
                Some(handed) => handed,
                None => return Next::Stop,
            },
        };
        let number = self.fed.records;
        self.fed.records += 1;
        self.fed.bytes += size;
        match (handed, self.printer) {
            (Ok(delivery), Some(printer)) => printer.expect(number, delivery).await,
            (Ok(delivery), None) => delivery.detach(),
            (Err(error), _) => {
                self.tally.failed_at(number, &error);
                return Next::Stop;
            }
        }
        Next::Continue
    }

    /// Waits for room; none if it is no longer worth it.
    async fn wait(&mut self, message: Message) -> Option<Result<Delivery, SendError>> {
        tokio::select! {
            biased;
            () = self.interrupt.asked() => {
                self.fed.interrupted = true;
                None
            }
            () = self.tally.anything() => None,
            handed = self.producer.enqueue(message) => Some(handed),
        }
    }
}
