//! A number that stands for everything that happened, in its order: two runs of a seed must have the same.

use weir_broker::core::StreamId;

use super::Event;
use crate::network::{Arrival, Transit};
use crate::scheduler::MS;

/// The number so far (FNV, by words).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace(u64);

impl Default for Trace {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Trace {
    pub(crate) fn note(&mut self, words: &[u64]) {
        for word in words {
            self.0 = (self.0 ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(29);
        }
    }

    /// Takes an event in. Of greetings only the length counts: they name the node, which is drawn anew each time.
    pub(crate) fn event(&mut self, now: u64, event: &Event) {
        self.note(&[now]);
        match event {
            Event::Arrives(Transit { connection, direction, arrival, .. }) => {
                self.note(&[1, connection.0, *direction as u64]);
                match arrival {
                    Arrival::Bytes(stream, bytes) => {
                        self.note(&[stream.0, bytes.len() as u64]);
                        if *stream != StreamId(0) {
                            self.bytes(bytes);
                        }
                    }
                    Arrival::End(stream) => self.note(&[stream.0]),
                    Arrival::Lost => {}
                }
            }
            Event::Accepted(connection) => self.note(&[2, connection.0]),
            Event::Connected(client, connection) => {
                self.note(&[3, *client as u64, connection.map_or(0, |id| id.0)]);
            }
            Event::Departs(life, lane, bytes) => self.note(&[4, u64::from(*life), lane.connection.0, *bytes]),
            Event::Answers(life, connection, bytes) => {
                self.note(&[11, u64::from(*life), connection.0, *bytes]);
            }
            Event::Turn(life, part, number) => self.note(&[5, u64::from(*life), *part as u64, *number]),
            Event::Starts => self.note(&[6]),
            Event::Closes(life) => self.note(&[7, u64::from(*life)]),
            Event::Wakes(client) => self.note(&[8, *client as u64]),
            Event::Strikes(class) => self.note(&[9, *class as u64]),
            Event::DiskMends => self.note(&[10]),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.note(&[u64::from_le_bytes(*word)]));
        rest.iter().for_each(|byte| self.note(&[u64::from(*byte)]));
    }

    pub(crate) const fn value(self) -> u64 {
        self.0
    }
}

/// An event in words: its number, the time in milliseconds, and what happens to whom.
pub(super) fn line(number: u64, now: u64, event: &Event) -> String {
    let what = match event {
        Event::Arrives(Transit { connection, direction, arrival, .. }) => {
            let what = match arrival {
                Arrival::Bytes(stream, bytes) => format!("{} bytes of stream {}", bytes.len(), stream.0),
                Arrival::End(stream) => format!("the end of stream {}", stream.0),
                Arrival::Lost => "the loss".to_owned(),
            };
            format!("{direction:?}: {what} of connection {}", connection.0)
        }
        Event::Connected(client, connection) => {
            format!("client {client} is connected: {:?}", connection.map(|id| id.0))
        }
        Event::Wakes(client) => format!("client {client} wakes"),
        Event::Accepted(_)
        | Event::Departs(..)
        | Event::Answers(..)
        | Event::Turn(..)
        | Event::Starts
        | Event::Closes(_)
        | Event::Strikes(_)
        | Event::DiskMends => format!("{event:?}"),
    };
    format!("{number} {}.{:03} {what}\n", now / MS, now % MS)
}
