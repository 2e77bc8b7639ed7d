//! The sockets of a broker and the life of everything on them.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Endpoint, VarInt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_protocol::ErrorCode;

use crate::core::ConnectionId;
use crate::core::ledger::Pool;
use crate::options::ServeOptions;
use crate::plan::CONNECTION_BYTES;
use crate::queue::Sender;
use crate::server::connection::{Context, GOING_AWAY_WITHIN, serve};
use crate::server::endpoint::{self, Accepted, BindError, Carrier, Door, DoorLimits, bind};
use crate::server::failure::Failures;
use crate::server::http;
use crate::server::metrics::Readiness;
use crate::server::node::{NodeTask, ToNode};
use crate::server::tls::TlsIdentity;
use crate::server::transport::Transports;

/// Time that what was taken gets to be answered when the broker stops.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Time the farewell gets to reach the peers.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);

/// The broker's addresses, taken before anything else is done: whoever cannot have them leaves no trace.
#[derive(Debug)]
pub(crate) struct Sockets {
    clients: Carrier,
    address: SocketAddr,
    metrics: Option<TcpListener>,
}

impl Sockets {
    /// Binds those that are not given. Needs a runtime.
    ///
    /// # Errors
    /// Which address cannot be used, and why.
    pub(crate) fn bind(options: &ServeOptions, given: Option<Carrier>) -> Result<Self, BindError> {
        let clients = match given {
            Some(carrier) => carrier,
            None => Carrier::Socket(bind(options.listen)?),
        };
        let address =
            clients.local_address().map_err(|source| BindError::new(options.listen, "UDP", source))?;
        Ok(Self { clients, address, metrics: options.metrics.map(http::bind).transpose()? })
    }
}

/// Bound sockets that nobody is let in by yet.
#[derive(Debug)]
pub(crate) struct Network {
    endpoint: Endpoint,
    address: SocketAddr,
    metrics_listener: Option<TcpListener>,
    transports: Transports,
    context: Context,
}

impl Network {
    /// Serves QUIC on the socket for clients. Needs a runtime.
    ///
    /// # Errors
    /// Which address cannot be used, and why.
    pub(crate) fn new(
        options: &ServeOptions,
        sockets: Sockets,
        tls: &TlsIdentity,
        context: Context,
    ) -> Result<Self, BindError> {
        let Sockets { clients, address, metrics } = sockets;
        let transports = Transports::new(options.transport, &options.connections, tls);
        let endpoint = endpoint::serve(clients, &transports)
            .map_err(|source| BindError::new(options.listen, "UDP", source))?;
        Ok(Self { endpoint, address, metrics_listener: metrics, transports, context })
    }

    /// Where clients are served.
    pub(crate) const fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Where metrics are served.
    pub(crate) fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_listener.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until `stop` is cancelled or a part fails, then takes leave of the peers. Ends when the node has ended.
    pub(crate) async fn run(
        self,
        node: NodeTask,
        to_node: Sender<ToNode>,
        (stop, failures): (CancellationToken, Failures),
    ) {
        let metrics = Arc::clone(&self.context.metrics);
        let going_away = self.context.going_away.clone();
        let closed = CancellationToken::new();
        let connections = TaskTracker::new();
        let answers = node.node.answers().clone();
        let ledger = answers.ledger().clone();
        let node = tokio::task::spawn_local(node.run());
        let http = self.metrics_listener.map(|listener| {
            tokio::task::spawn_local(http::serve(listener, Arc::clone(&metrics), closed.clone()))
        });
        let limits = DoorLimits::from(&self.context.limits);
        // Whoever gets a place at the door has its memory: no stream and no window of others can take it.
        let places_bytes = (limits.connections_max as u64).saturating_mul(CONNECTION_BYTES);
        let _places = ledger
            .reserve(Pool::Connections, places_bytes)
            .expect("a broker starts only if its connections fit their share");
        let door = Door::new(self.endpoint.clone(), self.transports, limits, Arc::clone(&metrics));
        let next = Cell::new(0);
        let (context, tracker) = (self.context, connections.clone());
        let welcome = move |accepted: Accepted| {
            next.set(next.get() + 1);
            let shared = (context.clone(), answers.clone());
            tracker.spawn_local(serve(ConnectionId(next.get()), accepted, shared));
        };
        let door = tokio::task::spawn_local(door.run(going_away.clone(), welcome));
        metrics.set_readiness(Readiness::Ready);
        let failed = tokio::select! {
            () = stop.cancelled() => false,
            _failure = failures.wait() => true,
        };
        metrics.set_readiness(if failed { Readiness::Failed } else { Readiness::Draining });
        going_away.cancel();
        if !failed {
            farewell(&to_node, &connections).await;
        }
        self.endpoint.close(VarInt::from_u32(u32::from(ErrorCode::GoingAway.number())), b"the broker stops");
        // Peers that are not reachable any more learn it by their own time-out.
        let _late = tokio::time::timeout(CLOSE_WITHIN, self.endpoint.wait_idle()).await;
        connections.close();
        connections.wait().await;
        closed.cancel();
        drop(to_node);
        // A panic of one of these has been reported by its own means, or is about to be by the node's thread.
        let _door = door.await;
        let node = node.await;
        if let Some(http) = http {
            let _http = http.await;
        }
        if let Err(error) = node
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// Lets everything that was taken be answered, and peers leave by themselves.
async fn farewell(to_node: &Sender<ToNode>, connections: &TaskTracker) {
    let (done, answered) = oneshot::channel();
    if to_node.try_push(ToNode::Drain(done)).is_ok() {
        // Whoever has no answer by then gets it after the next start.
        let _late = tokio::time::timeout(ANSWER_WITHIN, answered).await;
    }
    connections.close();
    let _late = tokio::time::timeout(GOING_AWAY_WITHIN, connections.wait()).await;
}
