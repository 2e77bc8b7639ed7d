//! `weir ctx`: names for the brokers a person works with. The file belongs to the client, which reads it too.

use serde_json::json;
use weir_client::BrokerUrl;
use weir_client::context::{Context, Contexts};

use crate::arguments::Global;
use crate::code::Code;
use crate::failure::{Exit, Failure};
use crate::output::{Align, Output, Table};

/// Names the brokers you work with.
#[derive(Debug, clap::Args)]
pub(crate) struct CtxArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the contexts; the current one is marked
    Ls,
    /// Add a context, or give an existing one another URL
    Add {
        /// Its name
        name: String,
        /// Where its broker is
        #[arg(value_name = "URL")]
        broker: String,
        /// Make it the current one
        #[arg(long = "use")]
        select: bool,
    },
    /// Make a context the current one
    Use {
        /// Its name
        name: String,
    },
    /// Remove a context
    Rm {
        /// Its name
        name: String,
    },
}

/// Runs `weir ctx`.
pub(crate) fn run(arguments: &CtxArguments, global: &Global) -> Result<Exit, Failure> {
    let mut contexts = Contexts::load()?;
    match &arguments.action {
        Action::Ls => return list(&contexts, global),
        Action::Add { name, broker, select } => {
            // A URL that could not be used is refused now, not when it is needed.
            broker.parse::<BrokerUrl>()?;
            let first = contexts.contexts.is_empty();
            contexts.contexts.insert(name.clone(), Context { url: broker.clone() });
            if *select || first {
                contexts.current = Some(name.clone());
            }
        }
        Action::Use { name } => {
            known(&contexts, name)?;
            contexts.current = Some(name.clone());
        }
        Action::Rm { name } => {
            known(&contexts, name)?;
            contexts.contexts.remove(name);
            contexts.current.take_if(|current| current == name);
        }
    }
    contexts.save()?;
    if global.json { list(&contexts, global) } else { Ok(Exit::Done) }
}

/// Refuses a name that no context has.
fn known(contexts: &Contexts, name: &str) -> Result<(), Failure> {
    if contexts.contexts.contains_key(name) {
        return Ok(());
    }
    let failure = Failure::new(Exit::NotFound, Code::Context, format_args!("no context is named '{name}'"));
    Err(failure.help("'weir ctx ls' lists the contexts, 'weir ctx add' adds one"))
}

fn list(contexts: &Contexts, global: &Global) -> Result<Exit, Failure> {
    let current = contexts.current.as_ref();
    let mut output = Output::open()?;
    if global.json {
        let list: Vec<serde_json::Value> = contexts
            .contexts
            .iter()
            .map(|(name, context)| json!({ "name": name, "url": context.url, "current": current == Some(name) }))
            .collect();
        output.document(&list)?;
    } else {
        let mut table = Table::new(&[("CURRENT", Align::Left), ("NAME", Align::Left), ("URL", Align::Left)]);
        for (name, context) in &contexts.contexts {
            let mark = if current == Some(name) { "*" } else { "" };
            table.row(vec![mark.to_owned(), name.clone(), context.url.clone()]);
        }
        output.table(&table)?;
    }
    output.finish()?;
    Ok(Exit::Done)
}
