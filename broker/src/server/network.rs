//! The sockets of a broker and the life of everything on them.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use quinn::VarInt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_protocol::ErrorCode;

use crate::core::ConnectionId;
use crate::options::ServeOptions;
use crate::queue::Sender;
use crate::server::connection::{Context, GOING_AWAY_WITHIN, serve};
use crate::server::failure::Failures;
use crate::server::node::{NodeTask, ToNode};

/// Time that what was taken gets to be answered when the broker stops.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Time the farewell gets to reach the peers.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);
