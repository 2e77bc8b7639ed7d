//! `weir bench`: the load tool. It measures a broker, and checks that it loses, duplicates and reorders nothing.

mod arguments;
mod check;
mod e2e;
mod ids;
mod latency;
mod pause;
mod payload;
mod produce;
mod read;
mod report;
mod scan;
mod send;
mod session;
mod tail;

use std::sync::atomic::Ordering;

use crate::arguments::Global;
use crate::connect::runtime;
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;

pub(crate) use arguments::BenchArguments;
use arguments::{E2eLoad, Load, What};
use report::Report;
use session::Session;

/// Runs `weir bench`.
pub(crate) fn run(arguments: &BenchArguments, global: &Global) -> Result<Exit, Failure> {
    let runtime = runtime()?;
    let exit = runtime.block_on(async {
        let mut interrupt = Interrupt::listen()?;
        match &arguments.what {
            What::Send(load) => measure((load, false), global, interrupt, send::run).await,
            What::Tail(load) => measure((load, false), global, interrupt, tail::run).await,
            What::E2e(E2eLoad { load, pause }) => {
                let run = async |session: &Session| e2e::run(session, *pause).await;
                measure((load, true), global, interrupt, run).await
            }
            What::Scan(scan) => tokio::select! {
                exit = scan::run(scan, global) => exit,
                () = interrupt.asked() => Ok(Exit::Interrupted),
            },
        }
    });
    runtime.shutdown_background();
    exit
}

/// Runs a load, with or without times of sending in its records, and reports what was measured.
async fn measure(
    (load, timed): (&Load, bool),
    global: &Global,
    mut interrupt: Interrupt,
    run: impl AsyncFnOnce(&Session) -> Result<Report, Failure>,
) -> Result<Exit, Failure> {
    let session = tokio::select! {
        session = Session::open(load, global, timed) => session?,
        () = interrupt.asked() => return Ok(Exit::Interrupted),
    };
    let outcome = tokio::select! {
        report = run(&session) => Some(report),
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
}
