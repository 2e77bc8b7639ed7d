//! A job that one process at a time does, however many run: each asks for the same lease, and who has it works.
//!
//! With a broker running, in as many terminals as you like: `cargo run -p weir-client --example cron -- nightly LEDGER`. The
//! process that has the lease appends a line to the file LEDGER twice a second. Kill it: another one goes on within the time
//! of the lease. The ledger refuses whoever comes with an older token, so that a process which stood still and wakes up
//! does no harm.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::Duration;

use weir_client::{Client, Lease};

/// How long the job waits for a process that died.
const TIME: Duration = Duration::from_secs(1);

/// Between two runs of the job.
const PERIOD: Duration = Duration::from_millis(500);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(ledger)) = (arguments.next(), arguments.next()) else {
        return Err("usage: cron NAME LEDGER".into());
    };
    let weir = Client::from_env().await?;
    loop {
        let lease = weir.lease(&name).time(TIME).acquire().await?;
        println!("leader {}", lease.token());
        lead(&lease, &ledger).await?;
        println!("follower");
    }
}

/// Does the job until the lease is lost.
async fn lead(lease: &Lease, ledger: &str) -> io::Result<()> {
    loop {
        tokio::select! {
            () = lease.lost() => return Ok(()),
            () = tokio::time::sleep(PERIOD) => {
                if !run(lease.token(), ledger)? {
                    return Ok(());
                }
            }
        }
    }
}

/// Runs the job once, unless somebody with a higher token has run it before.
fn run(token: u64, ledger: &str) -> io::Result<bool> {
    let mut file = OpenOptions::new().create(true).append(true).read(true).open(ledger)?;
    file.lock()?;
    if last_token(&mut file)?.is_some_and(|last| last > token) {
        return Ok(false);
    }
    writeln!(file, "{token} ran")?;
    println!("ran");
    Ok(true)
}

fn last_token(file: &mut File) -> io::Result<Option<u64>> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_string(&mut text)?;
    Ok(text.lines().next_back().and_then(|line| line.split(' ').next()?.parse().ok()))
}
