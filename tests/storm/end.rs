//! The end of a storm: everything is well again, and then everything must come to its end and be there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use harness::check::{Event, Recorded, check};
use harness::payload::value_of;
use harness::workload::RECORD_BYTES_MAX;
use weir_client::{Client, Start};

use crate::world::{PARTITIONS, TOPIC, World};

/// What is well again has this long on the busiest machine. Most of it is for a client that waits between two tries to connect.
const PATIENCE: Duration = Duration::from_secs(120);

impl World {
    /// Heals everything, waits for all clients, and judges what they saw. Says in short what that was.
    pub(crate) fn end(mut self) -> String {
        self.relay.heal();
        self.finish_publishers();
        // Nothing but what was promised has to outlive this.
        self.broker.kill();
        self.broker.restart();
        let finals = self.read_all();
        let ends: Vec<u64> = finals.iter().map(|values| values.len() as u64).collect();
        self.finish_readers(&ends);
        let last = (0..).zip(finals).map(|(partition, values)| Event::Final { partition, start: 0, values });
        self.own.note(&last.chain([Event::Settled]).collect::<Vec<_>>()).unwrap();
        self.judge()
    }

    fn finish_publishers(&mut self) {
        self.finish("stop\n", |client| client.publishes());
    }

    fn finish_readers(&mut self, ends: &[u64]) {
        self.finish(&format!("{ends:?}\n"), |client| !client.publishes());
    }

    /// Tells some clients to end, and waits. Those that do not end in time are stuck, which their histories tell better than
    /// any message.
    fn finish(&mut self, line: &str, is_meant: impl Fn(&crate::world::Client) -> bool) {
        let mut meant: Vec<_> = self.clients.extract_if(.., |client| is_meant(client)).collect();
        meant.iter_mut().for_each(|client| client.process.feed(line.as_bytes()));
        for client in meant {
            if client.process.ends_within(PATIENCE) {
                let ended = client.process.finish();
                assert_eq!(ended.code, Some(0), "client {}: {}", client.plan.client, ended.stderr);
            }
        }
    }

    /// What each partition holds, read straight from the broker.
    fn read_all(&self) -> Vec<Vec<Option<u64>>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let read = async {
            let client = Client::builder(self.broker.url()).connect_timeout(PATIENCE).connect().await?;
            let mut reading = client.consumer(TOPIC).start(Start::Earliest).read_to_end().await?;
            let mut partitions: BTreeMap<u32, Vec<Option<u64>>> =
                (0..PARTITIONS).map(|partition| (partition, Vec::new())).collect();
            while let Some(record) = reading.recv().await {
                let record = record?;
                let values = partitions.entry(record.partition).or_default();
                assert_eq!(
                    record.offset,
                    values.len() as u64,
                    "an offset of {} is missing",
                    record.partition
                );
                let value = |bytes: &[u8]| value_of(bytes, RECORD_BYTES_MAX);
                values.push(record.value.as_deref().and_then(value));
            }
            Ok::<_, weir_client::Error>(partitions.into_values().collect())
        };
        let read = async { tokio::time::timeout(PATIENCE, read).await };
        runtime.block_on(read).expect("reading ends").expect("all that is stored can be read")
    }

    fn judge(self) -> String {
        let mut files = self.histories;
        files.retain(|file| file.exists());
        files.push(self.directory.join("world.jsonl"));
        let recorded = Recorded::read(&files).unwrap();
        let mut found = String::new();
        for (invariant, finding) in check(&recorded.events) {
            writeln!(found, "broken: {invariant}: {finding}").unwrap();
            for event in finding.events(&recorded.events).into_iter().take(20) {
                writeln!(found, "  {}", recorded.place(event)).unwrap();
            }
        }
        assert!(found.is_empty(), "{found}the histories: weir-check {}/*.jsonl", self.directory.display());
        let count = |is_one: fn(&Event) -> bool| recorded.events.iter().filter(|event| is_one(event)).count();
        let sent = count(|event| matches!(event, Event::Send { .. }));
        let stored = count(|event| matches!(event, Event::Stored { .. }));
        let doubt = count(|event| matches!(event, Event::InDoubt { .. }));
        let again = count(|event| matches!(event, Event::Stored { duplicate: true, .. }));
        let delivered = count(|event| matches!(event, Event::Delivered { .. }));
        assert!(stored > 0 && delivered > 0, "nothing happened");
        std::fs::remove_dir_all(&self.directory).ok();
        format!(
            "{sent} sent, {stored} stored, {again} of them found to be there, {doubt} in doubt, {delivered} \
             delivered, {:?}",
            self.relay.counts()
        )
    }
}
