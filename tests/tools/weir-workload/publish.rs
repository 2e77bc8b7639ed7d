//! Sends bursts of records, and notes each before it goes out and when its outcome is known.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use harness::check::{Event, Level};
use harness::payload::payload;
use harness::workload::{Plan, RECORD_BYTES_MAX};
use harness::{Random, Recorder};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use weir_client::{Client, Delivery, Durability, Message, Producer, Receipt, SendError};

use crate::again;

/// Bursts that wait for their results; when there are so many, the next one waits.
const BURSTS_MAX: usize = 16;

/// Most records of a burst.
const BURST_RECORDS_MAX: u64 = 20;

/// How long the last results may take: the broker is well again by then.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

pub(crate) struct Publisher<'a> {
    plan: &'a Plan,
    level: Level,
    producer: Producer,
    history: Arc<Recorder>,
    random: Random,
    next_value: u64,
    bursts: JoinSet<anyhow::Result<()>>,
}

impl<'a> Publisher<'a> {
    pub(crate) async fn begin(
        client: &Client,
        plan: &'a Plan,
        level: Level,
        timeout: Duration,
        history: Arc<Recorder>,
    ) -> anyhow::Result<Self> {
        let durability = match level {
            Level::Written => Durability::Written,
            Level::Durable => Durability::Durable,
        };
        let build = async || {
            client.producer(&plan.topic).durability(durability).delivery_timeout(timeout).build().await
        };
        let producer = again(build).await?;
        let (random, next_value) = (Random::new(plan.seed), plan.first_value());
        Ok(Self { plan, level, producer, history, random, next_value, bursts: JoinSet::new() })
    }

    /// Sends until it is told to stop, then waits for all results.
    pub(crate) async fn run(
        mut self,
        mut stop: oneshot::Receiver<String>,
        pause_ms: u64,
    ) -> anyhow::Result<()> {
        loop {
            let pause = Duration::from_millis(self.random.below(pause_ms + 1));
            tokio::select! {
                biased;
                _ = &mut stop => break,
                Some(ended) = self.bursts.join_next(), if self.bursts.len() >= BURSTS_MAX => ended??,
                () = tokio::time::sleep(pause), if self.bursts.len() < BURSTS_MAX => self.burst().await?,
            }
        }
        while let Some(ended) = self.bursts.join_next().await {
            ended??;
        }
        let report = self.producer.close(CLOSE_WITHIN).await;
        ensure!(!report.timed_out && report.undelivered.is_empty(), "every result was there: {report:?}");
        Ok(())
    }

    async fn burst(&mut self) -> anyhow::Result<()> {
        let count = self.random.between(1, BURST_RECORDS_MAX);
        let sends: Vec<(u64, u32)> = (0..count)
            .map(|_| {
                let partition = self.random.below(u64::from(self.plan.partitions));
                self.next_value += 1;
                (self.next_value, u32::try_from(partition).unwrap_or_default())
            })
            .collect();
        let (client, level) = (self.plan.client, self.level);
        let send = |&(value, partition): &(u64, u32)| Event::Send { client, partition, value, level };
        self.history.note(&sends.iter().map(send).collect::<Vec<_>>())?;
        let mut deliveries = Vec::new();
        for (value, partition) in sends {
            let message = Message::new(payload(value, RECORD_BYTES_MAX)).partition(partition);
            match self.producer.enqueue(message).await {
                Ok(delivery) => deliveries.push((value, partition, delivery)),
                Err(error) => self.history.note(&[outcome(value, partition, Err(error))?])?,
            }
        }
        self.bursts.spawn(results(Arc::clone(&self.history), deliveries));
        Ok(())
    }
}

async fn results(history: Arc<Recorder>, deliveries: Vec<(u64, u32, Delivery)>) -> anyhow::Result<()> {
    for (value, partition, delivery) in deliveries {
        history.note(&[outcome(value, partition, delivery.await)?])?;
    }
    Ok(())
}

fn outcome(value: u64, partition: u32, result: Result<Receipt, SendError>) -> anyhow::Result<Event> {
    Ok(match result {
        Ok(receipt) => {
            ensure!(receipt.partition == partition, "value {value} was for {partition}: {receipt:?}");
            let level = match receipt.durability {
                Durability::Written => Level::Written,
                Durability::Durable => Level::Durable,
            };
            Event::Stored { value, offset: receipt.offset, level, duplicate: receipt.duplicate }
        }
        Err(error) if error.is_outcome_unknown() => Event::InDoubt { value },
        Err(_certain) => Event::Failed { value },
    })
}
