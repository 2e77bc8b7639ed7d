//! Runs worlds, one for each seed, and says how to see again what went wrong.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::coverage::Coverage;
use crate::extent::{Extent, number};
use crate::shorten::shorten;
use crate::workload::{ALL, Workload};
use crate::world::{Report, World};

/// Worlds of a run, unless `WEIR_SEEDS` says otherwise; the workloads share them.
const SEEDS: u64 = if cfg!(debug_assertions) { 28 } else { 1000 };

/// Worlds that showed a defect which is mended now, with its name: they run always.
const REMEMBERED: [(&str, &str, u64); 4] = [
    ("a refusal went out ahead of answers that waited for the disk", "retention", 1),
    ("a read error that went away made records count as damaged", "steady", 13),
    ("the same, with many partitions", "crowd", 35),
    ("a reader's window had no room for the longest frame", "wide", 3),
];

/// A run of so many worlds must meet every rare situation.
const SEEDS_FOR_COVERAGE: u64 = 1000;

thread_local! {
    static IN_WORLD: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What the workloads of this process have met, and how many are done.
static MET: Mutex<Option<(Coverage, usize)>> = Mutex::new(None);

/// Runs a workload with its share of the seeds, or with the one of `WEIR_SEED`.
pub(crate) fn run(workload: &Workload) {
    let extent = Extent::from_environment();
    if let Some(seed) = number("WEIR_SEED") {
        let report = world(seed, workload, &extent);
        println!("{} seed {seed}: {} events, trace {:016x}", workload.name, report.events, report.trace);
        println!("faults: {:?}\nmet:{}", report.classes, report.coverage);
        return judge(seed, workload, &report, extent);
    }
    let seeds = number("WEIR_SEEDS").unwrap_or(SEEDS);
    let share = seeds.div_ceil(ALL.len() as u64);
    let (began, mut events, mut coverage) = (processor_time(), 0, Coverage::default());
    let remembered = REMEMBERED.iter().filter(|(_, name, seed)| *name == workload.name && *seed > share);
    for seed in (1..=share).chain(remembered.map(|(_, _, seed)| *seed)) {
        let report = world(seed, workload, &extent);
        events += report.events;
        coverage.add(&report.coverage);
        judge(seed, workload, &report, extent.clone());
    }
    println!("{}: {share} seeds, {}", workload.name, rate(events, processor_time() - began));
    println!("{} met:{coverage}", workload.name);
    cover(&coverage, seeds);
}

/// Worlds without end, of all workloads in turn, on all cores: from seed `WEIR_FROM` on, or from one nobody has run.
pub(crate) fn run_on() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let first = number("WEIR_FROM").unwrap_or(now.as_secs());
    println!("seeds from {first} on");
    let (next, extent) = (AtomicU64::new(0), Extent::from_environment());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work = || {
        let (mut began, mut events) = (processor_time(), 0);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let count = ALL.len() as u64;
            let (seed, workload) =
                (first + number / count, &ALL[usize::try_from(number % count).unwrap_or(0)]);
            let report = world(seed, workload, &extent);
            events += report.events;
            if report.failure.is_some() {
                // The first failure ends the others at once.
                next.store(u64::MAX / 2, Ordering::Relaxed);
                judge(seed, workload, &report, extent.clone());
            }
            if number > u64::MAX / 4 {
                return;
            }
            if number % 1000 == 999 {
                println!("seed {seed}: {} worlds; {}", number + 1, rate(events, processor_time() - began));
                (began, events) = (processor_time(), 0);
            }
        }
    };
    std::thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
}

/// What this thread has spent of its core: other work of the machine does not count.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn rate(events: u64, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    format!("{events} events in {seconds:.1} s of a core, {:.0} a second", events as f64 / seconds)
}

/// After the last workload: was every rare situation met?
fn cover(coverage: &Coverage, seeds: u64) {
    let mut met = MET.lock().unwrap_or_else(PoisonError::into_inner);
    let (all, done) = met.get_or_insert_default();
    all.add(coverage);
    *done += 1;
    if *done == ALL.len() && seeds >= SEEDS_FOR_COVERAGE {
        let missed = all.missed();
        assert!(missed.is_empty(), "no world of {seeds} met {missed:?}");
    }
}

/// Runs a world. A panic is a finding like any other.
pub(crate) fn world(seed: u64, workload: &Workload, extent: &Extent) -> Report {
    catch_panics();
    let mut world = World::new(seed, workload, extent);
    IN_WORLD.set(true);
    let lived = catch_unwind(AssertUnwindSafe(|| world.live()));
    IN_WORLD.set(false);
    world.report(lived.map_err(|_panic| PANIC.take()))
}

/// Panics inside of a world are kept; all others are shown as usual.
fn catch_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let show = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if IN_WORLD.get() {
                PANIC.set(info.to_string());
            } else {
                show(info);
            }
        }));
    });
}

/// Fails with everything there is to know, if the world did.
fn judge(seed: u64, workload: &Workload, report: &Report, extent: Extent) {
    let Some((invariant, finding, step)) = &report.failure else { return };
    let name = workload.name;
    println!("\n{name} seed {seed}, event {step}: broken: {invariant}\n  {finding}");
    if std::env::var_os("WEIR_AS_FOUND").is_none() {
        match shorten(extent, report, |extent| world(seed, workload, extent)) {
            Some(extent) => show(seed, workload, &extent),
            None => println!("it does not come again: the world depends on something outside of it"),
        }
    }
    panic!("{name} seed {seed}: {invariant}: {finding}");
}

/// Shows a failure at its shortest, and how to see it again.
fn show(seed: u64, workload: &Workload, extent: &Extent) {
    let name = workload.name;
    let report = world(seed, workload, &Extent { traced: true, ..extent.clone() });
    if let Some((invariant, finding, step)) = &report.failure {
        println!("shortest: event {step}, with {:?} alone: {invariant}\n  {finding}", report.classes);
    }
    let history = harness::check::to_lines(&report.history);
    for (what, text) in [("trace", report.steps.concat()), ("history", history)] {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{seed}.{what}"));
        if std::fs::write(&path, text).is_ok() {
            println!("{what}: {}", path.display());
        }
    }
    let command = "cargo test --release -p tests --no-default-features --test sim";
    println!("again: WEIR_SEED={seed} {extent} {command} -- --exact {name} --nocapture");
}
