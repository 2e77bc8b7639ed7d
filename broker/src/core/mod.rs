//! The broker's logic as machines without I/O.
//!
//! A machine takes events and returns actions; time, bytes and results of the disk are arguments. Nothing here names
//! a runtime, a thread, a clock or a file, and maps have a fixed order: the same events give the same actions.

pub mod answers;
pub mod bucket;
pub mod claims;
pub mod commit;
pub mod conduct;
pub mod coordinator;
pub mod dedup;
pub mod deframe;
pub mod event;
pub mod group;
pub mod hot;
pub mod ingest;
pub mod ledger;
pub mod letter;
pub mod node;
pub mod pace;
pub mod partition;
pub mod publish;
pub mod quota;
pub mod requests;
pub mod session;
pub mod subscription;
pub mod trim;
pub mod windows;

pub use event::{
    Actions, ColdAnswer, ColdRead, ColdResult, ConnectionId, Event, LaneId, Now, Outgoing, StreamId, Ticket,
    ToWrite,
};
pub use node::{Node, NodeLimits};
