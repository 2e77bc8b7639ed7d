//! Damage everywhere: every byte of a small data directory is flipped, the files end there, or a page is zero from there
//! on; every file is emptied or removed, every two are swapped, emptied or removed.
//!
//! Whatever is done, [`judge::Subject::judge`] accepts only what the promises allow. The ordinary run takes a sample;
//! `WEIR_DAMAGE=all` takes every byte, and `WEIR_SEED` draws another sample.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use weir_protocol::units::Offset;

use super::outside::Model;
use super::random::Random;
use super::sample::{append, partition, topic};
use super::*;
use crate::disk::SimDisk;

mod judge;

use judge::{Outcome, Strike};
pub(super) use judge::{Subject, list};

/// One of so many bytes is tried by the ordinary run.
const SAMPLE: u64 = 29;

/// How a byte, and what follows it, is damaged.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Damage {
    /// One bit is flipped.
    Flip,
    /// The file ends here.
    Cut,
    /// 4 KiB are zero.
    Zero,
}

/// What is done to whole files.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum FileDamage {
    Remove,
    Empty,
    /// Each has the other's name.
    Swap,
}

/// How the broker of a subject has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// In order.
    Closed,
    /// By a power cut, right after the last acknowledgement: nothing behind the last block proves it.
    Cut,
    /// By a power cut after it had been idle: the last block is proven by a mark.
    CutWhenIdle,
    /// By a power cut while it wrote: behind the last acknowledged block is a torn one.
    CutWhileWriting,
}

/// The smallest journal there is.
pub(super) fn smallest() -> OpenOptions {
    let journal = JournalOptions { file_bytes: 16 << 10, files: 2, files_max: 3, reserve_bytes: 4 << 10 };
    OpenOptions { journal, ..small() }
}

/// A directory with two segments, several state files, and acknowledged records that are in the journal only.
pub(super) fn subject(end: End) -> Subject {
    let disk = SimDisk::new();
    let mut opened = open(disk.clone(), data(), smallest(), at(0)).unwrap();
    let mut model = Model::default();
    let (a, b, c) = (partition(1, 0), partition(1, 1), partition(2, 0));
    let trim = Frame::Trim { partition: a, log_start: Offset::new(2) };
    let flushed = [
        vec![Frame::Topic(topic(1)), Frame::Topic(topic(2)), append(a, 0, 3), append(b, 0, 2)],
        vec![append(c, 0, 1), append(a, 3, 3)],
        vec![trim, append(b, 2, 2), append(c, 1, 1)],
    ];
    // The first and the second step are one segment, the third is another.
    for (step, frames) in flushed.into_iter().enumerate() {
        acknowledge(&mut opened, &mut model, frames);
        if step > 0 {
            let flushed = opened.flusher.flush(at(1)).unwrap();
            opened.journal.release(flushed.release);
        }
    }
    let unflushed = opened.journal.end();
    let mut earlier = Vec::new();
    match end {
        End::Closed => opened.flusher.close(at(2)).unwrap(),
        End::Cut | End::CutWhenIdle | End::CutWhileWriting => {
            let steps = [
                vec![append(a, 6, 3), append(b, 4, 2)],
                vec![append(a, 9, 3)],
                vec![append(a, 12, 3), append(c, 2, 1)],
            ];
            for frames in steps {
                earlier.push(model.clone());
                acknowledge(&mut opened, &mut model, frames);
            }
        }
    }
    if end == End::CutWhenIdle {
        opened.journal.mark_idle().unwrap();
    }
    if end == End::CutWhileWriting {
        opened.journal.write(&mut [append(a, 15, 30), append(b, 6, 40)]).unwrap();
    }
    let blocks = judge::blocks(&disk, unflushed);
    if end == End::CutWhileWriting {
        // Of what was being written, the header survives and not all of the frames.
        let torn = |seed: &u64| {
            let disk = disk.copy();
            disk.crash(*seed);
            let opened = open(disk, data(), smallest(), at(3)).unwrap();
            opened.report.verdict == RecoveryVerdict::TornTail
        };
        let seed = (0..100).find(torn).expect("some crash tears the block");
        disk.crash(seed);
    } else {
        disk.crash(3);
    }
    Subject::new(disk, model, earlier, blocks)
}

fn acknowledge(opened: &mut Opened<SimDisk>, model: &mut Model, frames: Vec<Frame>) {
    frames.iter().for_each(|frame| model.apply(frame));
    commit(opened, frames);
}

/// How often which damage to which sort of file came to which end.
type Tally = BTreeMap<(String, String, Outcome), u64>;

/// Tries every byte, or a sample of all.
fn damage_bytes(end: End) -> Tally {
    let all = std::env::var("WEIR_DAMAGE").is_ok_and(|what| what == "all");
    let seed = std::env::var("WEIR_SEED").ok().map_or(0, |seed| seed.parse().unwrap());
    let mut random = Random::new(seed);
    let subject = subject(end);
    let mut tally = Tally::new();
    for (path, length) in subject.files() {
        for damage in [Damage::Flip, Damage::Cut, Damage::Zero] {
            let mut position = if all { 0 } else { random.below(SAMPLE) };
            while position < length {
                let disk = subject.disk.copy();
                let mask = 1u8 << random.below(8);
                let range = damage.strike(&disk, &path, position..length, mask);
                let what = format!("{end:?}, seed {seed}: {damage:?} {} at {position}", path.display());
                let places = vec![(path.clone(), range)];
                let strike = Strike { places, is_flip: damage == Damage::Flip, what };
                let outcome = subject.judge(&disk, &strike);
                *tally.entry((sort(&path), format!("{damage:?}"), outcome)).or_default() += 1;
                position += if all { 1 } else { 1 + random.below(2 * SAMPLE) };
            }
        }
    }
    tally
}

impl Damage {
    /// Returns the bytes that may have changed.
    fn strike(self, disk: &SimDisk, path: &Path, rest: Range<u64>, mask: u8) -> Range<u64> {
        let Range { start, end } = rest;
        match self {
            Self::Flip => {
                disk.flip(path, start, mask);
                start..start + 1
            }
            Self::Cut => {
                disk.cut(path, start);
                rest
            }
            Self::Zero => {
                let range = start..end.min(start + 4096);
                disk.zero(path, range.clone());
                range
            }
        }
    }
}

/// Tries every file and every two files.
fn damage_files(end: End) -> Tally {
    let subject = subject(end);
    let files = subject.files();
    let mut tally = Tally::new();
    for damage in [FileDamage::Remove, FileDamage::Empty, FileDamage::Swap] {
        for (index, (first, first_length)) in files.iter().enumerate() {
            for (second, second_length) in files.iter().skip(index) {
                if damage == FileDamage::Swap && first == second {
                    continue;
                }
                let disk = subject.disk.copy();
                damage.strike(&disk, first, second);
                let what = format!("{end:?}: {damage:?} {} and {}", first.display(), second.display());
                let places = vec![(first.clone(), 0..*first_length), (second.clone(), 0..*second_length)];
                let outcome = subject.judge(&disk, &Strike { places, is_flip: false, what });
                let sorts = format!("{} and {}", sort(first), sort(second));
                *tally.entry((sorts, format!("{damage:?}"), outcome)).or_default() += 1;
            }
        }
    }
    tally
}

impl FileDamage {
    fn strike(self, disk: &SimDisk, first: &Path, second: &Path) {
        match self {
            Self::Remove => {
                for path in if first == second { vec![first] } else { vec![first, second] } {
                    disk.remove(path).unwrap();
                }
            }
            Self::Empty => [first, second].into_iter().for_each(|path| disk.cut(path, 0)),
            Self::Swap => {
                let aside = PathBuf::from("/aside");
                disk.rename(first, &aside).unwrap();
                disk.rename(second, first).unwrap();
                disk.rename(&aside, second).unwrap();
            }
        }
    }
}

/// What a file is for.
fn sort(path: &Path) -> String {
    let name = path.file_name().unwrap().to_str().unwrap();
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    if extension.is_empty() { stem.trim_end_matches(char::is_numeric) } else { extension }.to_owned()
}

/// Prints a tally, and checks what must be in it besides what each single outcome was checked for.
fn report(tally: &Tally) {
    let mut text = String::new();
    for ((sort, damage, outcome), count) in tally {
        text += &format!("{sort:>24} {damage:8} {count:8} {outcome:?}\n");
    }
    // Shown by `--nocapture`.
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()).unwrap();
    for (sort, damage, outcome) in tally.keys() {
        let one_is_enough = sort == "idx" || sort == "manifest-";
        assert!(!one_is_enough || *outcome == Outcome::Served, "{damage} of one {sort} came to {outcome:?}");
    }
}

macro_rules! each_end {
    ($($name:ident: $end:expr,)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn no_damaged_byte_loses_anything_in_silence() {
                let tally = damage_bytes($end);
                report(&tally);
                let has = |wanted| tally.keys().any(|(_, _, outcome)| *outcome == wanted);
                assert!(has(Outcome::Served) && has(Outcome::StartRefused) && has(Outcome::ReadsRefused));
                assert!($end != End::Cut || has(Outcome::SetAside), "nothing proves the last block");
            }

            #[test]
            fn no_damaged_file_loses_anything_in_silence() {
                report(&damage_files($end));
            }
        }
    )*};
}

each_end! {
    closed: End::Closed,
    cut: End::Cut,
    cut_when_idle: End::CutWhenIdle,
    cut_while_writing: End::CutWhileWriting,
}
