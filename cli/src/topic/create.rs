//! `weir topic create`: makes a topic.

use serde_json::json;
use weir_client::{Admin, Ensured, TopicSpec};

use super::settings::Changeable;
use crate::arguments::Global;
use crate::code::Code;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Makes a topic.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArguments {
    /// Its name: 1 to 128 of A-Z a-z 0-9 . _ -
    name: String,
    /// Number of partitions, 1 to 10000
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    partitions: u32,
    #[command(flatten)]
    settings: Changeable,
    /// Producers choose the partition of each record themselves
    #[arg(long)]
    explicit_partitions: bool,
    /// Remember the last offset of each key, so that records can expect something of it
    #[arg(long)]
    keyed_versions: bool,
    /// Do nothing if there is such a topic with the same settings already
    #[arg(long)]
    if_missing: bool,
}

impl CreateArguments {
    fn spec(&self) -> TopicSpec {
        let mut spec = TopicSpec::new(&self.name).partitions(self.partitions);
        if let Some(age) = self.settings.retention.and_then(|keep| keep.0) {
            spec = spec.retention_age(age);
        }
        if let Some(bytes) = self.settings.retention_bytes.and_then(|keep| keep.0) {
            spec = spec.retention_bytes(bytes);
        }
        if let Some(bytes) = self.settings.batch_max {
            spec = spec.batch_bytes_max(bytes);
        }
        if let Some(horizon) = self.settings.dedup {
            spec = spec.dedup_horizon(horizon.0);
        }
        if self.keyed_versions {
            spec = spec.keyed_versions();
        }
        if let Some(rate) = self.settings.dedup_rate {
            spec = spec.dedup_keys_per_second(rate);
        }
        if self.explicit_partitions { spec.explicit_partitions() } else { spec }
    }
}

/// Makes the topic.
pub(crate) async fn run(
    arguments: &CreateArguments,
    admin: &Admin,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let created = if arguments.if_missing {
        match admin.ensure_topic(arguments.spec()).await? {
            Ensured::Created => true,
            Ensured::Unchanged => false,
            Ensured::Differs(differences) => return Err(differs(&arguments.name, &differences)),
        }
    } else {
        admin.create_topic(arguments.spec()).await?;
        true
    };
    if global.json {
        output.document(&json!({ "name": arguments.name, "created": created }))?;
    }
    Ok(Exit::Done)
}

fn differs(name: &str, differences: &[String]) -> Failure {
    let text = format_args!("topic '{name}' exists with other settings: {}", differences.join(", "));
    Failure::new(Exit::Conflict, Code::TopicExists, text)
        .help(format!("'weir topic edit {name}' changes them"))
}
