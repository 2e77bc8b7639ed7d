//! Client of the Weir broker: publish, read, administer.
//!
//! Three calls do most of the work: [`Client::connect`], [`Producer::send`], and [`Consumer::recv`] or, in a group,
//! [`Consumer::run`].
//!
//! ```no_run
//! use weir_client::{Client, Message, Start};
//!
//! # async fn hello() -> Result<(), Box<dyn std::error::Error>> {
//! let weir = Client::from_env().await?;
//! let producer = weir.producer("orders").build().await?;
//! let receipt = producer.send(Message::new("hello").key("user-42")).await?;
//! println!("partition {} offset {}", receipt.partition, receipt.offset);
//!
//! let mut orders = weir.consumer("orders").start(Start::Earliest).subscribe().await?;
//! while let Some(record) = orders.recv().await {
//!     println!("{:?}", record?.value);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! * Nothing is lost silently: a message that did not land comes back in an error, through `on_failure`, or in the
//!   report of [`Producer::close`].
//! * A connection that is lost comes back by itself: producers send again what has no answer, under the same
//!   sequence numbers, so that nothing is stored twice or out of order; consumers go on at the next record.
//! * Every wait has a cause that can be asked for: [`Producer::pressure`], [`Client::status`].
//!
//! [`core`] holds the logic as machines without I/O; the rest drives them over QUIC.

#![cfg_attr(not(feature = "net"), expect(dead_code, reason = "much is used by the driver only"))]

pub mod core;

mod checkpoint;
mod error;
mod failure;
mod message;
mod options;
mod url;

#[cfg(feature = "net")]
mod admin;
#[cfg(feature = "net")]
mod client;
#[cfg(feature = "net")]
mod consumer;
#[cfg(feature = "net")]
pub mod context;
#[cfg(feature = "net")]
mod deliveries;
#[cfg(feature = "net")]
mod delivery;
#[cfg(feature = "net")]
mod exceptions;
#[cfg(feature = "net")]
mod groups;
#[cfg(feature = "net")]
mod lease;
#[cfg(feature = "net")]
mod net;
#[cfg(feature = "net")]
mod producer;
#[cfg(feature = "net")]
mod watch;

pub use checkpoint::Checkpoint;
pub use error::{Class, Error, ErrorKind};
pub use failure::{BatchError, BlockedBy, Pressure, SendError, SendFailure, TryEnqueueError};
pub use message::{Delivered, Expect, Message, Receipt};
pub use options::{
    Breaker, Compression, Durability, OnDrop, Redelivery, Retry, Start, Tls, TransportProfile,
};
pub use url::BrokerUrl;
pub use weir_protocol::lifetime::LIFETIME_HEADER;

#[cfg(feature = "net")]
pub use admin::{
    Admin, DedupFigures, DedupStats, Ensured, KeyedCounts, PartitionDescription, RememberedKey, SnapshotInfo,
    TopicChange, TopicDedup, TopicDescription, TopicInfo, TopicSettings, TopicSpec, TopicSummary, Trim,
    TrimBefore, Trimmed, Waiting, WaitsFor,
};
#[cfg(feature = "net")]
pub use client::{Client, ClientBuilder, ConnStatus, DrainReport};
#[cfg(feature = "net")]
pub use consumer::{
    Assigned, AssignmentListener, BoundedRead, Confirm, Consumer, ConsumerBuilder, ConsumerEvent,
    ConsumerEvents, Control, GapReason, Handler, HandlerError, KeyHistory, Revoking, Run, RunReport,
};
#[cfg(feature = "net")]
pub use deliveries::Deliveries;
#[cfg(feature = "net")]
pub use delivery::Delivery;
#[cfg(feature = "net")]
pub use groups::{
    FailingPartition, GroupDescription, GroupFailures, GroupMember, GroupPartition, GroupSummary,
    MovedPosition,
};
#[cfg(feature = "net")]
pub use lease::{Lease, LeaseBuilder};
#[cfg(feature = "net")]
pub use net::transport::Carrier;
#[cfg(feature = "net")]
pub use producer::{Permit, Producer, ProducerBuilder, ProducerSink};
#[cfg(feature = "net")]
pub use watch::Watch;
