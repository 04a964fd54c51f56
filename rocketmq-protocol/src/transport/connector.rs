//! [`Connector`]: opens connections and owns the tasks that drive them.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug_span};

use super::call::Service;
use super::connection::Connection;
use super::driver::Driver;
use super::error::RequestError;
use super::socket::{TransportOptions, tune};

/// Opens connections. When it is dropped, they close.
pub struct Connector {
    options: TransportOptions,
    service: Arc<dyn Service>,
    tasks: TaskTracker,
    /// Ends connections once what is queued was written.
    stop: CancellationToken,
    /// Ends them at once, when the connector is dropped.
    kill: CancellationToken,
    _killer: DropGuard,
}

impl Connector {
    /// A connector whose connections serve the requests of their peers with `service`.
    pub fn new(options: TransportOptions, service: Arc<dyn Service>) -> Self {
        let kill = CancellationToken::new();
        Self {
            options,
            service,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            _killer: kill.clone().drop_guard(),
            kill,
        }
    }

    /// Connects to `addr`, `host:port`.
    ///
    /// # Cancel safety
    /// A dropped call opens nothing.
    ///
    /// # Errors
    /// [`RequestError::Connect`], also when it takes longer than the connect timeout.
    pub async fn connect(&self, addr: &str) -> Result<Connection, RequestError> {
        let limit = self.options.connect_timeout;
        let failed = |source| RequestError::Connect { addr: addr.to_owned(), source };
        let stream = tokio::time::timeout(limit, TcpStream::connect(addr))
            .await
            .unwrap_or_else(|_| {
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("not connected within {limit:?}")))
            })
            .map_err(failed)?;
        self.adopt(stream, addr).map_err(failed)
    }

    fn adopt(&self, stream: TcpStream, addr: &str) -> io::Result<Connection> {
        tune(&stream)?;
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
        let kill = self.kill.child_token();
        let connection = Connection::new(addr.to_owned(), peer, local, self.options.clone(), kill);
        let driver = Driver::new(stream, connection.clone(), Arc::clone(&self.service));
        let span = debug_span!("connection", %peer, role = "client");
        self.tasks.spawn(driver.run(self.stop.clone()).instrument(span));
        Ok(connection)
    }

    /// Closes every connection after what is queued was written, and waits for their tasks.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
