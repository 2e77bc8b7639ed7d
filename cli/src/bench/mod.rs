//! `weir bench`: the load tool. It measures a broker, and checks that it loses, duplicates and reorders nothing.

mod arguments;
mod check;
mod e2e;
mod ids;
mod latency;
mod payload;
mod produce;
mod read;
mod report;
mod send;
mod session;
mod tail;

use std::sync::atomic::Ordering;

use crate::arguments::Global;
use crate::connect::runtime;
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;

pub(crate) use arguments::BenchArguments;
use arguments::What;
use report::Report;
use session::Session;

/// Runs `weir bench`.
pub(crate) fn run(arguments: &BenchArguments, global: &Global) -> Result<Exit, Failure> {
    let runtime = runtime()?;
    let exit = runtime.block_on(async {
        let mut interrupt = Interrupt::listen()?;
        let (load, timed) = match &arguments.what {
            What::Send(load) | What::Tail(load) => (load, false),
            What::E2e(load) => (load, true),
        };
        let session = tokio::select! {
            session = Session::open(load, global, timed) => session?,
            () = interrupt.asked() => return Ok(Exit::Interrupted),
        };
        let outcome = tokio::select! {
            report = measure(&arguments.what, &session) => Some(report),
            () = interrupt.asked() => None,
        };
        session.run.stop.store(true, Ordering::Release);
        let exit = match outcome {
            Some(report) => report.and_then(|report| report.print(&session, global)),
            None => Ok(Exit::Interrupted),
        };
        // The topic goes whatever became of the run; what became of the run counts.
        let closed = session.close().await;
        exit.and_then(|exit| closed.map(|()| exit))
    });
    runtime.shutdown_background();
    exit
}

async fn measure(what: &What, session: &Session) -> Result<Report, Failure> {
    match what {
        What::Send(_) => send::run(session).await,
        What::Tail(_) => tail::run(session).await,
        What::E2e(_) => e2e::run(session).await,
    }
}
