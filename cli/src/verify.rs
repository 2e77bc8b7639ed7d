//! `weir verify`: checks a data directory that no broker is using.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::PathBuf;

use serde_json::{Value, json};
use weir_protocol::units::Offset;
use weir_storage::disk::OsDisk;
use weir_storage::store::{DamagedRange, PartitionVerdict, VerifyReport, verify_and_plan};

use crate::arguments::Global;
use crate::code::Code;
use crate::failure::{Exit, Failure};
use crate::output::{Align, Output, Table};
use crate::progress::Progress;

pub(crate) mod plan;

/// Checks a data directory that no broker is using: reads every byte that counts, and changes nothing.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArguments {
    /// The data directory
    directory: PathBuf,
    /// Print what could be done about damage, without doing it: what would be given up, and the command for it
    #[arg(long)]
    repair_plan: bool,
}

/// Runs `weir verify`.
pub(crate) fn run(arguments: &VerifyArguments, global: &Global) -> Result<Exit, Failure> {
    let directory = &arguments.directory;
    if !directory.is_dir() {
        return Err(Failure::file("verify", directory, &ErrorKind::NotFound.into()));
    }
    let mut progress = Progress::start("verified", None);
    let verified =
        verify_and_plan(&OsDisk, directory, &mut |at| progress.show_bytes(at.bytes_done, at.bytes_total));
    progress.clear();
    let (report, plan) = verified.map_err(|error| Failure::new(Exit::Failed, Code::Damaged, error))?;
    let mut output = Output::open()?;
    if global.json {
        let mut document = json(&report);
        if arguments.repair_plan {
            let fields = document.as_object_mut().expect("a report is an object");
            fields.insert("repair_plan".to_owned(), plan::json(&plan, directory));
        }
        output.document(&document)?;
    } else {
        text(&report, &mut output)?;
        if arguments.repair_plan {
            plan::text(&plan, directory).iter().try_for_each(|line| output.line(line))?;
        }
    }
    output.finish()?;
    verdict(&report, arguments.repair_plan)
}

fn verdict(report: &VerifyReport, is_planned: bool) -> Result<Exit, Failure> {
    if report.is_sound() {
        return Ok(Exit::Done);
    }
    let lost: u64 = report.partitions.iter().flat_map(|partition| &partition.damaged).map(length).sum();
    let failure = Failure::new(
        Exit::Failed,
        Code::Damaged,
        format_args!("the data is damaged: {lost} records cannot be read"),
    );
    let is_doubtful = report.partitions.iter().any(|partition| !partition.doubtful.is_empty());
    let failure = if is_doubtful { failure.and("how many more are lost is not known") } else { failure };
    Err(if is_planned {
        failure.help("copy the directory before you do anything else")
    } else {
        failure.help("copy the directory before you do anything else; --repair-plan shows what could be done")
    })
}

fn length(range: &Range<Offset>) -> u64 {
    range.end.get().saturating_sub(range.start.get())
}

fn json(report: &VerifyReport) -> Value {
    json!({
        "sound": report.is_sound(),
        "node": report.node.to_string(),
        "incarnation": report.incarnation.get(),
        "bytes": report.bytes,
        "journal_frames": report.journal_frames,
        "torn_tail": report.torn_tail,
        "partitions": report.partitions.iter().map(partition_json).collect::<Vec<Value>>(),
        "damage": report.damage.iter().map(damage_json).collect::<Vec<Value>>(),
        "unknown_files": report.unknown_files.iter().map(|path| path.display().to_string()).collect::<Vec<String>>(),
    })
}

fn partition_json(verdict: &PartitionVerdict) -> Value {
    json!({
        "topic": verdict.topic,
        "partition": verdict.partition.partition.get(),
        "start_offset": verdict.log_start.get(),
        "end_offset": verdict.end_offset.get(),
        "bytes": verdict.bytes,
        "verdict": word(verdict),
        "damaged": verdict.damaged.iter().map(range_json).collect::<Vec<Value>>(),
        "doubtful": verdict.doubtful.iter().map(range_json).collect::<Vec<Value>>(),
        "given_up": verdict.given_up.iter().map(range_json).collect::<Vec<Value>>(),
    })
}

/// The verdict on a partition.
fn word(verdict: &PartitionVerdict) -> &'static str {
    if !verdict.damaged.is_empty() {
        "damaged"
    } else if !verdict.doubtful.is_empty() {
        "may lack its last records"
    } else if !verdict.given_up.is_empty() {
        "sound, some given up"
    } else {
        "sound"
    }
}

fn range_json(range: &Range<Offset>) -> Value {
    json!({ "from": range.start.get(), "to": range.end.get() })
}

fn damage_json(damage: &DamagedRange) -> Value {
    let records = damage.records.as_ref().map(|(partition, range)| {
        json!({
            "topic_id": partition.topic.to_string(),
            "partition": partition.partition.get(),
            "from": range.start.get(),
            "to": range.end.get(),
        })
    });
    json!({
        "file": damage.path.display().to_string(),
        "from": damage.bytes.start,
        "to": damage.bytes.end,
        "what": damage.what,
        "harmless": damage.is_harmless,
        "records": records,
    })
}

fn text(report: &VerifyReport, output: &mut Output) -> Result<(), Failure> {
    let mut table = Table::new(&[
        ("TOPIC", Align::Left),
        ("PARTITION", Align::Right),
        ("START", Align::Right),
        ("END", Align::Right),
        ("BYTES", Align::Right),
        ("DAMAGED", Align::Right),
        ("VERDICT", Align::Left),
    ]);
    for verdict in &report.partitions {
        table.row(vec![
            verdict.topic.clone(),
            verdict.partition.partition.to_string(),
            verdict.log_start.to_string(),
            verdict.end_offset.to_string(),
            verdict.bytes.to_string(),
            verdict.damaged.iter().map(length).sum::<u64>().to_string(),
            word(verdict).to_owned(),
        ]);
    }
    output.table(&table)?;
    for line in remarks(report) {
        output.line(&line)?;
    }
    let word = if report.is_sound() { "sound" } else { "damaged" };
    output.line(&format!(
        "{word}: {} bytes verified, {} frames in the journal",
        report.bytes, report.journal_frames
    ))
}

/// Everything worth a sentence.
fn remarks(report: &VerifyReport) -> Vec<String> {
    let mut lines = Vec::new();
    for damage in &report.damage {
        let DamagedRange { path, bytes, what, records, is_harmless } = damage;
        let mut line = format!("{}: bytes {}..{}: {what}", path.display(), bytes.start, bytes.end);
        if let Some((partition, range)) = records {
            line.push_str(&format!("; partition {partition} lacks offsets {}..{}", range.start, range.end));
        }
        if *is_harmless {
            line.push_str("; no record is affected");
        }
        lines.push(line);
    }
    if report.torn_tail {
        lines.push("the journal ends in a write that was cut off; nothing of it was acknowledged".to_owned());
    }
    lines.extend(report.unknown_files.iter().map(|path| format!("{}: not a file of Weir", path.display())));
    lines
}

#[cfg(test)]
mod tests {
    use weir_protocol::units::{PartitionId, PartitionKey, TopicId};

    use super::*;

    fn damaged() -> VerifyReport {
        let partition = PartitionKey { topic: TopicId::from_bytes([1; 16]), partition: PartitionId::new(3) };
        let range = Offset::new(10)..Offset::new(20);
        let verdict = PartitionVerdict {
            partition,
            topic: "orders".to_owned(),
            log_start: Offset::ZERO,
            end_offset: Offset::new(100),
            bytes: 5,
            damaged: vec![range.clone()],
            doubtful: Vec::new(),
            given_up: Vec::new(),
        };
        let damage = DamagedRange {
            path: "segments/1.seg".into(),
            bytes: 7..9,
            what: "checksum".to_owned(),
            records: Some((partition, range)),
            is_harmless: false,
        };
        VerifyReport { partitions: vec![verdict], damage: vec![damage], ..VerifyReport::default() }
    }

    #[test]
    fn damage_is_an_error_that_counts_records() {
        let failure = verdict(&damaged(), false).unwrap_err();
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.to_string().contains("10 records cannot be read"), "{failure}");
        assert_eq!(verdict(&VerifyReport::default(), false), Ok(Exit::Done));
    }

    #[test]
    fn the_report_names_files_bytes_and_offsets() {
        let object = json(&damaged());
        assert_eq!(object["sound"], false);
        assert_eq!(object["partitions"][0]["damaged"], json!([{ "from": 10, "to": 20 }]));
        assert_eq!(object["damage"][0]["file"], "segments/1.seg");
        assert_eq!(object["damage"][0]["records"]["partition"], 3);
        assert_eq!(object["partitions"][0]["verdict"], "damaged");
        let lines = remarks(&damaged());
        assert!(lines[0].starts_with("segments/1.seg: bytes 7..9: checksum; partition "), "{lines:?}");
    }
}
