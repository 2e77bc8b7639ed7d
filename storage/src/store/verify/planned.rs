//! A verification together with what could be done about what it found.

use std::path::Path;

use weir_protocol::units::Offset;

use super::{PartitionVerdict, Progress, VerifyReport, lock, verify_locked};
use crate::checkpoint::Paths;
use crate::disk::Disk;
use crate::store::open::OpenError;
use crate::store::repair::{AffectedRecords, Loss, RepairPlan, plan};

/// As [`super::verify`], and with what could be done about what is damaged. The verdicts on partitions then include what
/// damaged parts of the journal held.
///
/// # Errors
/// As [`super::verify`].
pub fn verify_and_plan<D: Disk>(
    disk: &D,
    directory: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(VerifyReport, RepairPlan), OpenError> {
    let _lock = lock(disk, directory)?;
    let paths = Paths::new(directory);
    let mut report = verify_locked(disk, &paths, progress)?;
    let plan = plan(disk, &paths, &report)?;
    let journal = plan.findings.iter().filter(|finding| matches!(finding.loss, Loss::Journal(_)));
    for records in journal.flat_map(|finding| &finding.records) {
        add(records, &mut report);
    }
    report.partitions.sort_by_key(|verdict| verdict.partition);
    Ok((report, plan))
}

fn add(records: &AffectedRecords, report: &mut VerifyReport) {
    let known = report.partitions.iter().position(|verdict| verdict.partition == records.partition);
    let index = known.unwrap_or_else(|| {
        report.partitions.push(PartitionVerdict {
            partition: records.partition,
            topic: records.topic.clone(),
            log_start: Offset::ZERO,
            end_offset: Offset::ZERO,
            bytes: 0,
            damaged: Vec::new(),
            doubtful: Vec::new(),
            given_up: Vec::new(),
        });
        report.partitions.len() - 1
    });
    let verdict = report.partitions.get_mut(index).expect("it was found or just added");
    if records.is_exact {
        verdict.damaged.push(records.offsets.clone());
        verdict.end_offset = verdict.end_offset.max(records.offsets.end);
    } else {
        verdict.doubtful.push(records.offsets.clone());
    }
}
