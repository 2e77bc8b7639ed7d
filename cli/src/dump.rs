//! `weir dump`: shows what stands in the files of a data directory.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json, json};
use weir_storage::disk::OsDisk;
use weir_storage::dump::{DumpError, DumpOptions, Item, ListedFile, Value, dump, list_files};

use crate::arguments::Global;
use crate::code::Code;
use crate::failure::{Exit, Failure};
use crate::output::{Align, Output, Table};

/// Shows what stands in a file of a data directory, damaged or not, or lists the files of a directory.
///
/// A file is recognised by its first bytes. Nothing is changed. It may be a copy, and the broker may be running: what it
/// writes meanwhile may look damaged.
#[derive(Debug, clap::Args)]
pub(crate) struct DumpArguments {
    /// A journal file, segment, index, manifest or state file, or a data directory
    path: PathBuf,
    /// Show records, too: exact sizes, and what keys and values begin with
    #[arg(long)]
    records: bool,
}

/// Runs `weir dump`.
pub(crate) fn run(arguments: &DumpArguments, global: &Global) -> Result<Exit, Failure> {
    let mut output = Output::open()?;
    if arguments.path.is_dir() {
        list(&arguments.path, global, &mut output)?;
        output.finish()?;
        return Ok(Exit::Done);
    }
    let mut ended = Ok(());
    let options = DumpOptions { records: arguments.records };
    let damaged = dump(&OsDisk, &arguments.path, options, &mut |item| {
        ended = if global.json { output.object(&json(&item)) } else { output.line(&text(&item)) };
        ended.is_ok()
    });
    ended?;
    output.finish()?;
    match damaged {
        Ok(0) | Err(DumpError::Stopped) => Ok(Exit::Done),
        Ok(damaged) => {
            let text = format_args!("{} has {damaged} damaged parts", arguments.path.display());
            Err(Failure::new(Exit::Failed, Code::Damaged, text)
                .help("'weir verify DIR' tells what that means for the records"))
        }
        Err(DumpError::Disk(error)) => Err(Failure::file(error.action, &error.path, &error.source)),
        Err(error) => Err(Failure::new(Exit::Failed, Code::File, error)),
    }
}

fn list(directory: &Path, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let files = list_files(&OsDisk, directory)
        .map_err(|error| Failure::file(error.action, &error.path, &error.source))?;
    if global.json {
        return output.document(&files.iter().map(listed_json).collect::<Vec<Json>>());
    }
    let mut table = Table::new(&[("FILE", Align::Left), ("KIND", Align::Left), ("BYTES", Align::Right)]);
    for file in &files {
        table.row(vec![file.path.display().to_string(), file.kind.to_owned(), file.bytes.to_string()]);
    }
    output.table(&table)
}

fn listed_json(file: &ListedFile) -> Json {
    json!({ "file": file.path.display().to_string(), "kind": file.kind, "bytes": file.bytes })
}

/// One line: place, kind, fields, and what is wrong.
fn text(item: &Item) -> String {
    let indent = usize::from(item.level) * 2;
    let mut line = format!("{:indent$}{}..{} {}", "", item.bytes.start, item.bytes.end, item.kind);
    for (name, value) in &item.fields {
        match value {
            Value::Number(number) => write!(line, " {name}={number}"),
            Value::Moment(micros) => write!(line, " {name}={micros}"),
            Value::Text(text) => write!(line, " {name}={text}"),
        }
        .expect("writing to a string cannot fail");
    }
    if let Some(damage) = &item.damage {
        line.push_str(" DAMAGED: ");
        line.push_str(damage);
    }
    line
}

fn json(item: &Item) -> Json {
    let fields = item.fields.iter().map(|(name, value)| {
        let value = match value {
            Value::Number(number) => json!(number),
            Value::Moment(micros) => json!(micros),
            Value::Text(text) => json!(text),
        };
        ((*name).to_owned(), value)
    });
    json!({
        "from": item.bytes.start,
        "to": item.bytes.end,
        "level": item.level,
        "kind": item.kind,
        "fields": fields.collect::<Map<String, Json>>(),
        "damage": item.damage,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_a_line_with_place_fields_and_damage() {
        let item = Item {
            bytes: 4096..8192,
            level: 1,
            kind: "block",
            fields: vec![("position", Value::Number(0)), ("state", Value::Text("old".to_owned()))],
            damage: Some("wrong header hash".to_owned()),
        };
        assert_eq!(text(&item), "  4096..8192 block position=0 state=old DAMAGED: wrong header hash");
        assert_eq!(json(&item)["fields"]["position"], 0);
        assert_eq!(json(&item)["damage"], "wrong header hash");
    }
}
