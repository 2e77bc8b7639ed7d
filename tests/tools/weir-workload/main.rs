//! A client process for tests of the real binary: publishes or reads, and writes down what it sees. Its one argument is a
//! `harness::workload::Plan`.

mod publish;
mod read;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use harness::Recorder;
use harness::workload::{Plan, Role};
use tokio::sync::oneshot;
use weir_client::{Client, TransportProfile};

/// Between two tries to begin, where a broker that is away makes the client give up.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

fn main() -> anyhow::Result<()> {
    let argument = std::env::args().nth(1).context("usage: weir-workload PLAN")?;
    let plan: Plan = serde_json::from_str(&argument)?;
    let history = Recorder::create(&plan.history)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(plan, history))
}

async fn run(plan: Plan, history: Recorder) -> anyhow::Result<()> {
    let profile = if plan.as_on_network { TransportProfile::Network } else { TransportProfile::Loopback };
    let client = Client::builder(&plan.url).transport(profile).on_current_runtime().connect_lazy()?;
    let told = line_from_stdin();
    match plan.role.clone() {
        Role::Publish { level, timeout_ms, pause_ms } => {
            let timeout = Duration::from_millis(timeout_ms);
            let publisher =
                publish::Publisher::begin(&client, &plan, level, timeout, Arc::new(history)).await?;
            publisher.run(told, pause_ms).await?;
        }
        Role::Read { resume_after } => read::run(&client, &plan, resume_after, told, &history).await?,
    }
    Ok(())
}

/// The first line on stdin; empty when stdin ends without one.
fn line_from_stdin() -> oneshot::Receiver<String> {
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line).is_ok() {
            // Whoever waited for it has ended if nobody takes it.
            tell.send(line).ok();
        }
    });
    told
}

/// Does something until it succeeds or fails for good.
async fn again<T>(mut attempt: impl AsyncFnMut() -> Result<T, weir_client::Error>) -> anyhow::Result<T> {
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if error.class() == weir_client::Class::Fatal => return Err(error.into()),
            Err(_passing) => tokio::time::sleep(AGAIN_AFTER).await,
        }
    }
}
