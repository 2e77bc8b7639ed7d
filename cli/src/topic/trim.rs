//! `weir topic trim`: gives up the records of a topic below an offset or a time.

use std::time::SystemTime;

use serde_json::{Value, json};
use weir_client::{Admin, Trim, TrimBefore, Trimmed};

use super::confirm::confirm;
use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::{Align, Output, Table};
use crate::value::{From, ValueError, from};

/// Gives up the records of a topic below an offset or a time. What is given up cannot be read again.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The records are gone for readers when the command ends, also after a crash; their space is free \
    within about a minute. Trimming again to the same place changes nothing."
)]
pub(crate) struct TrimArguments {
    /// Name of the topic
    name: String,
    #[command(flatten)]
    before: Before,
    /// Only this partition; an offset needs it if there is more than one [default: all]
    #[arg(long, short)]
    partition: Option<u32>,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
    /// Only say what would be given up
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Before {
    /// Give up the records below this offset
    #[arg(long, value_name = "OFFSET")]
    before: Option<u64>,
    /// Give up the records appended before a time such as 2026-11-20T10:00Z, or longer ago than 2h
    #[arg(long, value_name = "TIME", value_parser = time)]
    before_time: Option<SystemTime>,
}

/// Reads a moment, or an age.
fn time(text: &str) -> Result<SystemTime, ValueError> {
    match from(text) {
        Ok(From::At(moment)) => Ok(moment),
        Ok(From::Ago(age)) => SystemTime::now().checked_sub(age).ok_or(ValueError::TooLarge),
        Ok(From::Earliest | From::Latest | From::Last(_) | From::Offset(_)) | Err(ValueError::Start) => {
            Err(ValueError::Moment(text.to_owned()))
        }
        Err(error) => Err(error),
    }
}

impl TrimArguments {
    /// Asks, unless that is not needed.
    pub(crate) fn confirm(&self) -> Result<(), Failure> {
        if self.yes || self.dry_run {
            return Ok(());
        }
        let name = &self.name;
        confirm(&format!("trim {name}"), &format!("trimming {name} deletes records"))
    }

    fn place(&self) -> Result<TrimBefore, Failure> {
        let Before { before, before_time } = self.before;
        let place = before.map(TrimBefore::Offset).or_else(|| before_time.map(TrimBefore::Time));
        place.ok_or_else(|| Failure::usage("give --before or --before-time"))
    }
}

/// Trims one partition after the other, and stops at the first that cannot be.
pub(crate) async fn run(
    arguments: &TrimArguments,
    admin: &Admin,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let before = arguments.place()?;
    let partitions = partitions(arguments, before, admin).await?;
    let mut done: Vec<Trimmed> = Vec::new();
    for partition in partitions {
        let trim = Trim { partition, before, dry_run: arguments.dry_run };
        match admin.trim(&arguments.name, trim).await {
            Ok(trimmed) => done.push(trimmed),
            Err(error) => return Err(partly(Failure::from(error), done.len(), arguments.dry_run)),
        }
    }
    if global.json {
        output.document(&json(arguments, &done))?
    } else {
        table(&done, output)?
    }
    Ok(Exit::Done)
}

/// The partitions that are meant. An offset means something else in each of them.
async fn partitions(
    arguments: &TrimArguments,
    before: TrimBefore,
    admin: &Admin,
) -> Result<Vec<u32>, Failure> {
    if let Some(partition) = arguments.partition {
        return Ok(vec![partition]);
    }
    let count = admin.describe_topic(&arguments.name).await?.settings.partitions;
    if count > 1 && matches!(before, TrimBefore::Offset(_)) {
        let name = &arguments.name;
        let failure = Failure::usage(format_args!(
            "topic '{name}' has {count} partitions, and an offset belongs to one of them"
        ));
        return Err(failure.help("give --partition, or --before-time for all partitions"));
    }
    Ok((0..count).collect())
}

/// Tells what was trimmed before the failure.
fn partly(failure: Failure, done: usize, dry_run: bool) -> Failure {
    if done == 0 || dry_run {
        return failure;
    }
    failure.and(format_args!("{done} partitions were trimmed before")).exit(Exit::Partial)
}

fn given_up(trimmed: &Trimmed) -> u64 {
    trimmed.start_offset.saturating_sub(trimmed.old_start_offset)
}

fn json(arguments: &TrimArguments, done: &[Trimmed]) -> Value {
    let partition = |trimmed: &Trimmed| {
        json!({
            "partition": trimmed.partition,
            "old_start_offset": trimmed.old_start_offset,
            "start_offset": trimmed.start_offset,
            "end_offset": trimmed.end_offset,
            "records": given_up(trimmed),
        })
    };
    let partitions: Vec<Value> = done.iter().map(partition).collect();
    json!({ "name": arguments.name, "dry_run": arguments.dry_run, "partitions": partitions })
}

fn table(done: &[Trimmed], output: &mut Output) -> Result<(), Failure> {
    let columns = ["PARTITION", "OLD START", "START", "END", "GIVEN UP"].map(|name| (name, Align::Right));
    let mut table = Table::new(&columns);
    for trimmed in done {
        table.row(vec![
            trimmed.partition.to_string(),
            trimmed.old_start_offset.to_string(),
            trimmed.start_offset.to_string(),
            trimmed.end_offset.to_string(),
            given_up(trimmed).to_string(),
        ]);
    }
    output.table(&table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_moment_or_an_age() {
        assert_eq!(time("1970-01-01T00:00:01Z"), Ok(crate::value::from_micros(1_000_000)));
        assert!(time("2h").is_ok_and(|time| time < SystemTime::now()));
        for text in ["@5", "-5", "latest", "yesterday", "2026-11-20"] {
            assert!(matches!(time(text), Err(ValueError::Moment(_))), "{text}");
        }
    }
}
