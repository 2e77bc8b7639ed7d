//! The end of a world: everything is healed, and then everything must come to its end.

use std::collections::BTreeMap;

use harness::check::{Event as Seen, VOID};
use weir_protocol::batch::StoredBatch;
use weir_protocol::units::{Offset, PartitionId, PartitionKey};

use super::{Defect, Event, World};
use crate::broker::{Process, StartFailure, Trouble};
use crate::client::{GROUP, value_of};
use crate::faults::Class;
use crate::scheduler::SECOND;

/// What is healed has this long, in virtual time.
const PATIENCE: u64 = 600 * SECOND;

impl World {
    /// Heals everything, waits until nothing is under way, and looks at what is there.
    pub(super) fn settle(&mut self) -> Result<(), Defect> {
        self.healed_at = self.scheduler.now();
        self.network.heal();
        self.broker.disk.mend();
        self.mend_disk();
        // Who stands still goes on by itself: what waits for it must not be overtaken.
        self.clients.iter_mut().for_each(crate::client::Client::calm);
        let deadline = self.scheduler.now() + PATIENCE;
        self.scheduler.after(SECOND, Event::Starts);
        for number in 0..self.clients.len() {
            self.scheduler.after(0, Event::Wakes(number));
        }
        loop {
            let slice = self.scheduler.now() + SECOND;
            while let Some(event) = self.scheduler.next(slice) {
                self.happen(event)?;
            }
            self.scheduler.skip_to(slice);
            if self.is_settled() || slice >= deadline {
                break;
            }
        }
        self.note_held();
        self.note_kept_for_nobody()?;
        self.restart_for_good()?;
        self.note_positions();
        self.read_all()?;
        self.history.push(Seen::Settled);
        Ok(())
    }

    fn is_settled(&mut self) -> bool {
        let Some(process) = &self.broker.process else { return false };
        let clients = self.clients.iter().all(|client| client.is_idle() && client.held() == 0);
        let figures = process.figures();
        let back = figures.held_bytes == 0 && figures.unflushed_bytes == 0 && figures.waiting_lanes == 0;
        // Members say that they are there until the end, and are answered.
        let quiet = process.is_quiet() && process.owed() == 0;
        let done = clients && back && quiet && self.readers_are_done(process);
        done && self.group_is_done()
    }

    fn readers_are_done(&self, process: &Process) -> bool {
        let end = |partition| process.storage.reader.flushed_end(self.key(partition)).get();
        let positions = self.clients.iter().filter(|client| client.reads());
        positions.into_iter().all(|client| {
            let positions = client.positions();
            positions.len() == self.partitions as usize
                && positions.into_iter().all(|(partition, position)| position >= end(partition))
        })
    }

    /// Whether the group has settled everything. Its members ask until then.
    fn group_is_done(&mut self) -> bool {
        let at = (self.scheduler.now(), self.wall());
        !self.has_group
            || self.broker.process.as_mut().is_some_and(|process| process.group_lag(at) == Some(0))
    }

    /// Notes where the group stands, as a start has found it.
    fn note_positions(&mut self) {
        let Some(process) = self.broker.process.as_ref().filter(|_| self.has_group) else { return };
        for partition in 0..self.partitions {
            let cursor = process.cursors.get(&self.key(partition)).cloned().unwrap_or_default();
            let (floor, words) = (cursor.floor().get(), cursor.window_end().get());
            let above = (floor..words).take(1 << 14);
            let settled = above.filter(|offset| cursor.contains(Offset::new(*offset))).collect();
            self.history.push(Seen::Position { group: GROUP, partition, floor, settled });
        }
    }

    /// Notes what is still held although everything had its time.
    fn note_held(&mut self) {
        let mut held: BTreeMap<&str, u64> = BTreeMap::new();
        held.insert("bytes and messages of producers' windows", self.clients.iter().map(|c| c.held()).sum());
        let busy = self.clients.iter().filter(|client| !client.is_idle()).count();
        held.insert("clients with something under way", busy as u64);
        if let Some(process) = &self.broker.process {
            let figures = process.figures();
            held.insert("bytes received by the broker", figures.held_bytes);
            held.insert("bytes unflushed by the broker", figures.unflushed_bytes);
            held.insert("lanes that wait for memory", figures.waiting_lanes);
            held.insert("bytes of answers that nobody waits for", process.owed());
        }
        for (what, amount) in held.into_iter().filter(|(_, amount)| *amount > 0) {
            self.history.push(Seen::Held { what: what.to_owned(), amount });
        }
    }

    /// When all connections have gone, nothing is kept for any of them.
    fn note_kept_for_nobody(&mut self) -> Result<(), Defect> {
        let at = (self.scheduler.now(), self.wall());
        let Some(process) = &mut self.broker.process else { return Ok(()) };
        let figures = process.without_peers(at, &mut self.coverage);
        let figures = figures.map_err(|trouble| format!("connections end badly: {trouble:?}"))?;
        let kept = figures.granted_bytes + figures.subscription_lanes + figures.waiting_lanes;
        if kept > 0 {
            let what = "bytes and lanes of connections that are gone".to_owned();
            self.history.push(Seen::Held { what, amount: kept });
        }
        Ok(())
    }

    /// The broker ends once more, as its faults allow, and starts again.
    fn restart_for_good(&mut self) -> Result<(), Defect> {
        if self.faults.has(Class::PowerCut) {
            self.broker.cut_power();
            self.history.push(Seen::CacheLost);
        } else {
            self.broker.kill();
        }
        let wall = self.wall();
        self.broker.start(wall, &mut self.coverage).map_err(|failure| match failure {
            StartFailure::Refused(why) => format!("the broker refuses its own data at the end: {why}"),
            StartFailure::Disk => "a healed disk failed".to_owned(),
        })
    }

    const fn key(&self, partition: u32) -> PartitionKey {
        PartitionKey { topic: self.topic, partition: PartitionId::new(partition) }
    }

    /// Reads what every partition holds: after a start all of it is in segments.
    fn read_all(&mut self) -> Result<(), Defect> {
        let Some(process) = &self.broker.process else { return Ok(()) };
        let reader = &process.storage.reader;
        for partition in 0..self.partitions {
            let key = self.key(partition);
            let (start, end) = (reader.log_start(key), reader.flushed_end(key));
            let mut values = Vec::new();
            let mut next = start;
            while next < end {
                let chunk = reader.read(key, next, 64 << 10);
                let mut bytes = chunk.map_err(|error| format!("the end cannot be read: {error}"))?.bytes;
                while !bytes.is_empty() {
                    let stored = StoredBatch::decode(&mut bytes).map_err(|error| error.to_string())?;
                    let records = stored.producer.records().map_err(|error| error.to_string())?;
                    for (offset, record) in (stored.base_offset().get()..).zip(records) {
                        let record = record.map_err(|error| error.to_string())?;
                        if Offset::new(offset) >= next {
                            let is_void = stored.section.voids.contains(record.offset_delta);
                            let value = value_of(&record.value.unwrap_or_default(), self.plan.record_bytes);
                            values.push(if is_void { Some(VOID) } else { value });
                            next = Offset::new(offset + 1);
                        }
                    }
                }
            }
            self.history.push(Seen::Final { partition, start: start.get(), values });
        }
        Ok(())
    }

    /// The broker was told to stop, and its clients had their time.
    pub(super) fn close(&mut self, life: u32) -> Result<(), Defect> {
        if self.broker.life != life {
            return Ok(());
        }
        let at = (self.scheduler.now(), self.wall());
        let Some(process) = self.broker.process.take() else { return Ok(()) };
        match process.close(at.0, at.1, &mut self.coverage) {
            Ok(true) => self.die(false),
            Ok(false) | Err(Trouble::Disk) => self.disk_failed(),
            Err(Trouble::Defect(what)) => return Err(what),
        }
        Ok(())
    }
}
