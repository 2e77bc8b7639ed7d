//! The real binary, black box: what a user sees of a broker, a client and the network between them.

mod abuse;
mod crash;
mod damage;
mod data;
mod errors;
mod faults;
mod memory;
mod output;
mod peers;
mod quota;
mod scrub;
mod shutdown;
mod snapshot;
mod trim;
