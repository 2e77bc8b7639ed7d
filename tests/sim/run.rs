//! Runs worlds, one for each seed, and says how to see again what went wrong.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Instant;

use crate::coverage::Coverage;
use crate::faults::Class;
use crate::workload::{self, Workload};
use crate::world::{Report, World};

/// Seeds of each workload, unless `WEIR_SEEDS` says otherwise.
const SEEDS: u64 = if cfg!(debug_assertions) { 20 } else { 100 };

/// Worlds that once showed a defect, or are among the few that show a planted one: they run always.
const REMEMBERED: [(&str, u64); 4] = [("retention", 4), ("written", 24), ("crowd", 23), ("crowd", 29)];

/// A run of so many seeds of each workload must meet every rare situation.
const SEEDS_FOR_COVERAGE: u64 = 60;

thread_local! {
    static IN_WORLD: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What the workloads of this process have met, and how many are done.
static MET: Mutex<Option<(Coverage, usize)>> = Mutex::new(None);

/// Runs a workload with many seeds, or with the one of `WEIR_SEED`.
pub(crate) fn run(workload: &Workload) {
    let without = without();
    if let Some(seed) = number("WEIR_SEED") {
        let report = world(seed, workload, &without);
        println!("{} seed {seed}: {} events, trace {:016x}", workload.name, report.events, report.trace);
        println!("faults: {:?}\nmet:{}", report.classes, report.coverage);
        return judge(seed, workload, &report, without);
    }
    let seeds = number("WEIR_SEEDS").unwrap_or(SEEDS);
    let (began, mut events, mut coverage) = (Instant::now(), 0, Coverage::default());
    let remembered = REMEMBERED.iter().filter(|(name, seed)| *name == workload.name && *seed > seeds);
    for seed in (1..=seeds).chain(remembered.map(|(_, seed)| *seed)) {
        let report = world(seed, workload, &without);
        events += report.events;
        coverage.add(&report.coverage);
        judge(seed, workload, &report, without.clone());
    }
    let took = began.elapsed().as_secs_f64();
    let rate = events as f64 / took;
    println!("{}: {seeds} seeds, {events} events in {took:.1} s, {rate:.0} a second", workload.name);
    println!("{} met:{coverage}", workload.name);
    cover(&coverage, seeds);
}

/// After the last workload: was every rare situation met?
fn cover(coverage: &Coverage, seeds: u64) {
    let mut met = MET.lock().unwrap_or_else(PoisonError::into_inner);
    let (all, done) = met.get_or_insert_default();
    all.add(coverage);
    *done += 1;
    if *done == workload::ALL.len() && seeds >= SEEDS_FOR_COVERAGE {
        let missed = all.missed();
        assert!(missed.is_empty(), "no world of {seeds} seeds of each workload met {missed:?}");
    }
}

/// A panic is a finding like any other.
pub(crate) fn world(seed: u64, workload: &Workload, without: &[Class]) -> Report {
    catch_panics();
    IN_WORLD.set(true);
    let ran = catch_unwind(AssertUnwindSafe(|| World::run(seed, workload, without)));
    IN_WORLD.set(false);
    ran.unwrap_or_else(|_| Report {
        events: 0,
        trace: 0,
        coverage: Coverage::default(),
        classes: Class::ALL.into_iter().filter(|class| !without.contains(class)).collect(),
        failure: Some(("nothing panics".to_owned(), PANIC.take(), 0)),
        history: Vec::new(),
    })
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
fn judge(seed: u64, workload: &Workload, report: &Report, without: Vec<Class>) {
    let Some((invariant, finding, step)) = &report.failure else { return };
    let name = workload.name;
    println!("\n{name} seed {seed}, event {step}: broken: {invariant}\n  {finding}");
    let (without, shortest) = shrink(seed, workload, without, &report.classes);
    let last = shortest.as_ref().unwrap_or(report);
    if let Some((invariant, finding, step)) = &last.failure {
        println!("with {:?} alone, event {step}: {invariant}\n  {finding}", last.classes);
    }
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{seed}.jsonl"));
    if std::fs::write(&path, harness::check::to_lines(&last.history)).is_ok() {
        println!("history: {}", path.display());
    }
    let names: Vec<String> = without.iter().map(|class| format!("{class:?}")).collect();
    let command = "cargo test --release -p tests --no-default-features --test sim";
    println!(
        "again: WEIR_SEED={seed} WEIR_WITHOUT={} {command} -- --exact {name} --nocapture",
        names.join(",")
    );
    panic!("{name} seed {seed}: {invariant}: {finding}");
}

/// Drops one class of faults after the other, as long as something is still broken.
fn shrink(
    seed: u64,
    workload: &Workload,
    mut without: Vec<Class>,
    classes: &[Class],
) -> (Vec<Class>, Option<Report>) {
    let mut shortest = None;
    for class in classes {
        without.push(*class);
        let report = world(seed, workload, &without);
        if report.failure.is_some() {
            shortest = Some(report);
        } else {
            without.pop();
        }
    }
    (without, shortest)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("the variable holds a number"))
}

/// The classes of faults that `WEIR_WITHOUT` names.
fn without() -> Vec<Class> {
    let names = std::env::var("WEIR_WITHOUT").unwrap_or_default();
    let class = |name: &str| Class::ALL.into_iter().find(|class| format!("{class:?}") == name);
    let names = names.split(',').filter(|name| !name.is_empty());
    names.map(|name| class(name).unwrap_or_else(|| panic!("no class of faults is called {name}"))).collect()
}
