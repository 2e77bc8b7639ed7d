//! The broker's process comes and goes.

use harness::check::Event as Seen;
use weir_broker::core::ConnectionId;

use super::{Defect, Event, World};
use crate::broker::StartFailure;
use crate::coverage::Situation;
use crate::scheduler::{MS, SECOND};

impl World {
    /// The broker starts.
    pub(super) fn start(&mut self) -> Result<(), Defect> {
        if self.broker.process.is_some() {
            return Ok(());
        }
        let wall = self.wall();
        match self.broker.start(wall, &mut self.coverage) {
            Ok(()) => Ok(()),
            Err(StartFailure::Refused(why)) => Err(format!("the broker refuses its own data: {why}")),
            Err(StartFailure::Disk) => {
                if self.broker.disk.is_halted() {
                    self.coverage.saw(Situation::CrashInRecovery);
                }
                self.disk_failed();
                Ok(())
            }
        }
    }

    /// A call of the disk failed, and the process ends. One in which everything stood still was cut short by the death of the
    /// process or of the machine.
    pub(super) fn disk_failed(&mut self) {
        if self.broker.disk.is_halted() {
            let power = self.random.percent(60);
            self.die(power);
        } else {
            // A sync that failed takes with it what was only written.
            self.history.push(Seen::CacheLost);
            self.die(false);
        }
    }

    /// The broker's process ends, with the power or without; it comes back.
    pub(super) fn die(&mut self, power: bool) {
        if power {
            self.broker.cut_power();
            self.history.push(Seen::CacheLost);
        } else {
            self.broker.kill();
        }
        self.broker_paused = 0;
        for connection in self.network.working() {
            self.lose(connection, false);
        }
        self.scheduler.after(self.random.between(10 * MS, 3 * SECOND), Event::Starts);
    }

    pub(super) fn lose(&mut self, connection: ConnectionId, half_open: bool) {
        let now = self.scheduler.now();
        for transit in self.network.lose(now, connection, half_open) {
            self.scheduler.at(transit.time, Event::Arrives(transit));
        }
        self.network.drop_transit(connection);
    }
}
