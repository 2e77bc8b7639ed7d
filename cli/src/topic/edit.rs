//! `weir topic edit`: changes the settings of a topic.

use serde_json::json;
use weir_client::{Admin, TopicChange};

use super::settings::Changeable;
use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Changes the settings of a topic. What is not given stays as it is.
#[derive(Debug, clap::Args)]
pub(crate) struct EditArguments {
    /// Its name
    name: String,
    /// New number of partitions: more than there are
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    partitions: Option<u32>,
    #[command(flatten)]
    settings: Changeable,
    /// Forget the last offsets of keys, and take records that expect something of their key no more
    #[arg(long)]
    no_keyed_versions: bool,
}

impl EditArguments {
    fn change(&self) -> Result<TopicChange, Failure> {
        let Changeable { retention, retention_bytes, batch_max, dedup, dedup_rate } = &self.settings;
        let change = TopicChange {
            partitions: self.partitions,
            retention_age: retention.map(|keep| keep.0),
            retention_bytes: retention_bytes.map(|keep| keep.0),
            batch_bytes_max: *batch_max,
            dedup_horizon: dedup.map(|keep| keep.0),
            keyed_versions: self.no_keyed_versions.then_some(false),
            dedup_keys_per_second: dedup_rate.map(Some),
        };
        if change == TopicChange::default() {
            let failure = Failure::usage("nothing to change");
            let flags = "--partitions, --retention, --retention-bytes, --batch-max, --dedup, --dedup-rate or --no-keyed-versions";
            return Err(failure.help(format!("give {flags}")));
        }
        Ok(change)
    }
}

/// Changes the topic.
pub(crate) async fn run(
    arguments: &EditArguments,
    admin: &Admin,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    admin.alter_topic(&arguments.name, arguments.change()?).await?;
    if global.json {
        output.document(&json!({ "name": arguments.name, "changed": true }))?;
    }
    Ok(Exit::Done)
}
