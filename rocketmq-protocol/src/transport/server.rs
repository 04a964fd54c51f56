//! [`Server`]: accepts connections and owns the tasks that drive them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, debug_span, warn};

use super::call::Service;
use super::connection::Connection;
use super::driver::Driver;
use super::socket::{TransportOptions, tune};

/// How a [`Server`] serves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerOptions {
    /// What its connections have in common.
    pub transport: TransportOptions,
    /// Connections above which a new one is closed at once. Default 65535.
    pub max_connections: usize,
    /// Who it is, for the log: `broker`, `name server`.
    pub role: &'static str,
}

impl ServerOptions {
    /// The defaults.
    pub fn new(role: &'static str) -> Self {
        Self { transport: TransportOptions::default(), max_connections: 65_535, role }
    }
}

/// Accepts connections until it is shut down or dropped.
pub struct Server {
    local: SocketAddr,
    ends: Ends,
    tasks: TaskTracker,
    accepting: JoinHandle<()>,
    _killer: DropGuard,
}

/// How connections are told to end.
#[derive(Clone, Default)]
struct Ends {
    /// Once the requests in progress are answered.
    stop: CancellationToken,
    /// At once.
    kill: CancellationToken,
}

impl Server {
    /// Listens on `addr`; port 0 takes a free one.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(
        addr: SocketAddr,
        service: Arc<dyn Service>,
        options: ServerOptions,
    ) -> io::Result<Self> {
        Self::serve(TcpListener::bind(addr).await?, service, options)
    }

    /// Accepts from a listener that was bound before, for those who must know its port to build the service.
    ///
    /// # Errors
    /// The listener has no address.
    pub fn serve(
        listener: TcpListener,
        service: Arc<dyn Service>,
        options: ServerOptions,
    ) -> io::Result<Self> {
        let local = listener.local_addr()?;
        let ends = Ends::default();
        let tasks = TaskTracker::new();
        let accepting = tokio::spawn(accept(listener, service, options, tasks.clone(), ends.clone()));
        Ok(Self { local, _killer: ends.kill.clone().drop_guard(), ends, tasks, accepting })
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Stops accepting, answers the requests in progress, up to `grace`, and closes every connection.
    pub async fn shutdown(self, grace: Duration) {
        self.ends.stop.cancel();
        self.accepting.await.ok(); // it ends when told; a panic was reported where it happened
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            debug!(connections = self.tasks.len(), "closing with requests in progress");
            self.ends.kill.cancel();
            self.tasks.wait().await;
        }
    }
}

async fn accept(
    listener: TcpListener,
    service: Arc<dyn Service>,
    options: ServerOptions,
    tasks: TaskTracker,
    ends: Ends,
) {
    loop {
        let accepted = tokio::select! {
            () = ends.stop.cancelled() => return,
            () = ends.kill.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) if tasks.len() >= options.max_connections => {
                warn!(%peer, limit = options.max_connections, "connection refused: too many");
                drop(stream);
            }
            Ok((stream, peer)) => {
                if let Err(error) = start(stream, peer, &service, &options, &tasks, &ends) {
                    debug!(%peer, %error, "connection lost at once");
                }
            }
            Err(error) => {
                // Out of descriptors, mostly. Accepting again at once would spin.
                warn!(%error, role = options.role, "cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn start(
    stream: TcpStream,
    peer: SocketAddr,
    service: &Arc<dyn Service>,
    options: &ServerOptions,
    tasks: &TaskTracker,
    ends: &Ends,
) -> io::Result<()> {
    tune(&stream)?;
    let local = stream.local_addr()?;
    let kill = ends.kill.child_token();
    let connection = Connection::new(peer.to_string(), peer, local, options.transport.clone(), kill);
    let driver = Driver::new(stream, connection, Arc::clone(service));
    let span = debug_span!("connection", %peer, role = options.role);
    tasks.spawn(driver.run(ends.stop.clone()).instrument(span));
    Ok(())
}
