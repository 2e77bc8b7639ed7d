//! Leaves the state in which a start is refused, or stops a loss from being reported again and again: what cannot be
//! read is given up, by somebody who says exactly what.
//!
//! The order of the steps makes a repair that dies anywhere one that can be run again: what is given up is copied to
//! `quarantine/` and the act is noted there, all of it synced, before anything else changes; and all that counts then
//! changes at once, with a checkpoint.

use std::path::{Path, PathBuf};

use weir_protocol::units::{PartitionKey, Timestamp};

use super::open::{OpenError, OpenOptions};
use super::verify::{Progress, verify_locked};
use crate::checkpoint::Paths;
use crate::disk::{Context, Disk, DiskError};

mod act;
mod follow;
mod loss;
mod plan;
mod record;

pub use loss::{Loss, ParseLossError};
pub(super) use plan::plan;
pub use plan::{AffectedRecords, Finding, RepairPlan};

/// What a repair has done.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Repaired {
    /// What was given up now.
    pub given_up: Vec<Finding>,
    /// Where generations of keys were given up: so many keys are remembered again, those of records that are kept and were appended
    /// within the horizon.
    pub keys_found: u64,
    /// What had been given up by an earlier repair already.
    pub before: Vec<Loss>,
    /// Where the act is recorded; `None` if there was nothing left to do.
    pub record: Option<PathBuf>,
    /// Copies of what was given up.
    pub quarantined: Vec<PathBuf>,
}

/// Why nothing was repaired. Nothing that counts was changed; copies in `quarantine/` may have been made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// A range is not exactly one that is damaged.
    #[error("{loss} is not exactly what is damaged; {}", listed(damaged))]
    NoSuchDamage {
        /// The range that was given.
        loss: Loss,
        /// The ranges that are damaged.
        damaged: Vec<Loss>,
    },
    /// The journal can be repaired only as a whole.
    #[error("the journal is damaged in more places than are given up: add {missing}")]
    JournalIncomplete {
        /// A range that must be given up as well.
        missing: Loss,
    },
    /// Something is damaged that giving up records does not help.
    #[error(
        "this damage cannot be left by giving something up: {what}; if nothing else helps, restore the directory from a copy"
    )]
    Hopeless {
        /// What is wrong.
        what: String,
    },
    /// A partition has given up too many ranges.
    #[error("partition {partition} has given up too many ranges to remember one more; trim it first")]
    TooManyRanges {
        /// The partition.
        partition: PartitionKey,
    },
    /// The directory cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl RepairError {
    /// Whether the same call can succeed later.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Open(error) => error.is_retryable(),
            Self::NoSuchDamage { .. }
            | Self::JournalIncomplete { .. }
            | Self::Hopeless { .. }
            | Self::TooManyRanges { .. } => false,
        }
    }
}

impl From<DiskError> for RepairError {
    fn from(error: DiskError) -> Self {
        Self::Open(OpenError::Disk(error))
    }
}

fn listed(damaged: &[Loss]) -> String {
    if damaged.is_empty() {
        return "nothing is".to_owned();
    }
    let damaged: Vec<String> = damaged.iter().map(Loss::to_string).collect();
    format!("that is {}", damaged.join(" "))
}

/// Gives up what is damaged, so that the rest can be served. `accepted` are ranges of [`RepairPlan`], each in full.
///
/// All of the directory is verified first; `progress` is told now and then. After an error, or if the process dies, the
/// same call can be made again.
///
/// # Errors
/// [`RepairError`].
pub fn repair<D: Disk>(
    disk: &D,
    directory: &Path,
    options: OpenOptions,
    (accepted, now): (&[Loss], Timestamp),
    progress: &mut dyn FnMut(Progress),
) -> Result<Repaired, RepairError> {
    let paths = Paths::new(directory);
    let Some(held) = disk.lock(directory).context("lock", directory)? else {
        return Err(OpenError::Locked { directory: directory.to_owned() }.into());
    };
    let report = verify_locked(disk, &paths, progress)?;
    let plan = plan(disk, &paths, &report)?;
    let mut repaired = Repaired::default();
    let mut chosen = Vec::new();
    for loss in accepted {
        if let Some(finding) = plan.findings.iter().find(|finding| finding.loss == *loss) {
            chosen.push(finding.clone());
        } else if record::mentions(disk, &paths, loss)? {
            repaired.before.push(loss.clone());
        } else {
            let damaged = plan.findings.iter().map(|finding| finding.loss.clone()).collect();
            return Err(RepairError::NoSuchDamage { loss: loss.clone(), damaged });
        }
    }
    if chosen.is_empty() {
        return Ok(repaired);
    }
    if let Some(what) = plan.obstacles.into_iter().next() {
        return Err(RepairError::Hopeless { what });
    }
    let left = plan
        .findings
        .iter()
        .find(|finding| matches!(finding.loss, Loss::Journal(_)) && !accepted.contains(&finding.loss));
    if let Some(finding) = left {
        return Err(RepairError::JournalIncomplete { missing: finding.loss.clone() });
    }
    act::act(disk, &paths, (options, now), chosen, &mut repaired)?;
    drop(held);
    Ok(repaired)
}
