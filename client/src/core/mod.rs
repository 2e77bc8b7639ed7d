//! The client's logic as machines without I/O: events in, actions out, time as an argument.
//!
//! * [`producer`]: batches, sequences, credit, what is in flight, what is sent again.
//! * [`consumer`]: positions, generations, credit, gaps.
//! * [`member`]: leases of a consumer group, and what is settled under them.
//! * [`work`]: handlers, the order of keys, and the circuit that opens when what they need is down.
//! * [`link`]: the states of the connection; [`requests`]: who waits for which answer.
//!
//! Nothing here reads a clock, waits, or knows a runtime, so that a simulator can drive it. The machines are public for
//! that purpose only; their shape may change with any release.

pub mod backoff;
pub mod consumer;
pub mod fingerprint;
pub mod link;
pub mod member;
pub mod producer;
pub mod random;
pub mod requests;
pub mod silence;
pub mod time;
pub mod window;
pub mod work;
