//! What a run found, for people and programs.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::arguments::Load;
use super::check::Verified;
use super::latency::Latencies;
use super::pause::Resumed;
use super::session::Session;
use crate::arguments::Global;
use crate::code::Code;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::progress::float;

/// What a run found.
#[derive(Debug)]
pub(crate) struct Report {
    /// What was measured.
    pub(crate) what: &'static str,
    /// Records in the timed part.
    pub(crate) records: u64,
    /// Bytes of their keys and values.
    pub(crate) bytes: u64,
    /// Length of the timed part.
    pub(crate) elapsed: Duration,
    /// How long publishing took, where that is only a part of it.
    pub(crate) published: Option<Duration>,
    /// How long the same took once more, with everything in the caches of the system.
    pub(crate) cached: Option<Duration>,
    /// How the consumer went on after its pause.
    pub(crate) resumed: Option<Resumed>,
    /// Processor time of this process in the timed part.
    pub(crate) cpu: Duration,
    /// Distributions of times, each with its name in the output.
    pub(crate) latencies: Vec<(&'static str, Latencies)>,
    /// What the check found.
    pub(crate) verified: Verified,
}

impl Report {
    /// Prints it, and fails if the check found something.
    pub(crate) fn print(&self, session: &Session, global: &Global) -> Result<Exit, Failure> {
        let mut output = Output::open()?;
        if global.json {
            output.document(&Value::Object(self.json(session)))?;
        } else {
            for (name, value) in self.lines(session) {
                output.line(&format!("{name:<18} {value}"))?;
            }
        }
        output.finish()?;
        if self.verified.is_clean() {
            return Ok(Exit::Done);
        }
        Err(Failure::new(Exit::Failed, Code::Unverified, self.verified.text()))
    }

    fn per_second(&self, count: u64) -> f64 {
        rate(count, self.elapsed)
    }

    fn json(&self, session: &Session) -> Map<String, Value> {
        let load = &session.run.load;
        let mut object = settings(load);
        for (name, value) in [
            ("bench", json!(self.what)),
            ("topic", json!(session.run.topic)),
            ("transport", json!(session.transport)),
            ("records", json!(self.records)),
            ("bytes", json!(self.bytes)),
            ("seconds", json!(self.elapsed.as_secs_f64())),
            ("records_per_second", json!(self.per_second(self.records))),
            ("mb_per_second", json!(self.per_second(self.bytes) / 1e6)),
            ("client_cpu_seconds", json!(self.cpu.as_secs_f64())),
            ("verified", self.verified.json()),
        ] {
            object.insert(name.to_owned(), value);
        }
        if let Some(cached) = self.cached {
            let figures = json!({
                "seconds": cached.as_secs_f64(),
                "records_per_second": rate(self.records, cached),
                "mb_per_second": rate(self.bytes, cached) / 1e6,
            });
            object.insert("cached".to_owned(), figures);
        }
        if let Some(published) = self.published {
            object.insert("publish_seconds".to_owned(), json!(published.as_secs_f64()));
        }
        if let Some(resumed) = &self.resumed {
            object.insert("resumed".to_owned(), resumed.json());
        }
        for (name, latencies) in &self.latencies {
            object.insert((*name).to_owned(), latencies.json());
        }
        object
    }

    fn lines(&self, session: &Session) -> Vec<(&'static str, String)> {
        let load = &session.run.load;
        let mut lines = vec![
            (
                "records",
                format!("{} of {} bytes in {:.3} s", self.records, load.size, self.elapsed.as_secs_f64()),
            ),
            ("records/s", format!("{:.0}", self.per_second(self.records))),
            ("MB/s", format!("{:.1}", self.per_second(self.bytes) / 1e6)),
        ];
        if let Some(cached) = self.cached {
            lines.push(("MB/s when cached", format!("{:.1}", rate(self.bytes, cached) / 1e6)));
        }
        if let Some(resumed) = &self.resumed {
            lines.push(("after the pause", resumed.text()));
        }
        lines.extend(self.latencies.iter().map(|(name, latencies)| (*name, latencies.text())));
        lines.push(("client cpu", format!("{:.3} s", self.cpu.as_secs_f64())));
        lines.push(("transport", session.transport.to_owned()));
        lines.push(("durability", load.durability.word().to_owned()));
        lines.push(("verified", self.verified.text()));
        lines
    }
}

fn rate(count: u64, time: Duration) -> f64 {
    float(count) / time.as_secs_f64().max(1e-9)
}

/// What was chosen for the run.
fn settings(load: &Load) -> Map<String, Value> {
    let chosen = [
        ("size", json!(load.size)),
        ("producers", json!(load.producers)),
        ("connections", json!(load.connections.min(load.producers))),
        ("partitions", json!(load.partitions)),
        ("keys", json!(load.keys)),
        ("durability", json!(load.durability.word())),
        ("compression", json!(load.compression.word())),
        ("in_flight_bytes", json!(load.in_flight)),
        ("batch_bytes", json!(load.batch)),
        ("loop", json!(if load.rate.is_some() { "open" } else { "closed" })),
        ("rate_per_second", json!(load.rate.map(|rate| rate.per_second()))),
    ];
    chosen.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
