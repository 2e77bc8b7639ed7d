//! `weir config`: what `weir serve` would run with, and where each value comes from.

mod connections;
mod flags;
#[cfg(test)]
mod fuzz;
mod key;
mod layers;
mod quotas;
mod typed;

use serde_json::json;

use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::{Align, Output, Table};
use crate::serve;

pub(crate) use connections::ConnectionConfig;
pub(crate) use flags::ServeFlags;
pub(crate) use key::Key;
pub(crate) use layers::Layers;
pub(crate) use quotas::QuotaConfig;
pub(crate) use typed::{LogFormat, ServeConfig, Transport};

/// Looks at the configuration of the broker without starting it.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print every setting with its value
    Show {
        /// Print where each value comes from, too
        #[arg(long)]
        origin: bool,
        #[command(flatten)]
        flags: Box<ServeFlags>,
    },
    /// Check the configuration and print nothing but what is wrong with it
    Check {
        /// Print where each value comes from, too
        #[arg(long)]
        origin: bool,
        #[command(flatten)]
        flags: Box<ServeFlags>,
    },
}

/// Runs `weir config`.
pub(crate) fn run(arguments: &ConfigArguments, global: &Global) -> Result<Exit, Failure> {
    let mut output = Output::open()?;
    match &arguments.action {
        Action::Show { origin, flags } => show(&Layers::read(flags)?, *origin, global, &mut output)?,
        Action::Check { origin, flags } => {
            let layers = Layers::read(flags)?;
            serve::check(&ServeConfig::try_from(&layers)?)?;
            if *origin {
                show(&layers, true, global, &mut output)?;
            } else if global.json {
                output.document(&json!({ "valid": true }))?;
            }
        }
    }
    output.finish()?;
    Ok(Exit::Done)
}

fn show(layers: &Layers, origin: bool, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let settings = layers.settings();
    if global.json {
        let list: Vec<serde_json::Value> = settings
            .map(|(key, setting)| {
                json!({ "key": key.name(), "value": setting.value, "origin": setting.origin.to_string() })
            })
            .collect();
        return output.document(&list);
    }
    let mut columns = vec![("KEY", Align::Left), ("VALUE", Align::Left)];
    if origin {
        columns.push(("ORIGIN", Align::Left));
    }
    let mut table = Table::new(&columns);
    for (key, setting) in settings {
        let mut row = vec![key.name().to_owned(), setting.value.clone()];
        if origin {
            row.push(setting.origin.to_string());
        }
        table.row(row);
    }
    output.table(&table)
}
