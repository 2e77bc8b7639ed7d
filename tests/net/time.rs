//! A clock for QUIC that is faster than the one on the wall, so that half a minute of silence takes three seconds.
//!
//! It is real time, only scaled: the broker's own threads wait for real files, and a clock that jumps while they do would
//! end connections that nobody has kept waiting.

use std::future::Future;
use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime};
use tokio::time::Sleep;

/// How much faster.
const SPEED: u32 = 10;

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

/// When something that is due on the fast clock is due on the wall.
pub(crate) fn on_the_wall(due: Instant) -> tokio::time::Instant {
    let origin = origin();
    (origin + due.saturating_duration_since(origin) / SPEED).into()
}

/// How long something takes on the wall.
pub(crate) fn scaled(time: Duration) -> Duration {
    time / SPEED
}

/// Tokio with the fast clock.
#[derive(Debug)]
pub(crate) struct Fast;

impl Runtime for Fast {
    fn new_timer(&self, due: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(Timer(Box::pin(tokio::time::sleep_until(on_the_wall(due)))))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(future);
    }

    fn wrap_udp_socket(&self, _socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn now(&self) -> Instant {
        let origin = origin();
        origin + origin.elapsed() * SPEED
    }
}

#[derive(Debug)]
struct Timer(Pin<Box<Sleep>>);

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, due: Instant) {
        Sleep::reset(self.0.as_mut(), on_the_wall(due));
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Future::poll(self.0.as_mut(), context)
    }
}
