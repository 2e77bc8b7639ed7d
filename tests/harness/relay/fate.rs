//! What becomes of each datagram: drawn from a seed, one after the other. No socket, no clock.

use std::time::Duration;

use crate::Random;

/// What the way in one direction does to datagrams. By default, nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Way {
    /// So many of a hundred are lost; 100 is a partition.
    pub loss: u64,
    /// So many of a hundred come twice.
    pub double: u64,
    /// Least and most milliseconds each is under way. Where these differ, datagrams overtake each other.
    pub delay: (u64, u64),
    /// So many of a hundred come later still,
    pub late: u64,
    /// by so many milliseconds: the others overtake them.
    pub late_by: u64,
}

impl Way {
    /// Nothing gets through.
    pub const CUT: Self = Self { loss: 100, double: 0, delay: (0, 0), late: 0, late_by: 0 };
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It is lost.
    Lost,
    /// It arrives after this time.
    Once(Duration),
    /// It arrives after each of these times.
    Twice(Duration, Duration),
}

/// The fates of all datagrams of one direction.
#[derive(Clone, Debug)]
pub(super) struct Fates(Random);

impl Fates {
    pub(super) const fn new(random: Random) -> Self {
        Self(random)
    }

    /// The fate of the next datagram. Takes the same count of numbers from the seed whatever the way is like, so that what
    /// befalls the hundredth does not depend on when the way has changed.
    pub(super) fn next(&mut self, way: &Way) -> Fate {
        let Self(random) = self;
        let (is_lost, is_late) = (random.percent(way.loss), random.percent(way.late));
        let is_double = random.percent(way.double);
        let mut delay = || Duration::from_millis(random.between(way.delay.0, way.delay.1.max(way.delay.0)));
        let (mut first, second) = (delay(), delay());
        if is_late {
            first += Duration::from_millis(way.late_by);
        }
        match (is_lost, is_double) {
            (true, _) => Fate::Lost,
            (false, true) => Fate::Twice(first, second),
            (false, false) => Fate::Once(first),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: Way = Way { loss: 20, double: 10, delay: (2, 9), late: 5, late_by: 50 };

    fn fates(seed: u64, way: &Way, count: usize) -> Vec<Fate> {
        let mut fates = Fates::new(Random::new(seed));
        (0..count).map(|_| fates.next(way)).collect()
    }

    #[test]
    fn a_seed_always_decides_alike_and_another_one_otherwise() {
        assert_eq!(fates(7, &BAD, 1000), fates(7, &BAD, 1000));
        assert_ne!(fates(7, &BAD, 1000), fates(8, &BAD, 1000));
    }

    #[test]
    fn what_befalls_a_datagram_does_not_depend_on_what_the_way_was_like_before() {
        let mut mixed = Fates::new(Random::new(7));
        let ways = [Way::default(), Way::CUT, BAD];
        for way in ways.iter().cycle().take(99) {
            mixed.next(way);
        }
        assert_eq!(Some(&mixed.next(&BAD)), fates(7, &BAD, 100).last());
    }

    #[test]
    fn everything_happens_about_as_often_as_it_should() {
        let fates = fates(7, &BAD, 100_000);
        let percent = |is_one: fn(&Fate) -> bool| fates.iter().filter(|fate| is_one(fate)).count() / 1000;
        assert!((19..=21).contains(&percent(|fate| *fate == Fate::Lost)));
        // Four of five are left, of which one of ten comes twice and one of twenty late.
        assert!((7..=9).contains(&percent(|fate| matches!(fate, Fate::Twice(..)))));
        let late = |fate: &Fate| matches!(fate, Fate::Once(after) | Fate::Twice(after, _) if *after >= Duration::from_millis(50));
        assert!((3..=5).contains(&percent(late)));
    }

    #[test]
    fn a_quiet_way_changes_nothing_and_a_cut_one_lets_nothing_through() {
        assert!(fates(7, &Way::default(), 1000).iter().all(|fate| *fate == Fate::Once(Duration::ZERO)));
        assert!(fates(7, &Way::CUT, 1000).iter().all(|fate| *fate == Fate::Lost));
    }
}
