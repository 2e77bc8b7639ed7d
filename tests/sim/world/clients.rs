//! What clients do to the world.

use super::{Defect, Event, World};
use crate::client::{Client, Context, Output};
use crate::network::{Arrival, Direction, Transit};
use crate::scheduler::{MS, SECOND};

impl World {
    pub(super) fn with_context<R>(
        &mut self,
        number: usize,
        act: impl FnOnce(Option<&mut Client>, &mut Context<'_>) -> R,
    ) -> Result<R, Defect> {
        let mut context = Context {
            now: self.scheduler.now(),
            client: number,
            wall: self.wall(),
            healed_at: self.healed_at,
            topic: self.topic,
            partitions: self.partitions,
            record_bytes: self.plan.record_bytes,
            history: &mut self.history,
            coverage: &mut self.coverage,
            next_number: &mut self.next_number,
            records_left: &mut self.records_left,
            identities: &mut self.identities,
            outputs: Vec::new(),
            defect: None,
            wake_at: u64::MAX,
        };
        let result = act(self.clients.get_mut(number), &mut context);
        let (outputs, defect, wake_at) = (context.outputs, context.defect, context.wake_at);
        if let Some(wake) = self.wakes.get_mut(number).filter(|wake| wake_at < **wake) {
            *wake = wake_at;
            self.scheduler.at(wake_at, Event::Wakes(number));
        }
        for output in outputs {
            self.output(number, output);
        }
        defect.map_or(Ok(result), Err)
    }

    /// A client does something, and then whatever it can do.
    pub(super) fn client(
        &mut self,
        number: usize,
        act: impl FnOnce(&mut Client, &mut Context<'_>),
    ) -> Result<(), Defect> {
        self.with_context(number, |client, context| {
            let Some(client) = client else { return };
            act(client, context);
            client.turn(context);
        })
    }

    fn output(&mut self, client: usize, output: Output) {
        let now = self.scheduler.now();
        match output {
            Output::Send(connection, arrival) => self.send(connection, Direction::ToBroker, arrival),
            Output::Close(connection) => {
                self.network.end(connection, Direction::ToClient);
                // The goodbye arrives, or the broker waits for its idle time-out.
                let wait = if self.random.percent(70) { 5 * MS } else { 30 * SECOND };
                let time = now + self.random.between(MS, wait);
                let (direction, arrival) = (Direction::ToBroker, Arrival::Lost);
                self.scheduler.at(time, Event::Arrives(Transit { time, connection, direction, arrival }));
            }
            Output::Connect => {
                let is_up = self.broker.process.is_some() && self.broker_paused <= now;
                if !is_up || self.network.is_stalled(client, now) {
                    let wait = self.random.between(10 * MS, 3 * SECOND);
                    self.scheduler.after(wait, Event::Connected(client, None));
                    return;
                }
                let (accepted, connected) =
                    (now + self.random.between(50, 500), now + self.random.between(500, 2000));
                let connection = self.network.connect(client, connected);
                self.scheduler.at(accepted, Event::Accepted(connection));
                self.scheduler.at(connected, Event::Connected(client, Some(connection)));
            }
        }
    }
}
