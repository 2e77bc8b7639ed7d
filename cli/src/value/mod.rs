//! Values as people write them: durations, sizes, rates, positions. Small, exact, without defaults or guesses.

mod duration;
mod moment;
mod rate;
mod retention;
mod size;
mod start;

use std::fmt;

pub(crate) use duration::{DurationText, duration};
pub(crate) use moment::{from_micros, moment, to_micros};
pub(crate) use rate::{Rate, rate};
pub(crate) use retention::{Keep, retention_age, retention_bytes};
pub(crate) use size::{SizeText, size};
pub(crate) use start::{From, from};

/// Why a text is not the value it should be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ValueError {
    /// The text does not begin with a number.
    #[error("expected a whole number followed by one of {units}, such as {example}")]
    NoNumber {
        /// The units there are.
        units: &'static str,
        /// A value that would be right.
        example: &'static str,
    },
    /// There is a number, and no unit that is known.
    #[error("unknown unit '{unit}': use one of {units}, such as {example}")]
    Unit {
        /// What stands where a unit should.
        unit: String,
        /// The units there are.
        units: &'static str,
        /// A value that would be right.
        example: &'static str,
    },
    /// There is a number, and nothing behind it.
    #[error("the unit is missing: use one of {units}, such as {example}")]
    NoUnit {
        /// The units there are.
        units: &'static str,
        /// A value that would be right.
        example: &'static str,
    },
    /// The value does not fit.
    #[error("the value is larger than anything Weir can count")]
    TooLarge,
    /// The value must not be zero.
    #[error("the value must be above zero")]
    Zero,
    /// The text is not a moment.
    #[error("'{0}' is not a time: write it with its offset, such as 2026-11-20T10:00Z")]
    Moment(String),
    /// The text is not a place to start reading from.
    #[error(
        "expected earliest, latest, -COUNT, @OFFSET, an age such as 2h or a time such as 2026-11-20T10:00Z"
    )]
    Start,
}

/// The units of a kind of value: each name with what it multiplies by, and how to explain them.
struct Units {
    table: &'static [(&'static str, u64)],
    names: &'static str,
    example: &'static str,
}

impl Units {
    /// Reads a whole number with one of the units.
    fn parse(&self, text: &str) -> Result<u64, ValueError> {
        let (number, unit) = self.split(text)?;
        if unit.is_empty() && !self.table.iter().any(|(name, _)| name.is_empty()) {
            return Err(ValueError::NoUnit { units: self.names, example: self.example });
        }
        let factor = self.table.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
        let factor = factor.ok_or_else(|| ValueError::Unit {
            unit: unit.to_owned(),
            units: self.names,
            example: self.example,
        })?;
        number.checked_mul(factor).ok_or(ValueError::TooLarge)
    }

    /// Divides a text into its leading digits and the rest.
    fn split<'a>(&self, text: &'a str) -> Result<(u64, &'a str), ValueError> {
        let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(ValueError::NoNumber { units: self.names, example: self.example });
        }
        // Only digits are left, so the one thing that can be wrong is their number.
        number.parse().map(|number| (number, unit)).or(Err(ValueError::TooLarge))
    }

    /// Writes `value` with the largest unit that divides it.
    fn write(&self, value: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let largest = self
            .table
            .iter()
            .filter(|(_, factor)| value >= *factor && value.is_multiple_of(*factor))
            .max_by_key(|(_, factor)| *factor)
            .or_else(|| self.table.first());
        let (name, factor) = largest.copied().unwrap_or(("", 1));
        write!(f, "{}{name}", value / factor)
    }
}
