//! Merges: many short runs become few long ones, and files of which little is used are written anew.
//!
//! A merge copies in bounded steps what its inputs hold, batch by batch, verified and unchanged. Until it is done nobody
//! sees it; if the node dies, it never was.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use weir_protocol::units::{PartitionKey, SegmentId, Timestamp};

use super::SegmentOptions;
use super::checkpointer::{Checkpointer, Usage};
use crate::disk::{AlignedBuffer, Disk, DiskError};
use crate::segment::{SegmentError, SegmentFile, SegmentPlan, SegmentWriter, Step, Walk, WrittenSegment};

/// Files that are merged at once, at most. Bounds open files.
const INPUTS_MAX: usize = 64;

/// Bytes that are merged at once, in multiples of the longest file. Bounds the space that is taken twice.
const INPUT_FILES_BYTES_MAX: u64 = 2;

/// What is to be copied to where.
#[derive(Debug)]
pub(super) struct Plan {
    inputs: BTreeSet<SegmentId>,
    files: VecDeque<FilePlan>,
}

/// One file to be written.
#[derive(Debug, Default)]
struct FilePlan {
    run_count: usize,
    data_bytes: u64,
    pieces: VecDeque<Piece>,
}

/// A run of an input.
#[derive(Clone, Debug)]
struct Piece {
    partition: PartitionKey,
    segment: SegmentId,
    range: Range<u64>,
}

/// A merge that was begun.
#[derive(Debug)]
pub(super) struct Merge<D: Disk> {
    inputs: BTreeMap<SegmentId, SegmentFile<D::File>>,
    /// Files that were not begun.
    files: VecDeque<FilePlan>,
    /// The file that is being written.
    current: Option<(FilePlan, SegmentId, SegmentWriter<D>)>,
    buffer: Option<AlignedBuffer>,
    done: Vec<WrittenSegment>,
}

/// What a step has done.
#[derive(Debug)]
pub(super) enum MergeStep {
    /// There is more to copy.
    More {
        /// Bytes that were copied.
        bytes: u64,
    },
    /// All is copied, and durable.
    Done {
        /// Bytes that were copied.
        bytes: u64,
    },
    /// An input is damaged: it is left as it is.
    Damaged {
        /// The input.
        segment: SegmentId,
    },
}

/// Finds out what is worth to be merged.
pub(super) fn plan<D: Disk>(
    checkpointer: &Checkpointer<D>,
    options: &SegmentOptions,
    unmergeable: &BTreeSet<SegmentId>,
) -> Option<Plan> {
    let mut tiers: BTreeMap<u32, Vec<(SegmentId, Usage)>> = BTreeMap::new();
    let mut wasteful: Option<(SegmentId, Usage)> = None;
    for (segment, usage) in checkpointer.usage() {
        if usage.live_bytes == 0 || unmergeable.contains(&segment) {
            continue;
        }
        if usage.data_bytes / usage.run_count.max(1) < options.merge_run_bytes
            || usage.data_bytes < options.own_file_bytes
        {
            tiers.entry(tier(usage.data_bytes)).or_default().push((segment, usage));
        }
        if usage.live_bytes < usage.data_bytes / 2 && wasteful.is_none() {
            wasteful = Some((segment, usage));
        }
    }
    let full = tiers.into_values().filter(|files| files.len() >= options.merge_files);
    let candidates = full.map(|files| (files, true)).chain(wasteful.map(|file| (vec![file], false)));
    candidates.into_iter().find_map(|(files, must_help)| {
        let inputs = choose(&files, options);
        let plan = lay_out(checkpointer, &inputs, options);
        let helps =
            plan.files.len() * 2 <= inputs.len() || plan.run_count() * 2 <= run_count(&files, &inputs);
        (helps || !must_help).then_some(plan)
    })
}

/// Files of similar size: the bounds of a tier differ by a factor of eight.
fn tier(bytes: u64) -> u32 {
    bytes.max(1).ilog2() / 3
}

/// The oldest files, within bounds.
fn choose(files: &[(SegmentId, Usage)], options: &SegmentOptions) -> BTreeSet<SegmentId> {
    let mut inputs = BTreeSet::new();
    let mut bytes = 0;
    for (segment, usage) in files.iter().take(INPUTS_MAX) {
        bytes += usage.live_bytes;
        if !inputs.is_empty() && bytes > INPUT_FILES_BYTES_MAX * options.file_bytes_max {
            break;
        }
        inputs.insert(*segment);
    }
    inputs
}

fn run_count(files: &[(SegmentId, Usage)], inputs: &BTreeSet<SegmentId>) -> usize {
    let runs = files.iter().filter(|(segment, _)| inputs.contains(segment)).map(|(_, usage)| usage.run_count);
    usize::try_from(runs.sum::<u64>()).unwrap_or(usize::MAX)
}

/// Puts what is used of the inputs into files: long runs into their own, the others together, sorted by partition.
fn lay_out<D: Disk>(
    checkpointer: &Checkpointer<D>,
    inputs: &BTreeSet<SegmentId>,
    options: &SegmentOptions,
) -> Plan {
    let mut files = VecDeque::new();
    let mut shared = FilePlan::default();
    let catalog = checkpointer.shared.catalog();
    for (partition, log) in catalog.partitions() {
        // Extents that follow each other become one run.
        let mut run: Option<(FilePlan, _)> = None;
        for extent in log.extents.iter().filter(|extent| inputs.contains(&extent.segment)) {
            let piece = Piece { partition, segment: extent.segment, range: extent.position..extent.end() };
            match &mut run {
                Some((run, end)) if *end == extent.base_offset => {
                    run.push(piece);
                    *end = extent.end_offset;
                }
                Some(_) | None => {
                    let mut next = FilePlan { run_count: 1, ..FilePlan::default() };
                    next.push(piece);
                    if let Some((ended, _)) = run.replace((next, extent.end_offset)) {
                        place(ended, &mut shared, &mut files, options);
                    }
                }
            }
        }
        if let Some((ended, _)) = run {
            place(ended, &mut shared, &mut files, options);
        }
    }
    if shared.run_count > 0 {
        files.push_back(shared);
    }
    Plan { inputs: inputs.clone(), files }
}

/// Gives a run its file.
fn place(run: FilePlan, shared: &mut FilePlan, files: &mut VecDeque<FilePlan>, options: &SegmentOptions) {
    if run.data_bytes >= options.own_file_bytes {
        files.push_back(run);
        return;
    }
    shared.run_count += run.run_count;
    shared.data_bytes += run.data_bytes;
    shared.pieces.extend(run.pieces);
    if shared.data_bytes >= options.file_bytes_max {
        files.push_back(std::mem::take(shared));
    }
}

impl Plan {
    fn run_count(&self) -> usize {
        self.files.iter().map(|file| file.run_count).sum()
    }
}

impl FilePlan {
    fn push(&mut self, piece: Piece) {
        self.data_bytes += piece.range.end - piece.range.start;
        self.pieces.push_back(piece);
    }
}

impl<D: Disk> Merge<D> {
    /// Opens the inputs.
    pub(super) fn begin(checkpointer: &Checkpointer<D>, plan: Plan) -> Result<Self, DiskError> {
        let open = |segment: SegmentId| {
            let identity = checkpointer.shared.identity(segment);
            let file = SegmentFile::open(&checkpointer.disk, &checkpointer.paths.segments, identity)?;
            Ok::<_, DiskError>((segment, file))
        };
        let inputs = plan.inputs.into_iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { inputs, files: plan.files, current: None, buffer: None, done: Vec::new() })
    }

    /// Copies some megabytes, or begins or ends a file.
    pub(super) fn step(
        &mut self,
        checkpointer: &mut Checkpointer<D>,
        options: &SegmentOptions,
        now: Timestamp,
    ) -> Result<MergeStep, DiskError> {
        let mut bytes = 0;
        while bytes < options.merge_step_bytes {
            if self.current.is_none() {
                let Some(file) = self.files.pop_front() else {
                    return Ok(MergeStep::Done { bytes });
                };
                self.begin_file(checkpointer, file, now)?;
            }
            let (file, _, writer) = self.current.as_mut().expect("a file was just begun");
            let Some(piece) = file.pieces.front_mut() else {
                let (_, _, writer) = self.current.take().expect("a file was just begun");
                let segment = writer.segment();
                let finished = writer.finish();
                if finished.is_err() {
                    checkpointer.give_up_segment(segment);
                }
                let (written, buffer) = finished?;
                self.buffer = Some(buffer);
                self.done.push(written);
                continue;
            };
            let input = self.inputs.get(&piece.segment).expect("pieces lie in inputs");
            let copied = match copy(input, piece, writer, options.merge_step_bytes - bytes) {
                Ok(copied) => copied,
                Err(CopyError::Damaged) => return Ok(MergeStep::Damaged { segment: piece.segment }),
                Err(CopyError::Disk(error)) => return Err(error),
            };
            bytes += copied;
            if piece.range.is_empty() {
                file.pieces.pop_front();
            }
        }
        Ok(MergeStep::More { bytes })
    }

    /// The segments whose batches were copied.
    pub(super) fn inputs(&self) -> BTreeSet<SegmentId> {
        self.inputs.keys().copied().collect()
    }

    /// The segments that take their place.
    pub(super) fn outputs(&self) -> Vec<WrittenSegment> {
        self.done.clone()
    }

    /// Takes away what was written.
    pub(super) fn give_up(self, checkpointer: &mut Checkpointer<D>) {
        if let Some((_, segment, _)) = self.current {
            checkpointer.give_up_segment(segment);
        }
        for written in self.done {
            checkpointer.give_up_segment(written.segment);
        }
    }

    fn begin_file(
        &mut self,
        checkpointer: &mut Checkpointer<D>,
        file: FilePlan,
        now: Timestamp,
    ) -> Result<(), DiskError> {
        let identity = checkpointer.begin_segment();
        let plan = SegmentPlan { run_count: file.run_count, data_bytes: file.data_bytes, created: now };
        let (disk, segments) = (&checkpointer.disk, &checkpointer.paths.segments);
        match SegmentWriter::create(disk, segments, identity, plan, self.buffer.take()) {
            Ok(writer) => {
                self.current = Some((file, identity.segment, writer));
                Ok(())
            }
            Err(error) => {
                checkpointer.give_up_segment(identity.segment);
                Err(error)
            }
        }
    }
}

enum CopyError {
    Damaged,
    Disk(DiskError),
}

/// Copies batches from the front of a piece until about `bytes_max` are copied.
fn copy<D: Disk>(
    input: &SegmentFile<D::File>,
    piece: &mut Piece,
    writer: &mut SegmentWriter<D>,
    bytes_max: u64,
) -> Result<u64, CopyError> {
    let mut walk = Walk::new(input, piece.range.clone());
    let mut copied = 0;
    while copied < bytes_max {
        let step = walk.step().map_err(|error| match error {
            SegmentError::Disk(error) => CopyError::Disk(error),
            SegmentError::Damaged { .. } | SegmentError::NewerFormat { .. } => CopyError::Damaged,
        })?;
        match step {
            Step::Batch { batch, .. } if batch.producer.header().partition == piece.partition => {
                writer.append(piece.partition, &batch).map_err(CopyError::Disk)?;
                copied += batch.length() as u64;
                piece.range.start += batch.length() as u64;
            }
            Step::Batch { .. } | Step::Damaged { .. } => return Err(CopyError::Damaged),
            Step::End => break,
        }
    }
    Ok(copied)
}
