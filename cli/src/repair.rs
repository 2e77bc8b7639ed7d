//! `weir repair`: gives up what is damaged, so that the rest can be served.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use weir_protocol::units::Timestamp;
use weir_storage::disk::OsDisk;
use weir_storage::store::{Loss, OpenOptions, RepairError, Repaired, repair};

use crate::arguments::Global;
use crate::code::Code;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::progress::Progress;
use crate::verify::plan;

/// Leaves the state in which a start is refused: gives up exactly what is damaged, and keeps a copy of it.
///
/// 'weir verify DIR --repair-plan' prints the ranges and what each of them would cost. What is given up is copied to
/// DIR/quarantine, with a record of the act, before anything else changes. Without --accept-loss nothing is done. A repair
/// that was interrupted can be run again.
#[derive(Debug, clap::Args)]
pub(crate) struct RepairArguments {
    /// The data directory; no broker may be using it
    directory: PathBuf,
    /// What to give up, as the plan prints it: journal:FROM..TO or TOPIC/PARTITION:FROM..TO
    #[arg(long, value_name = "RANGE", num_args = 1.., value_parser = loss)]
    accept_loss: Vec<Loss>,
}

fn loss(text: &str) -> Result<Loss, String> {
    text.parse().map_err(|error: weir_storage::store::ParseLossError| error.to_string())
}

/// Runs `weir repair`.
pub(crate) fn run(arguments: &RepairArguments, global: &Global) -> Result<Exit, Failure> {
    let directory = &arguments.directory;
    if arguments.accept_loss.is_empty() {
        let help = format!("'weir verify {} --repair-plan' prints the ranges", directory.display());
        return Err(Failure::usage("nothing was done: --accept-loss must say what is given up").help(help));
    }
    if !directory.is_dir() {
        return Err(Failure::file("repair", directory, &ErrorKind::NotFound.into()));
    }
    let mut progress = Progress::start("verified", None);
    let accepted = (arguments.accept_loss.as_slice(), now());
    let repaired = repair(&OsDisk, directory, OpenOptions::default(), accepted, &mut |at| {
        progress.show_bytes(at.bytes_done, at.bytes_total);
    });
    progress.clear();
    let repaired = repaired.map_err(failure)?;
    let mut output = Output::open()?;
    if global.json {
        output.document(&json(&repaired))?;
    } else {
        for line in lines(&repaired) {
            output.line(&line)?;
        }
    }
    output.finish()?;
    Ok(Exit::Done)
}

fn failure(error: RepairError) -> Failure {
    let exit = match &error {
        RepairError::NoSuchDamage { .. } | RepairError::JournalIncomplete { .. } => Exit::Refused,
        RepairError::Hopeless { .. } | RepairError::TooManyRanges { .. } | RepairError::Open(_) | _ => {
            Exit::Failed
        }
    };
    Failure::new(exit, Code::Repair, error)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn json(repaired: &Repaired) -> Value {
    let paths = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    json!({
        "given_up": repaired.given_up.iter().map(plan::finding_json).collect::<Vec<Value>>(),
        "keys_found": repaired.keys_found,
        "given_up_before": repaired.before.iter().map(Loss::to_string).collect::<Vec<_>>(),
        "record": repaired.record.as_ref().map(|path| path.display().to_string()),
        "quarantined": paths(&repaired.quarantined),
    })
}

fn lines(repaired: &Repaired) -> Vec<String> {
    let mut lines = Vec::new();
    for loss in &repaired.before {
        lines.push(format!("{loss}: was given up before; nothing was done"));
    }
    for finding in &repaired.given_up {
        lines.push(format!("{}: given up", finding.loss));
        lines.extend(plan::records(finding));
    }
    if repaired.keys_found > 0 {
        lines.push(format!(
            "{} idempotency keys of records that are kept are remembered",
            repaired.keys_found
        ));
    }
    lines.extend(repaired.quarantined.iter().map(|path| format!("kept in {}", path.display())));
    lines.extend(repaired.record.iter().map(|path| format!("recorded in {}", path.display())));
    lines
}
