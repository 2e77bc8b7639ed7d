//! What each class of faults does when it strikes.

use std::path::Path;

use weir_storage::disk::Disk;
use weir_storage::disk::sim::{Fault, Operation};

use super::{Defect, Event, World};
use crate::broker::DATA;
use crate::faults::Class;
use crate::network::Direction;
use crate::scheduler::{MS, SECOND};

impl World {
    /// Plans when a class strikes next.
    pub(super) fn plan_fault(&mut self, class: Class) {
        let time = self.faults.next(self.scheduler.now(), class);
        self.scheduler.at(time, Event::Strikes(class));
    }

    pub(super) fn strike(&mut self, class: Class) -> Result<(), Defect> {
        match class {
            Class::ConnectionLoss => self.lose_some(false),
            Class::HalfOpen => self.lose_some(true),
            Class::Stall => self.stall(),
            Class::SlowNetwork => self.network.delay_max = self.random.between(2 * MS, 800 * MS),
            Class::PacketLoss => self.network.loss_percent = self.random.below(30),
            Class::Kill => self.die_if_alive(false),
            Class::PowerCut => self.die_if_alive(true),
            Class::CrashInCall => self.broker.disk.halt_after(self.random.between(1, 40)),
            Class::CrashInRecovery => {
                if self.broker.process.is_some() {
                    let power = self.random.percent(70);
                    self.die(power);
                    self.broker.disk.halt_after(self.random.between(1, 30));
                }
            }
            Class::Stop => {
                let life = self.broker.life;
                let told = self.broker.process.as_mut().map(crate::broker::Process::go_away);
                if let Some(effects) = told {
                    self.effects(Ok(effects))?;
                    self.scheduler.after(2 * SECOND, Event::Closes(life));
                }
            }
            Class::BrokerPause => self.pause_broker(),
            Class::ClientPause => self.pause_client(),
            Class::ClientKill => {
                let client = self.pick_client();
                self.client(client, |client, context| client.restart(context))?;
            }
            Class::Fence => {
                let client = self.pick_client();
                self.client(client, |client, context| {
                    client.restart(context);
                    client.take_over(context);
                })?;
            }
            Class::ClockJump => {
                let hour = 3600 * SECOND;
                let off = i64::try_from(self.random.below(2 * hour)).unwrap_or(0);
                self.clock_off = off - i64::try_from(hour).unwrap_or(0);
            }
            Class::JournalError => {
                let operation = if self.random.percent(70) { Operation::Sync } else { Operation::Write };
                let fault = Fault::next(operation).on("journal").after(self.random.below(10));
                let written_before = usize::try_from(self.random.below(8 << 10)).unwrap_or(0);
                self.broker.disk.plan(Fault { written_before, ..fault });
            }
            Class::DiskError => self.fail_disk(),
            Class::DiskFull => {
                let room = self.random.below(32 << 10);
                self.broker.disk.set_capacity(Some(self.broker.disk.used_bytes() + room));
                self.scheduler.after(self.random.between(SECOND, 10 * SECOND), Event::DiskMends);
            }
            Class::SlowDisk => {
                if let Some(process) = &mut self.broker.process {
                    process.slowness = self.random.between(2, 500);
                }
                self.scheduler.after(self.random.between(SECOND, 5 * SECOND), Event::DiskMends);
            }
        }
        Ok(())
    }

    pub(super) fn mend_disk(&mut self) {
        self.broker.disk.set_capacity(None);
        if let Some(process) = &mut self.broker.process {
            process.slowness = 1;
        }
    }

    fn die_if_alive(&mut self, power: bool) {
        if self.broker.process.is_some() {
            self.die(power);
        }
    }

    fn pause_client(&mut self) {
        let now = self.scheduler.now();
        let client = self.pick_client();
        let until = now + self.random.between(SECOND, 60 * SECOND);
        // One that stands still already stays as it is, so that what waits for it keeps its order.
        if let Some(paused) = self.paused.get_mut(client).filter(|paused| **paused <= now) {
            *paused = until;
        }
    }

    fn pick_client(&mut self) -> usize {
        usize::try_from(self.random.below(self.clients.len() as u64)).unwrap_or(0)
    }

    fn lose_some(&mut self, half_open: bool) {
        for connection in self.network.working() {
            if self.random.percent(50) {
                self.lose(connection, half_open);
            }
        }
    }

    /// The broker and all clients, or some, are parted, in one direction or both. Where that is longer than a client waits
    /// for an answer, it gives the connection up.
    fn stall(&mut self) {
        let now = self.scheduler.now();
        let until = now + self.random.between(10 * MS, 10 * SECOND);
        let both = self.random.percent(50);
        let direction = if self.random.percent(50) { Direction::ToBroker } else { Direction::ToClient };
        let chance = if self.random.percent(50) { 100 } else { 40 };
        for client in 0..self.clients.len() {
            if self.random.percent(chance) {
                for stalled in [Direction::ToBroker, Direction::ToClient] {
                    if both || stalled == direction {
                        self.network.stall((client, stalled), until);
                    }
                }
            }
        }
        if until > now + 2 * SECOND {
            self.lose_some(true);
        }
    }

    fn pause_broker(&mut self) {
        let now = self.scheduler.now();
        let until = now + self.random.between(10 * MS, 60 * SECOND);
        if self.broker_paused > now {
            return;
        }
        self.broker_paused = until;
        if until > now + 2 * SECOND {
            self.lose_some(true);
        }
    }

    /// A call of the disk fails, and some more behind it: at any time, or while the broker starts.
    fn fail_disk(&mut self) {
        let starts = self.random.percent(30) && self.broker.process.is_some();
        if starts {
            self.die(false);
        }
        let segment = self.some_segment();
        let (operation, path) = match self.random.below(9) {
            0 => (Operation::Sync, "segments"),
            1 => (Operation::Write, "state"),
            2 => (Operation::Sync, "manifest"),
            3 => (Operation::Name, "manifest"),
            4 => (Operation::SyncDirectory, "segments"),
            5 => (Operation::Create, "segments"),
            6 => (Operation::Read, "journal"),
            7 => (Operation::Open, "segments"),
            _ => (Operation::Read, segment.as_str()),
        };
        // A start asks again, of two checkpoints; but what fails for ever is damage.
        let times = self.random.between(1, if starts { 15 } else { 6 });
        let fault = Fault::next(operation).on(path).after(self.random.below(3));
        self.broker.disk.plan(Fault { times, ..fault });
    }

    /// The name of a segment's file: a disk fails in one place.
    fn some_segment(&mut self) -> String {
        let entries = self.broker.disk.list(&Path::new(DATA).join("segments")).unwrap_or_default();
        let chosen = usize::try_from(self.random.below(entries.len() as u64)).unwrap_or(0);
        entries.into_iter().nth(chosen).map_or_else(|| "segments".to_owned(), |entry| entry.name)
    }
}
