//! What the tests of the whole system share: the binary under test, processes that cannot run for ever, a broker to
//! start, stop and kill, and lines to send through it.

#![forbid(unsafe_code)]

mod binary;
mod broker;
mod captured;
pub mod check;
mod lines;
mod process;
mod weir;

pub use binary::weir_binary;
pub use broker::Broker;
pub use captured::Captured;
pub use lines::{Lines, multiset};
pub use process::{Finished, Process};
pub use weir::{Weir, json_lines};
