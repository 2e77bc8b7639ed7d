//! A mutation fuzzer that needs nothing but stable Rust: it changes known inputs, and keeps those that reach something new.
//!
//! What an input reaches is told by the target itself, as a number made of the outcomes it saw. That is coarser than the
//! edges of a program, and needs no instrumented build. Inputs that once broke something, or are worth keeping, lie in
//! `tests/fuzz/corpus`; every test run replays all of them, and then tries a few thousand new ones.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::Random;

/// Longest input. What breaks on more breaks on less.
const INPUT_BYTES_MAX: usize = 16 << 10;

/// Inputs that are kept in memory as something to start from.
const POOL_MAX: usize = 4096;

/// Longest input that is kept in the corpus only for what it reaches.
const KEPT_BYTES_MAX: usize = 256;

/// Inputs that one run keeps in the corpus for what they reach.
const KEPT_MAX: usize = 24;

/// An input is done with by then, on the slowest machine.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// Changes of one input at most.
const CHANGES_MAX: u64 = 6;

/// Tries of making an input that breaks something shorter.
const SHORTENINGS_MAX: usize = 2000;

/// Something that takes any bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its test and of the directory of its corpus.
    pub name: &'static str,
    /// How its test is run by `cargo test`.
    pub command: &'static str,
    /// Inputs to start from, beside the corpus.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Panics if something is wrong. Else tells what the input has reached, as any number.
    pub check: fn(&[u8]) -> u64,
    /// New inputs in an ordinary run.
    pub rounds: u64,
}

/// Replays the corpus of a target and tries new inputs: as many as an ordinary run does, or for `WEIR_FUZZ_SECONDS`. The
/// seed is `WEIR_SEED`. With `WEIR_FUZZ_KEEP` the latest of what reached something new is written to the corpus: it took most
/// to get there. Tells what was done.
///
/// # Panics
/// At the first input that breaks something, which is made shorter and kept in the corpus.
pub fn run(target: &Target) -> String {
    let corpus = read_corpus(target.name);
    let mut pool = Pool::default();
    for (path, input) in &corpus {
        let what = attempt(target, input);
        let what = what.unwrap_or_else(|| panic!("{} breaks it\nagain: {}", path.display(), target.command));
        pool.reached(what, input);
    }
    let seeds = (target.seeds)();
    let mut random = Random::new(number("WEIR_SEED").unwrap_or(1));
    let until = number("WEIR_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let keep = env::var_os("WEIR_FUZZ_KEEP").is_some();
    let mut rounds = 0;
    let mut seeds = seeds.into_iter();
    while !seeds.as_slice().is_empty() || until.map_or(rounds < target.rounds, |until| Instant::now() < until)
    {
        rounds += 1;
        let input = seeds.next().unwrap_or_else(|| pool.next(&mut random));
        match attempt(target, &input) {
            Some(what) => pool.reached(what, &input),
            None => fail(target, input),
        }
    }
    if keep {
        let short = pool.inputs.iter().rev().filter(|input| input.len() <= KEPT_BYTES_MAX);
        short.take(KEPT_MAX).for_each(|input| drop(write(target.name, "reached", input)));
    }
    format!(
        "{}: {} inputs of the corpus replayed, {rounds} new ones tried, {} different outcomes",
        target.name,
        corpus.len(),
        pool.seen.len()
    )
}

fn fail(target: &Target, input: Vec<u8>) -> ! {
    let shortest = shorten(target, input);
    let path = write(target.name, "found", &shortest);
    panic!(
        "an input of {} bytes breaks it, kept as {}\nagain: {}",
        shortest.len(),
        path.display(),
        target.command
    );
}

/// Runs the target; `None` if it panics. An input that takes too long is kept and ends the process: nothing else would.
fn attempt(target: &Target, input: &[u8]) -> Option<u64> {
    let (done, ended) = mpsc::channel::<()>();
    let (name, kept) = (target.name, input.to_owned());
    let watch = move || {
        if ended.recv_timeout(ENDS_WITHIN) == Err(mpsc::RecvTimeoutError::Timeout) {
            let path = write(name, "endless", &kept);
            std::io::stderr().write_fmt(format_args!("{} does not end\n", path.display())).ok();
            std::process::exit(1);
        }
    };
    let watch = std::thread::spawn(watch);
    let reached = catch_unwind(AssertUnwindSafe(|| (target.check)(input))).ok();
    drop(done);
    watch.join().expect("watching does not panic");
    reached
}

/// Leaves out what is not needed to break it.
fn shorten(target: &Target, mut input: Vec<u8>) -> Vec<u8> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let (mut piece, mut tries) = (input.len() / 2, 0);
    while piece > 0 && tries < SHORTENINGS_MAX {
        let mut at = 0;
        while at < input.len() && tries < SHORTENINGS_MAX {
            tries += 1;
            let mut shorter = input.clone();
            shorter.drain(at..(at + piece).min(input.len()));
            if attempt(target, &shorter).is_none() {
                input = shorter;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    std::panic::set_hook(hook);
    input
}

/// What there is to start from.
#[derive(Debug, Default)]
struct Pool {
    inputs: Vec<Vec<u8>>,
    seen: BTreeSet<u64>,
}

impl Pool {
    /// Takes an input up if it has reached something new.
    fn reached(&mut self, what: u64, input: &[u8]) {
        if self.seen.insert(what) && self.inputs.len() < POOL_MAX {
            self.inputs.push(input.to_owned());
        }
    }

    /// A changed input; the latest finds are taken more often.
    fn next(&self, random: &mut Random) -> Vec<u8> {
        let any = |random: &mut Random| {
            let count = self.inputs.len() as u64;
            let from = if random.below(2) == 0 { count - count.div_ceil(4) } else { 0 };
            let chosen = usize::try_from(from + random.below(count - from)).unwrap_or(0);
            self.inputs.get(chosen).cloned().unwrap_or_default()
        };
        if self.inputs.is_empty() {
            return Vec::new();
        }
        let mut input = any(random);
        for _ in 0..=random.below(CHANGES_MAX) {
            let other = any(random);
            change(&mut input, &other, random);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }
}

/// Numbers at which things go wrong.
const EDGES: [u64; 12] =
    [0, 1, 2, 7, 8, 0x7f, 0xff, 0xffff, 1 << 20, 0x7fff_ffff, 0xffff_ffff, u64::MAX / 2 + 1];

/// One change of an input.
fn change(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = place(random, input.len());
    let end = at + place(random, input.len() - at).min(64);
    match random.below(9) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            if let Some(changed) = input.get_mut(at) {
                *changed = byte(random);
            }
        }
        2 => drop(input.drain(at..end)),
        3 => {
            let copied = input.get(at..end).unwrap_or_default().to_vec();
            let to = place(random, input.len());
            input.splice(to..to, copied);
        }
        4 => {
            let width = 1 << random.below(4);
            let edge = EDGES.get(place(random, EDGES.len() - 1)).copied().unwrap_or_default();
            let edge = edge.wrapping_add(random.below(3)).wrapping_sub(1);
            for (byte, new) in input.iter_mut().skip(at).take(width).zip(edge.to_le_bytes()) {
                *byte = new;
            }
        }
        5 => {
            let start = place(random, other.len());
            let stop = start + place(random, other.len() - start).min(256);
            input.splice(at..at, other.get(start..stop).unwrap_or_default().iter().copied());
        }
        6 => {
            input.truncate(at);
            input.extend(other.iter().skip(place(random, other.len())));
        }
        7 => {
            let new: Vec<u8> = (0..=random.below(8)).map(|_| byte(random)).collect();
            input.splice(at..at, new);
        }
        _ => input.truncate(at),
    }
}

/// A place in `0..=length`.
fn place(random: &mut Random, length: usize) -> usize {
    usize::try_from(random.below(length as u64 + 1)).unwrap_or(0)
}

fn byte(random: &mut Random) -> u8 {
    random.below(256).to_le_bytes()[0]
}

/// The bytes of an input, as a target takes decisions from them; zeros behind the end.
#[derive(Clone, Debug)]
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// From the start of an input.
    pub const fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    /// Whether nothing is left.
    pub const fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub const fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number in `0..bound` from one byte, or 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()).checked_rem(bound).unwrap_or(0)
    }

    /// A number from two bytes.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// A number from one to nine bytes, edges among them.
    pub fn long(&mut self) -> u64 {
        let kind = self.byte();
        if kind < 200 {
            return u64::from(kind);
        }
        EDGES.get(usize::from(kind) - 200).copied().unwrap_or_else(|| {
            let bytes: [u8; 8] = std::array::from_fn(|_| self.byte());
            u64::from_le_bytes(bytes)
        })
    }

    /// So many bytes, or all that are left.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All that is left.
    pub const fn rest(&self) -> &'a [u8] {
        self.0
    }
}

/// A number for what a target saw.
pub fn outcome(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect("it must be a number"))
}

fn directory(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name)
}

fn read_corpus(name: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let Ok(entries) = fs::read_dir(directory(name)) else { return BTreeMap::new() };
    let paths = entries.map(|entry| entry.expect("the corpus is readable").path());
    paths
        .map(|path| (path.clone(), from_hex(&fs::read_to_string(path).expect("the corpus is text"))))
        .collect()
}

fn write(name: &str, why: &str, input: &[u8]) -> PathBuf {
    let path = directory(name).join(format!("{why}-{:016x}.hex", outcome(input)));
    fs::create_dir_all(directory(name)).expect("the corpus can be written");
    let mut text = String::new();
    for line in input.chunks(32) {
        line.iter().for_each(|byte| write!(text, "{byte:02x}").expect("writing to a string cannot fail"));
        text.push('\n');
    }
    fs::write(&path, text).expect("the corpus can be written");
    path
}

/// The bytes that hex digits stand for; lines that begin with `#`, and space, are passed over.
///
/// # Panics
/// If there is something else.
pub fn from_hex(text: &str) -> Vec<u8> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let digits: Vec<char> = lines.flat_map(str::chars).filter(|digit| !digit.is_whitespace()).collect();
    let digit = |digit: &char| digit.to_digit(16).expect("a hex digit");
    let bytes = digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, half| byte << 4 | digit(half)));
    bytes.map(|byte| u8::try_from(byte).expect("two digits")).collect()
}
