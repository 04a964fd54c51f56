//! [`Connections`]: one connection per address, opened when it is first wanted.

use std::io;
use std::sync::Arc;

use dashmap::DashMap;
use futures_core::future::BoxFuture;
use rocketmq_protocol::transport::{Connection, Connector, RequestError, Service, TransportOptions};
use rustc_hash::FxBuildHasher;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::deadline::Deadline;
use crate::single_flight::SingleFlight;

/// The connections of a client.
pub(crate) struct Connections {
    connector: Connector,
    /// By address as it was asked for. Guards are never held while waiting.
    open: DashMap<Arc<str>, Connection, FxBuildHasher>,
    opening: SingleFlight<Arc<str>, Result<Connection, Error>>,
    /// A connection was opened: its peer has had no heartbeat on it yet.
    pub(crate) opened: Notify,
    stop: CancellationToken,
}

impl Connections {
    /// `service` gets the requests of peers; nothing is opened once `stop` is cancelled.
    pub(crate) fn new(options: TransportOptions, service: Arc<dyn Service>, stop: CancellationToken) -> Self {
        Self {
            connector: Connector::new(options, service),
            open: DashMap::default(),
            opening: SingleFlight::new(),
            opened: Notify::new(),
            stop,
        }
    }

    /// The open connection to `addr`, if there is one.
    pub(crate) fn get(&self, addr: &str) -> Option<Connection> {
        self.open.get(addr).filter(|connection| !connection.is_closed()).map(|connection| connection.clone())
    }

    /// The connection to `addr`, opened if need be.
    ///
    /// # Cancel safety
    /// A dropped call opens nothing, unless others wait for the same.
    pub(crate) async fn connect(&self, addr: &Arc<str>, deadline: Deadline) -> Result<Connection, Error> {
        match self.get(addr) {
            Some(connection) => Ok(connection),
            None => self.open_in_time(addr, deadline).await,
        }
    }

    /// In a box: what is rare need not be part of every future that may come to it.
    fn open_in_time<'a>(
        &'a self,
        addr: &'a Arc<str>,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<Connection, Error>> {
        Box::pin(async move {
            let opened = deadline.run("connecting", self.opening.run(addr, || self.open(addr))).await;
            opened.unwrap_or_else(|_| {
                let waited = format!("not connected within {:?}", deadline.elapsed());
                let source = io::Error::new(io::ErrorKind::TimedOut, waited);
                Err(RequestError::Connect { addr: addr.to_string(), source }.into())
            })
        })
    }

    async fn open(&self, addr: &Arc<str>) -> Result<Connection, Error> {
        if let Some(connection) = self.get(addr) {
            return Ok(connection); // somebody was done between our look and our turn
        }
        if self.stop.is_cancelled() {
            return Err(Error::Closed { what: "the client" });
        }
        let connection = self.connector.connect(addr).await?;
        self.open.insert(Arc::clone(addr), connection.clone());
        self.opened.notify_one();
        Ok(connection)
    }

    /// Closes the connections to addresses where nobody lives any more, and forgets those that are gone.
    pub(crate) fn close<'a>(&self, abandoned: impl Iterator<Item = &'a Arc<str>>) {
        for addr in abandoned {
            if let Some((_, connection)) = self.open.remove(addr) {
                tracing::debug!(peer = %addr, "connection closed: no route and no list names the address");
                connection.close();
            }
        }
        self.open.retain(|_, connection| !connection.is_closed());
    }

    /// Closes every connection after what is queued was written.
    pub(crate) async fn shutdown(&self) {
        self.connector.shutdown().await;
        self.open.clear();
    }
}
