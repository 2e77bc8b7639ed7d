//! A real broker in the process of a test: on a free port, with a directory that is removed afterwards.
//!
//! ```no_run
//! # async fn test() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = weir_broker::testing::TestBroker::start().await?;
//! // weir_client::Client::connect(&broker.url()).await? ...
//! broker.stop().await?;
//! # Ok(()) }
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use tempfile::TempDir;

use crate::server::{Fatal, Server, StartError};
use crate::{ServeOptions, TransportChoice};

/// A running broker of a test.
#[derive(Debug)]
pub struct TestBroker {
    server: Server,
    directory: TempDir,
}

impl TestBroker {
    /// Starts a broker on a free port of the loopback address, in a new temporary directory.
    ///
    /// # Errors
    /// As [`Server::start`], or if there can be no temporary directory.
    ///
    /// # Cancel safety
    /// A broker whose start is abandoned ends by itself.
    pub async fn start() -> Result<Self, StartError> {
        let directory = TempDir::with_prefix("weir-test-").map_err(StartError::Thread)?;
        Self::start_in(directory).await
    }

    async fn start_in(directory: TempDir) -> Result<Self, StartError> {
        let options = ServeOptions {
            data_directory: directory.path().join("data"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            transport: TransportChoice::Auto,
            ..ServeOptions::default()
        };
        let server = Server::start(options).await?;
        Ok(Self { server, directory })
    }

    /// What clients connect to.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Where the data is.
    pub fn data_directory(&self) -> &Path {
        self.directory.path()
    }

    /// Stops the broker, and starts it again with the same data. It gets another port and keeps its certificate.
    ///
    /// # Errors
    /// As [`Server::start`], or what kept the broker from stopping cleanly.
    ///
    /// # Cancel safety
    /// If dropped, the broker is gone.
    pub async fn restart(self) -> Result<Self, StartError> {
        self.server.stop().await.map_err(StartError::Stopped)?;
        Self::start_in(self.directory).await
    }

    /// Stops the broker and removes its data.
    ///
    /// # Errors
    /// What kept the broker from stopping cleanly.
    ///
    /// # Cancel safety
    /// If dropped, the broker goes on stopping.
    pub async fn stop(self) -> Result<(), Fatal> {
        self.server.stop().await
    }
}
