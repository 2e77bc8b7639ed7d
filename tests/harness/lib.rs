//! What the tests of the whole system share: the binary under test, processes that cannot run for ever, a broker to
//! start, stop and kill, lines to send through it, numbers from a seed, clients that write down what they see, a checker of
//! histories, and a bad network.

#![forbid(unsafe_code)]

#[cfg(feature = "net")]
pub mod bare;
mod binary;
mod broker;
mod cage;
mod captured;
pub mod check;
pub mod fuzz;
mod lines;
pub mod payload;
mod port;
mod process;
mod random;
mod recorder;
#[cfg(feature = "net")]
pub mod relay;
mod weir;
pub mod workload;

pub use binary::{example, weir_binary};
pub use broker::Broker;
pub use cage::{Cage, Held, Watch, anonymous_bytes};
pub use captured::Captured;
pub use lines::{Lines, multiset};
pub use process::{Finished, Process};
pub use random::Random;
pub use recorder::Recorder;
pub use weir::{Weir, json_lines};
