//! The receipt to come.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::SendError;
use crate::message::Receipt;

/// A receipt to come. Dropping it never cancels the send.
#[derive(Debug)]
#[must_use = "await it, or call .detach() to let on_failure report errors"]
pub struct Delivery {}

impl Delivery {
    /// Does not wait; a failure goes to `on_failure`.
    pub fn detach(self) {}
}

impl Future for Delivery {
    type Output = Result<Receipt, SendError>;
    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Err(SendError::closed(None)))
    }
}
