//! `weir plan`: how a broker would divide its memory, as a sum that can be followed.

use serde_json::json;
use weir_broker::plan::{Plan, Share};

use crate::arguments::Global;
use crate::code::Code;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::serve;
use crate::value::size;

/// Shows what a broker would do with its memory, and whether what is asked for fits.
#[derive(Debug, clap::Args)]
#[command(after_help = "Nothing is started and no broker is asked. Exit code 1 if it does not fit.")]
pub(crate) struct PlanArguments {
    /// Memory of the broker [default: as for 'weir serve']
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) memory: Option<u64>,
    /// Connections at a time [default: as many as fit, at most 1024]
    #[arg(long, value_name = "COUNT")]
    pub(crate) connections: Option<u64>,
    /// Subscriptions at a time, each of one lane and one partition
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub(crate) subscriptions: u64,
    /// Topics [default: as many as fit, at most 10000]
    #[arg(long, value_name = "COUNT")]
    pub(crate) topics: Option<u64>,
    /// Partitions of all topics together [default: as many as fit, at most 100000]
    #[arg(long, value_name = "COUNT")]
    pub(crate) partitions: Option<u64>,
    /// Bytes gathered before they move to segments [default: as for 'weir serve']
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) flush_bytes: Option<u64>,
}

/// Runs `weir plan`.
pub(crate) fn run(arguments: &PlanArguments, global: &Global) -> Result<Exit, Failure> {
    let plan = serve::plan(arguments);
    let mut output = Output::open()?;
    if global.json {
        output.document(&document(&plan))?;
    } else {
        output.line(&plan.to_string())?;
    }
    output.finish()?;
    if plan.fits() {
        return Ok(Exit::Done);
    }
    let exceeded = plan.shares.iter().filter(|share| share.is_exceeded()).map(|share| share.name);
    let names: Vec<&str> = exceeded.collect();
    let text = format_args!("what is asked for does not fit: {}", names.join(", "));
    Err(Failure::new(Exit::Failed, Code::Memory, text).help("give more memory, or allow less"))
}

fn document(plan: &Plan) -> serde_json::Value {
    let share = |share: &Share| {
        let needs = share.needs.iter().map(|need| {
            json!({
                "what": need.what,
                "count": need.count,
                "each_bytes": need.each_bytes,
                "bytes": need.bytes(),
            })
        });
        json!({
            "name": share.name,
            "purpose": share.purpose,
            "bytes": share.bytes,
            "needed_bytes": share.needed_bytes(),
            "needs": needs.collect::<Vec<_>>(),
        })
    };
    json!({
        "memory_bytes": plan.memory_bytes,
        "fits": plan.fits(),
        "connections_max": plan.connections_max,
        "topics_max": plan.topics_max,
        "partitions_max": plan.partitions_max,
        "shares": plan.shares.iter().map(share).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(memory: u64, subscriptions: u64) -> Plan {
        serve::plan(&PlanArguments {
            memory: Some(memory),
            connections: Some(100),
            subscriptions,
            topics: None,
            partitions: Some(1000),
            flush_bytes: Some(8 << 20),
        })
    }

    #[test]
    fn the_document_says_what_the_text_says() {
        let document = document(&plan(64 << 20, 1_000_000));
        assert_eq!(document["memory_bytes"], 64 << 20);
        assert_eq!((&document["fits"], &document["partitions_max"]), (&json!(false), &json!(1000)));
        let shares = document["shares"].as_array().unwrap();
        let sum: u64 = shares.iter().map(|share| share["bytes"].as_u64().unwrap()).sum();
        assert_eq!(sum, 64 << 20, "the shares are all of it");
        let connections = shares.iter().find(|share| share["name"] == "connections").unwrap();
        assert_eq!(connections["needs"][1]["count"], 1_000_000);
        assert!(connections["needed_bytes"].as_u64() > connections["bytes"].as_u64());
    }

    #[test]
    fn ten_thousand_subscriptions_fit_the_default() {
        assert!(plan(512 << 20, 10_000).fits(), "{}", plan(512 << 20, 10_000));
    }
}
