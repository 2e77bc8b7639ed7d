//! The driver: tokio and quinn around the machines.
//!
//! All network work of a client runs on one thread of its own with a current-thread runtime (unless
//! [`ClientBuilder::on_current_runtime`](crate::ClientBuilder::on_current_runtime) says otherwise). Reasons: QUIC on a
//! current-thread runtime was measured at half to three quarters of the processor time of a multi-threaded one; encryption runs
//! beside the application instead of in its tasks; and a client works under every kind of runtime, even where blocking code
//! starves it. The price is one change of threads per batch, not per record.
//!
//! * [`link`]: one task for each client keeps the connection and its control stream.
//! * [`publish`]: one task for each producer, and within it one future for each lane.
//! * [`subscribe`]: the same for each consumer.
//!
//! Application threads never wait for the network thread: they change a machine under a short lock and wake a task. No lock
//! is held across an await.

pub(crate) mod connect;
pub(crate) mod frames;
pub(crate) mod lane;
pub(crate) mod link;
pub(crate) mod member;
pub(crate) mod pool;
pub(crate) mod publish;
pub(crate) mod runtime;
pub(crate) mod shared;
pub(crate) mod subscribe;
pub(crate) mod tls;
pub(crate) mod transport;
