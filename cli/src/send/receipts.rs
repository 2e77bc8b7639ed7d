//! Receipts of `weir send`: one JSON object per record, in the order of the input, each as soon as it is there.

use std::future::poll_fn;
use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use weir_client::{Delivery, Durability, Receipt, SendError};

use super::tally::Tally;
use crate::failure::Failure;
use crate::output::Output;
use crate::value::to_micros;

/// Receipts that may be waited for. Beyond it sending waits, so that memory stays bounded.
const RECEIPTS_AHEAD: usize = 64 << 10;

/// Prints receipts in a task of its own.
#[derive(Debug)]
pub(crate) struct ReceiptPrinter {
    deliveries: mpsc::Sender<(u64, Delivery)>,
    task: JoinHandle<()>,
}

impl ReceiptPrinter {
    /// Starts to print to stdout; failures go to `tally`.
    pub(crate) fn start(tally: Arc<Tally>) -> Result<Self, Failure> {
        let output = Output::open()?;
        let (deliveries, incoming) = mpsc::channel(RECEIPTS_AHEAD);
        let printing = Printing { output: Some(output), line: Vec::new(), tally };
        Ok(Self { deliveries, task: tokio::spawn(printing.run(incoming)) })
    }

    /// Prints the receipt of the record with this number when it comes.
    pub(crate) async fn expect(&self, number: u64, delivery: Delivery) {
        // The task ends only after this side.
        self.deliveries.send((number, delivery)).await.ok();
    }

    /// Waits until all are printed.
    pub(crate) async fn finish(self) {
        drop(self.deliveries);
        self.task.await.expect("the printer does not panic");
    }
}

struct Printing {
    /// None once nobody reads it any more. Records are sent all the same.
    output: Option<Output>,
    line: Vec<u8>,
    tally: Arc<Tally>,
}

impl Printing {
    async fn run(mut self, mut incoming: mpsc::Receiver<(u64, Delivery)>) {
        loop {
            let next = match incoming.try_recv() {
                Ok(next) => Some(next),
                Err(_) => {
                    self.flush();
                    incoming.recv().await
                }
            };
            let Some((number, delivery)) = next else { break };
            match self.settled(delivery).await {
                Ok(receipt) => self.print(number, &receipt),
                Err(error) => self.tally.failed_at(number, &error),
            }
        }
        self.flush();
    }

    /// Waits for a receipt; what was printed before goes out first if that takes time.
    async fn settled(&mut self, mut delivery: Delivery) -> Result<Receipt, SendError> {
        let mut flushed = false;
        poll_fn(|context| {
            let polled = Pin::new(&mut delivery).poll(context);
            if polled.is_pending() && !flushed {
                self.flush();
                flushed = true;
            }
            match polled {
                Poll::Ready(settled) => Poll::Ready(settled),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    fn print(&mut self, number: u64, receipt: &Receipt) {
        self.line.clear();
        write_receipt(number, receipt, &mut self.line);
        if self.output.as_mut().is_some_and(|output| output.bytes(&self.line).is_err()) {
            self.output = None;
        }
    }

    fn flush(&mut self) {
        if self.output.as_mut().is_some_and(|output| output.flush().is_err()) {
            self.output = None;
        }
    }
}

fn write_receipt(number: u64, receipt: &Receipt, out: &mut Vec<u8>) {
    let durability = match receipt.durability {
        Durability::Written => "written",
        Durability::Durable => "durable",
    };
    writeln!(
        out,
        "{{\"record\":{number},\"partition\":{},\"offset\":{},\"timestamp\":{},\"duplicate\":{},\"durability\":\"{durability}\"}}",
        receipt.partition,
        receipt.offset,
        to_micros(receipt.timestamp),
        receipt.duplicate,
    )
    .expect("writing to memory cannot fail");
}
