//! What `weir verify --repair-plan` says: what could be given up, and the command that would do it.

use std::path::Path;

use serde_json::{Value, json};
use weir_storage::store::{AffectedRecords, Finding, RepairPlan};

/// The plan as lines.
pub(crate) fn text(plan: &RepairPlan, directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for finding in &plan.findings {
        lines.push(format!("{}: {}", finding.loss, finding.what));
        lines.push(match finding.bytes {
            0 => "  no byte that is there would be given up".to_owned(),
            bytes => format!("  {bytes} bytes would be given up"),
        });
        lines.extend(records(finding));
        for file in &finding.files {
            lines.push(format!("  kept in quarantine: what is there of {}", file.display()));
        }
    }
    lines.extend(plan.obstacles.iter().map(|what| format!("no repair helps: {what}")));
    match command(plan, directory) {
        Some(command) => lines.push(format!("to give all of that up: {command}")),
        None if plan.findings.is_empty() => lines.push("nothing could be given up".to_owned()),
        None => lines.push("restore the directory from a copy".to_owned()),
    }
    lines
}

/// The records that go with a finding, a line for each range.
pub(crate) fn records(finding: &Finding) -> Vec<String> {
    let line = |records: &AffectedRecords| {
        let AffectedRecords { partition, topic, offsets, is_exact } = records;
        let count = offsets.end.get() - offsets.start.get();
        let most = if *is_exact { "" } else { "at most, so that none of these offsets is used again: " };
        let partition = partition.partition;
        format!(
            "  {most}{topic} partition {partition} offsets {}..{} ({count} records)",
            offsets.start, offsets.end
        )
    };
    finding.records.iter().map(line).collect()
}

/// The command that gives up everything that is damaged.
fn command(plan: &RepairPlan, directory: &Path) -> Option<String> {
    if plan.findings.is_empty() || !plan.obstacles.is_empty() {
        return None;
    }
    let ranges: Vec<String> = plan.findings.iter().map(|finding| finding.loss.to_string()).collect();
    let directory = directory.display().to_string().replace('\'', r"'\''");
    let is_plain = directory.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let directory = if is_plain { directory } else { format!("'{directory}'") };
    Some(format!("weir repair {directory} --accept-loss {}", ranges.join(" ")))
}

/// The plan as a JSON value.
pub(crate) fn json(plan: &RepairPlan, directory: &Path) -> Value {
    json!({
        "findings": plan.findings.iter().map(finding_json).collect::<Vec<Value>>(),
        "obstacles": plan.obstacles,
        "command": command(plan, directory),
    })
}

/// A finding as a JSON value.
pub(crate) fn finding_json(finding: &Finding) -> Value {
    let records = finding.records.iter().map(|records| {
        json!({
            "topic": records.topic,
            "partition": records.partition.partition.get(),
            "from": records.offsets.start.get(),
            "to": records.offsets.end.get(),
            "exact": records.is_exact,
        })
    });
    json!({
        "range": finding.loss.to_string(),
        "what": finding.what,
        "bytes": finding.bytes,
        "records": records.collect::<Vec<Value>>(),
        "files": finding.files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_pasted() {
        let finding = Finding {
            loss: "orders/0:10..20".parse().unwrap(),
            what: "segments/1.seg: batches".to_owned(),
            bytes: 7,
            records: Vec::new(),
            files: Vec::new(),
        };
        let journal = Finding { loss: "journal:0..4096".parse().unwrap(), ..finding.clone() };
        let mut plan = RepairPlan { findings: vec![finding, journal], obstacles: Vec::new() };
        let line = |plan: &RepairPlan, directory: &str| text(plan, Path::new(directory)).pop().unwrap();
        let ranges = "--accept-loss orders/0:10..20 journal:0..4096";
        assert_eq!(line(&plan, "/data"), format!("to give all of that up: weir repair /data {ranges}"));
        assert!(line(&plan, "my data").ends_with(&format!("weir repair 'my data' {ranges}")));
        plan.obstacles.push("both manifests are gone".to_owned());
        assert_eq!(line(&plan, "/data"), "restore the directory from a copy");
    }
}
