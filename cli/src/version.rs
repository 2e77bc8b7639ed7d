//! `weir version`: this program and what it speaks.

use serde_json::json;
use weir_protocol::message::PROTOCOL_VERSION;

use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Runs `weir version`.
pub(crate) fn run(global: &Global) -> Result<Exit, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let mut output = Output::open()?;
    if global.json {
        output.document(&json!({
            "version": version,
            "protocol": { "min": PROTOCOL_VERSION, "max": PROTOCOL_VERSION },
            "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        }))?;
    } else {
        output.line(&format!("weir {version} (protocol {PROTOCOL_VERSION})"))?;
    }
    output.finish()?;
    Ok(Exit::Done)
}
