//! Reads all partitions, and notes each record. Now and then it begins anew where it was.

use std::collections::BTreeMap;

use anyhow::bail;
use harness::Recorder;
use harness::check::Event;
use harness::payload::value_of;
use harness::workload::{Plan, RECORD_BYTES_MAX};
use tokio::sync::oneshot;
use weir_client::{Client, Consumer, ConsumerEvent, Start};

use crate::again;

struct Reader<'a> {
    plan: &'a Plan,
    history: &'a Recorder,
    /// The next offset of each partition.
    positions: BTreeMap<u32, u64>,
}

/// Reads until it has what it is told to wait for.
pub(crate) async fn run(
    client: &Client,
    plan: &Plan,
    resume_after: u64,
    mut told: oneshot::Receiver<String>,
    history: &Recorder,
) -> anyhow::Result<()> {
    let positions = (0..plan.partitions).map(|partition| (partition, 0)).collect();
    let mut reader = Reader { plan, history, positions };
    let mut ends: Option<Vec<u64>> = None;
    let mut start = Start::Earliest;
    while !ends.as_ref().is_some_and(|ends| reader.has(ends)) {
        let begin = async || client.consumer(&plan.topic).start(start.clone()).subscribe().await;
        let mut consumer = again(begin).await?;
        reader.begins()?;
        reader.read(&mut consumer, resume_after, (&mut told, &mut ends)).await?;
        start = Start::Resume(consumer.checkpoint());
    }
    Ok(())
}

impl Reader<'_> {
    /// Whether it stands at these ends.
    fn has(&self, ends: &[u64]) -> bool {
        self.positions.values().zip(ends).all(|(position, end)| position >= end)
    }

    fn begins(&self) -> anyhow::Result<()> {
        let start = |(partition, offset): (&u32, &u64)| Event::Start {
            reader: self.plan.client,
            partition: *partition,
            offset: *offset,
        };
        Ok(self.history.note(&self.positions.iter().map(start).collect::<Vec<_>>())?)
    }

    /// Reads so many records, or until it has everything.
    async fn read(
        &mut self,
        consumer: &mut Consumer,
        records: u64,
        (told, ends): (&mut oneshot::Receiver<String>, &mut Option<Vec<u64>>),
    ) -> anyhow::Result<()> {
        let mut events = consumer.events();
        let mut left = records;
        while left > 0 && !ends.as_ref().is_some_and(|ends| self.has(ends)) {
            tokio::select! {
                line = &mut *told, if ends.is_none() => *ends = Some(serde_json::from_str(&line?)?),
                record = consumer.recv() => {
                    let Some(record) = record else { bail!("reading ended") };
                    let record = record?;
                    left -= 1;
                    let (partition, offset) = (record.partition, record.offset);
                    let value = record.value.as_deref().and_then(|bytes| value_of(bytes, RECORD_BYTES_MAX));
                    self.positions.insert(partition, offset + 1);
                    let reader = self.plan.client;
                    self.history.note(&[Event::Delivered { reader, partition, offset, value }])?;
                }
                Some(event) = events.recv() => if let ConsumerEvent::Gap { partition, from, to, .. } = event {
                    let reader = self.plan.client;
                    self.history.note(&[Event::Missing { reader, partition, from, to }])?;
                }
            }
        }
        Ok(())
    }
}
