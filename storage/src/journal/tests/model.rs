//! Random lives of a journal against the simplest model: a list of frames, of which some are acknowledged.

use proptest::prelude::*;

use super::*;
use crate::disk::sim::{Fault, Operation};

#[derive(Clone, Debug)]
enum Step {
    /// Writes and syncs appends with values of these lengths.
    Commit(Vec<usize>),
    /// Writes without a sync.
    Write(Vec<usize>),
    Control,
    Sync,
    Prepare,
    Mark,
    /// The flusher has caught up to the given share, of 256, of what is acknowledged.
    Release(u8),
    /// The machine halts after some changes; the crash comes with the next step that notices.
    HaltAfter(u64),
    Crash(u64),
    /// A crash, and another one after some changes of the start that follows.
    CrashTwice(u64, u64),
    Kill,
    FailSync,
    FailWrite(usize),
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    let length = prop_oneof![4 => 0..300usize, 2 => 0..6000usize, 1 => 0..50_000usize];
    proptest::collection::vec(length, 1..6)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => lengths().prop_map(Step::Commit),
        4 => lengths().prop_map(Step::Write),
        2 => Just(Step::Control),
        2 => Just(Step::Sync),
        3 => Just(Step::Prepare),
        3 => Just(Step::Mark),
        5 => any::<u8>().prop_map(Step::Release),
        2 => (0..12u64).prop_map(Step::HaltAfter),
        3 => any::<u64>().prop_map(Step::Crash),
        1 => (any::<u64>(), 0..12u64).prop_map(|(seed, changes)| Step::CrashTwice(seed, changes)),
        1 => Just(Step::Kill),
        1 => Just(Step::FailSync),
        1 => (0..9000usize).prop_map(Step::FailWrite),
    ]
}

/// What should be true of the journal.
struct Model {
    disk: SimDisk,
    journal: Journal<SimDisk>,
    incarnation: u64,
    /// Frames are durable elsewhere up to here, and the checkpoint says so.
    applied: JournalPosition,
    /// Frames that were handed to the journal and may be in it, behind `applied`, with the ends of their writes.
    attempted: Vec<(Frame, JournalPosition)>,
    /// How many of them are acknowledged.
    acknowledged: usize,
    next_offset: u64,
    crashes: u64,
}

impl Model {
    fn new() -> Self {
        let disk = disk();
        let journal = Journal::create(disk.clone(), &directory(), identity(1), tiny()).unwrap();
        Self {
            disk,
            journal,
            incarnation: 1,
            applied: JournalPosition::ZERO,
            attempted: Vec::new(),
            acknowledged: 0,
            next_offset: 0,
            crashes: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        let result = match step {
            Step::Commit(lengths) => self.write(lengths, true),
            Step::Write(lengths) => self.write(lengths, false),
            Step::Control => self.write_frames(vec![trim(1, self.next_offset)], true),
            Step::Sync => self.journal.sync().map(|_| self.acknowledge()),
            Step::Prepare => self.journal.prepare_spare().map(drop),
            Step::Mark => self.journal.mark_idle().map(|()| self.acknowledge()),
            Step::Release(share) => {
                self.release(*share);
                Ok(())
            }
            Step::HaltAfter(changes) => {
                self.disk.halt_after(*changes);
                Ok(())
            }
            Step::Crash(seed) => {
                self.disk.crash(*seed);
                return self.restart(None);
            }
            Step::CrashTwice(seed, changes) => {
                self.disk.crash(*seed);
                return self.restart(Some((*seed, *changes)));
            }
            Step::Kill => {
                self.disk.kill();
                return self.restart(None);
            }
            Step::FailSync => {
                self.disk.plan(Fault::next(Operation::Sync));
                Ok(())
            }
            Step::FailWrite(written_before) => {
                self.disk.plan(Fault { written_before: *written_before, ..Fault::next(Operation::Write) });
                Ok(())
            }
        };
        match result {
            Ok(()) | Err(JournalError::Full) => {}
            Err(JournalError::TooLarge { .. } | JournalError::Exists { .. } | JournalError::Poisoned) => {
                panic!("{step:?}: {result:?}")
            }
            Err(JournalError::Disk(_)) => {
                // The broker stops; sometimes the machine goes down with it.
                assert!(matches!(self.journal.sync(), Err(JournalError::Poisoned)));
                self.crashes += 1;
                if self.crashes.is_multiple_of(3) {
                    self.disk.kill()
                } else {
                    self.disk.crash(self.crashes)
                }
                self.restart(None);
            }
        }
    }

    fn write(&mut self, lengths: &[usize], sync: bool) -> Result<(), JournalError> {
        let frames = appends(self.next_offset, lengths);
        self.next_offset += lengths.len() as u64;
        self.write_frames(frames, sync)
    }

    fn write_frames(&mut self, mut frames: Vec<Frame>, sync: bool) -> Result<(), JournalError> {
        let attempted = self.attempted.len();
        let written = self.journal.write(&mut frames);
        // A write that fails midway may leave any of its frames.
        let count = match &written {
            Ok(committed) => committed.written,
            Err(JournalError::Full) => 0,
            Err(_) => frames.len(),
        };
        let end = self.journal.end();
        self.attempted.extend(frames.into_iter().take(count).map(|frame| (frame, end)));
        written?;
        if sync {
            self.journal.sync()?;
            self.acknowledge();
            assert!(self.acknowledged == attempted + count);
        }
        Ok(())
    }

    fn acknowledge(&mut self) {
        assert_eq!(self.journal.durable_end(), self.journal.end());
        self.acknowledged = self.attempted.len();
    }

    fn release(&mut self, share: u8) {
        let count = self.acknowledged * usize::from(share) / 255;
        let Some((_, mut end)) = count.checked_sub(1).map(|last| self.attempted[last].clone()) else {
            return;
        };
        // Only whole writes: the next frame must lie behind.
        let count = self.attempted.iter().take_while(|(_, of)| *of <= end).count().min(self.acknowledged);
        if count == self.acknowledged && share == u8::MAX {
            end = self.journal.durable_end();
        }
        self.attempted.drain(..count);
        self.acknowledged -= count;
        self.applied = end;
        self.journal.release(end);
    }

    /// A new start: the replay must give all that is acknowledged, in order, and nothing that was not attempted. It
    /// may die, by a seed, after some changes.
    fn restart(&mut self, dying: Option<(u64, u64)>) {
        let from = from(self.incarnation, self.applied);
        let mut replay = replay(&self.disk, from).expect("without rot nothing is ever refused");
        let replayed = frames(&mut replay);
        assert!(replayed.len() >= self.acknowledged, "{} of {}", replayed.len(), self.acknowledged);
        assert!(replayed.len() <= self.attempted.len());
        assert!(replayed.iter().zip(&self.attempted).all(|(read, (written, _))| read == written));
        if let Some((_, changes)) = dying {
            self.disk.halt_after(changes);
        }
        if replay.set_aside(&quarantine()).is_err() {
            let (seed, _) = dying.expect("only a dying start fails");
            self.disk.crash(seed.wrapping_add(1));
            return self.restart(None);
        }
        self.applied = replay.restart();
        self.incarnation += 1;
        self.attempted.clear();
        self.acknowledged = 0;
        match Journal::resume(replay, Incarnation::new(self.incarnation), tiny()) {
            Ok(journal) => self.journal = journal,
            Err(error) => {
                let (seed, _) = dying.unwrap_or_else(|| panic!("only a dying start fails: {error}"));
                self.disk.crash(seed.wrapping_add(2));
                self.restart(None);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn what_is_acknowledged_survives_and_nothing_else_appears(
        steps in proptest::collection::vec(step(), 1..80),
        last in any::<u64>(),
    ) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
        }
        model.disk.crash(last);
        model.restart(None);
    }

    /// Wherever a bit rots below what is proven, a replay refuses or gives the same frames; it never gives fewer.
    #[test]
    fn rot_is_never_taken_for_a_torn_tail(
        commits in proptest::collection::vec(lengths(), 1..12),
        place in any::<u64>(),
        bit in 0..8u32,
        crash in any::<u64>(),
    ) {
        let disk = disk();
        let mut journal = journal(&disk);
        let mut all = Vec::new();
        let mut offset = 0;
        for lengths in &commits {
            let mut data = appends(offset, lengths);
            let Ok(committed) = journal.commit(&mut data) else { break };
            data.truncate(committed.written);
            offset += data.len() as u64;
            all.append(&mut data);
        }
        let proven = journal.end();
        journal.mark_idle().unwrap();
        disk.crash(crash);

        let position = place % proven.get();
        let capacity = (64 << 10) - 4096;
        let number = u32::try_from(position / capacity).unwrap();
        let byte = 4096 + position % capacity;
        disk.flip(&ring_file(number), byte, 1 << bit);
        match replay(&disk, from(1, JournalPosition::ZERO)) {
            Ok(mut replay) => prop_assert!(frames(&mut replay) == all, "byte {} of file {}", byte, number),
            Err(ReplayError::Corrupt(damage)) => {
                prop_assert!(damage.positions.contains(&JournalPosition::new(position)), "{}", damage);
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

/// A power cut after each single change of a fixed life, with several outcomes of each.
#[test]
fn a_power_cut_may_come_after_any_change() {
    for halt in 0..400 {
        let mut finished = false;
        for seed in 0..4 {
            let mut model = Model::new();
            model.disk.halt_after(halt);
            for round in 0..30u64 {
                let length = usize::try_from(round * 977 % 9000).unwrap();
                model.step(&Step::Commit(vec![length, 100]));
                model.step(&Step::Prepare);
                if round % 4 == 3 {
                    model.step(&Step::Release(200));
                    model.step(&Step::Mark);
                }
            }
            finished = model.disk.changes() < halt;
            model.disk.crash(seed);
            model.restart(None);
        }
        if finished {
            return;
        }
    }
    panic!("the life takes fewer changes");
}
