//! Room for one message: waiting for it, holding it, using it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Sleep;

use crate::core::window::Ticket;
use crate::delivery::Delivery;
use crate::error::{ClientCode, Error};
use crate::failure::{SendError, SendFailure};
use crate::message::Message;
use crate::net::publish::ProducerShared;
use crate::net::shared::lock;
use crate::producer::Producer;

/// Room in the window, asked for or held. Dropping it gives it back, or gives the place in the queue up.
#[derive(Debug)]
pub(crate) struct Reservation {
    shared: Arc<ProducerShared>,
    cost: u64,
    state: Place,
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    /// Not asked for yet.
    None,
    /// In the queue.
    Waiting(Ticket),
    /// Held.
    Held,
    /// A message has it now.
    Used,
}

impl Reservation {
    pub(crate) fn new(shared: &Arc<ProducerShared>, bytes: usize) -> Self {
        let cost = lock(&shared.state).machine.window.cost(bytes);
        Self { shared: Arc::clone(shared), cost, state: Place::None, timer: None }
    }

    pub(crate) const fn cost(&self) -> u64 {
        self.cost
    }

    /// A message has taken the room.
    pub(crate) const fn used(&mut self) {
        self.state = Place::Used;
    }

    /// Waits for the room.
    pub(crate) async fn granted(mut self) -> Result<Self, SendError> {
        poll_fn(|context| self.poll_granted(context)).await?;
        Ok(self)
    }

    pub(crate) fn poll_granted(&mut self, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        if let Some(error) = self.shared.client.circuit_error() {
            let retry_after = error.retry_after().unwrap_or_default();
            return Poll::Ready(Err(SendError::new(error, None, SendFailure::CircuitOpen { retry_after })));
        }
        // Through `with`, because queueing may grant room to others.
        let (cost, shared) = (self.cost, Arc::clone(&self.shared));
        let place = shared.with(|state, _| {
            if let Some(why) = &state.closing {
                return Err(self.shared.closed_error(why, None));
            }
            let window = &mut state.machine.window;
            let place = match self.state {
                Place::None if window.try_reserve(cost) => Place::Held,
                Place::None => Place::Waiting(window.wait(cost)),
                Place::Waiting(ticket) if window.claim(ticket) => Place::Held,
                place @ (Place::Waiting(_) | Place::Held | Place::Used) => place,
            };
            if let Place::Waiting(ticket) = place {
                state.wakers.insert(ticket, context.waker().clone());
            }
            Ok(place)
        });
        match place {
            Ok(place) => self.state = place,
            Err(error) => return Poll::Ready(Err(error)),
        }
        if self.state == Place::Held || self.state == Place::Used {
            return Poll::Ready(Ok(()));
        }
        self.poll_timer(context)
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let client = &self.shared.client;
        let timer = self.timer.get_or_insert_with(|| {
            let timeout = lock(&self.shared.state).machine.options().delivery_timeout;
            Box::pin(client.sleep_until(client.now().after(timeout)))
        });
        if timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let text = format!("no room for a message to topic '{}' in time", self.shared.topic);
        let reason = SendFailure::DeliveryTimeout { attempts: 0, outcome_unknown: false };
        Poll::Ready(Err(SendError::new(Error::client(ClientCode::Timeout, text), None, reason)))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        match self.state {
            Place::None | Place::Used => {}
            Place::Waiting(ticket) => self.shared.with(|state, _| {
                state.wakers.remove(&ticket);
                state.machine.window.cancel(ticket);
            }),
            Place::Held => self.shared.with(|state, _| state.machine.window.release(self.cost, 1)),
        }
    }
}

/// Room for one message in a [`Producer`]. Dropping it gives the room back.
#[derive(Debug)]
#[must_use = "the room is held until the permit is used or dropped"]
pub struct Permit<'a> {
    producer: &'a Producer,
    reservation: Reservation,
}

impl<'a> Permit<'a> {
    pub(crate) const fn new(producer: &'a Producer, reservation: Reservation) -> Self {
        Self { producer, reservation }
    }

    /// Takes the message, without waiting. If it is larger than what was reserved, it is taken all the same, and the bound
    /// exceeded by the difference. A message that cannot be sent at all fails through the [`Delivery`].
    pub fn send(self, message: Message) -> Delivery {
        self.producer.place_reserved(message, self.reservation).unwrap_or_else(Delivery::failed)
    }
}
