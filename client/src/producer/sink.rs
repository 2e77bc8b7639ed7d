//! The producer as a sink.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_sink::Sink;

use crate::delivery::Delivery;
use crate::failure::SendError;
use crate::message::Message;
use crate::producer::{Producer, Reservation};

/// A [`Producer`] as a sink: ready when there is room, flushed when everything put into it has its receipt.
///
/// The first failure of a message is returned by the next call, with the message.
#[derive(Debug)]
pub struct ProducerSink {
    producer: Producer,
    reservation: Option<Reservation>,
    is_granted: bool,
    /// Receipts to come. Bounded by what the producer lets in flight.
    deliveries: VecDeque<Delivery>,
}

impl ProducerSink {
    pub(super) const fn new(producer: Producer) -> Self {
        Self { producer, reservation: None, is_granted: false, deliveries: VecDeque::new() }
    }

    /// Takes the receipts that have come. Ready when none is outstanding, or with the first failure.
    fn poll_deliveries(&mut self, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        while let Some(first) = self.deliveries.front_mut() {
            match Pin::new(first).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(result) => {
                    self.deliveries.pop_front();
                    result?;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Sink<Message> for ProducerSink {
    type Error = SendError;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        if let Poll::Ready(Err(error)) = self.poll_deliveries(context) {
            return Poll::Ready(Err(error));
        }
        if self.is_granted {
            return Poll::Ready(Ok(()));
        }
        let shared = self.producer.shared().clone();
        let reservation = self.reservation.get_or_insert_with(|| Reservation::new(&shared, 1));
        let polled = reservation.poll_granted(context);
        match polled {
            Poll::Ready(Ok(())) => self.is_granted = true,
            Poll::Ready(Err(_)) => self.reservation = None,
            Poll::Pending => {}
        }
        polled
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), SendError> {
        let is_granted = std::mem::take(&mut self.is_granted);
        let delivery = match self.reservation.take().filter(|_| is_granted) {
            Some(reservation) => self.producer.place_reserved(message, reservation)?,
            None => self
                .producer
                .place(&message, None)
                .map_err(|refused| self.producer.send_error(refused, message))?,
        };
        self.deliveries.push_back(delivery);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        if !self.deliveries.is_empty() {
            self.producer.shared().with(|state, _| state.machine.flush());
        }
        self.poll_deliveries(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.poll_flush(context)
    }
}
