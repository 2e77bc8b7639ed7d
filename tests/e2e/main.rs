//! The real binary, black box: what a user sees of a broker, a client and the network between them.

mod abuse;
mod claim;
mod control;
mod crash;
mod damage;
mod data;
mod dead_letters;
mod errors;
mod examples;
mod expect;
mod faults;
mod groups;
mod handlers;
mod keys;
mod memory;
mod output;
mod peers;
mod quota;
mod scrub;
mod shutdown;
mod snapshot;
mod trim;
