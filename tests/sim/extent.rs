//! How much of a world is run: all of it, or as little as still shows a failure.

use std::fmt::{Display, Formatter, Result};

use crate::faults::Class;

/// Events of a world while its faults strike. What it takes to come to rest afterwards is more.
///
/// An event is one thing that happens at one moment of virtual time: bytes arrive at an end of a connection, a part of the
/// broker has its turn, a client wakes, a connection is made, a fault strikes. What follows from it inside of the
/// machines (frames, batches, answers) is not counted apart.
pub(crate) const EVENTS: u64 = 20_000;

/// How much of a world is run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Extent {
    /// Classes of faults that never strike.
    pub(crate) without: Vec<Class>,
    /// After so many events everything is healed, and nobody begins anything new.
    pub(crate) events: u64,
    /// After so many events no fault strikes any more.
    pub(crate) strikes: u64,
    /// Producers send so many records, all of them together.
    pub(crate) records: u64,
    /// Each event is written down.
    pub(crate) traced: bool,
}

impl Extent {
    /// All of a world, unless the environment says otherwise.
    ///
    /// # Panics
    /// If a variable holds something else than it should.
    pub(crate) fn from_environment() -> Self {
        let events = number("WEIR_EVENTS").unwrap_or(EVENTS);
        Self {
            without: classes(&std::env::var("WEIR_WITHOUT").unwrap_or_default()),
            events,
            strikes: number("WEIR_STRIKES").unwrap_or(events),
            records: number("WEIR_RECORDS").unwrap_or(u64::MAX),
            traced: false,
        }
    }
}

/// As variables of the environment that give the same again.
impl Display for Extent {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "WEIR_EVENTS={} WEIR_STRIKES={}", self.events, self.strikes)?;
        if self.records < u64::MAX {
            write!(f, " WEIR_RECORDS={}", self.records)?;
        }
        let names: Vec<String> = self.without.iter().map(|class| format!("{class:?}")).collect();
        if names.is_empty() { Ok(()) } else { write!(f, " WEIR_WITHOUT={}", names.join(",")) }
    }
}

/// The number in a variable of the environment.
///
/// # Panics
/// If it holds something else.
pub(crate) fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} holds a number, not {text}")))
}

fn classes(names: &str) -> Vec<Class> {
    let class = |name: &str| Class::ALL.into_iter().find(|class| format!("{class:?}") == name);
    let names = names.split(',').filter(|name| !name.is_empty());
    names.map(|name| class(name).unwrap_or_else(|| panic!("no class of faults is called {name}"))).collect()
}
