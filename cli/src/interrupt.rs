//! Ctrl-C in a client command: the first one asks to finish what is in flight, the second ends at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::code::Code;
use crate::failure::{Exit, Failure};

/// Tells whether the user wants to stop.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    asked: watch::Receiver<bool>,
}

impl Interrupt {
    /// Listens for SIGINT and SIGTERM from now on. The listening task lives as long as the runtime.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let failed = |error| {
            Failure::new(Exit::Failed, Code::File, format_args!("cannot listen for signals: {error}"))
        };
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let (tell, asked) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if tell.send_replace(true) {
                    std::process::exit(Exit::Interrupted.number().into());
                }
            }
        });
        Ok(Self { asked })
    }

    /// Whether the user asked.
    pub(crate) fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }

    /// Waits until the user asks.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn asked(&mut self) {
        if self.asked.wait_for(|asked| *asked).await.is_err() {
            // The listener ends only with the runtime, which ends this as well.
            std::future::pending::<()>().await;
        }
    }
}
