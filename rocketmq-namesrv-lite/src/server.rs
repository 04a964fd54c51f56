//! [`NameServer`]: a running name server.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rocketmq_protocol::transport::{Clock, Server, ServerOptions};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use crate::config::NameServerBuilder;
use crate::dispatch::{Dispatch, Routes};
use crate::kv_config::{KvConfig, KvConfigError};
use crate::route_table::Departed;

/// How long a shutdown waits for requests in progress.
const GRACE: Duration = Duration::from_secs(3);

/// A broker's time is over this much later than it said. Real time: when the clock was put forward, or the machine
/// slept, the heartbeats that were due in between arrive first.
const LENIENCE: Duration = Duration::from_millis(500);

/// A running name server. When it is dropped, it ends at once; [`NameServer::shutdown`] ends it in order.
pub struct NameServer {
    server: Server,
    expiry: JoinHandle<()>,
    kv_writer: JoinHandle<()>,
    stop: DropGuard,
}

/// Why a name server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The key-value configuration cannot be read.
    #[error(transparent)]
    KvConfig(#[from] KvConfigError),
}

impl NameServerBuilder {
    /// Starts the name server; it listens when this returns.
    ///
    /// # Errors
    /// See [`NameServerError`].
    pub async fn start(self) -> Result<NameServer, NameServerError> {
        self.boxed().await
    }

    /// Compiled here, once: an `async fn` is compiled wherever it is awaited.
    fn boxed(self) -> Pin<Box<dyn Future<Output = Result<NameServer, NameServerError>> + Send>> {
        Box::pin(self.launch())
    }

    async fn launch(self) -> Result<NameServer, NameServerError> {
        if !self.ignored.is_empty() {
            warn!(keys = self.ignored.join(" "), "keys of Java's name server that this one does not act on");
        }
        let (kv, writer) = KvConfig::open(self.kv_config_path).await?;
        let routes = Arc::new(Routes::default());
        let dispatch = Dispatch::new(Arc::clone(&routes), kv, self.settings, self.clock.clone());
        let mut options = ServerOptions::new("name server");
        options.transport.idle_timeout = Duration::from_secs(self.idle_seconds.into());
        let server = Server::bind(self.listen, Arc::new(dispatch), options)
            .await
            .map_err(|source| NameServerError::Listen { addr: self.listen, source })?;
        info!(addr = %server.local_addr(), "name server listens");
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let expiry = tokio::spawn(async move {
            stopped.run_until_cancelled(expire(&routes, &self.clock)).await;
        });
        let kv_writer = tokio::spawn(writer.run());
        Ok(NameServer { server, expiry, kv_writer, stop: stop.drop_guard() })
    }
}

impl NameServer {
    /// A name server with the defaults, to be changed and started.
    pub fn builder() -> NameServerBuilder {
        NameServerBuilder::default()
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Stops accepting, answers the requests in progress, up to 3 s, and closes every connection. Changes of the
    /// key-value configuration that were answered are on disk.
    pub async fn shutdown(self) {
        let addr = self.local_addr();
        self.server.shutdown(GRACE).await;
        drop(self.stop);
        for task in [self.expiry, self.kv_writer] {
            task.await.ok(); // a panic was reported where it happened
        }
        info!(%addr, "name server stopped");
    }
}

/// Removes brokers whose time is over. Sleeps until the earliest deadline, not in between.
async fn expire(routes: &Routes, clock: &Clock) {
    loop {
        let moved = routes.deadline_moved.notified();
        let next = routes.read().next_expiry_ms();
        let due = async {
            match next {
                Some(at_ms) => clock.sleep_until(at_ms).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = moved => continue,
            () = due => {}
        }
        tokio::time::sleep(LENIENCE).await;
        let departed = routes.write().expire(clock.now_ms());
        for Departed { broker, id, addr, connection } in departed {
            warn!(%broker, id, %addr, "broker gone: silent for too long");
            connection.close();
        }
    }
}
