//! [`Standalone`]: a name server and a broker in one process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use rocketmq_namesrv_lite::{NameServer, NameServerError};
use rocketmq_protocol::transport::Clock;
use tempfile::TempDir;

use crate::broker::{Broker, BrokerError};
use crate::config::{BrokerConfig, ConfigError};

/// Why a [`Standalone`] does not start, or did not stop well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StandaloneError {
    /// The name server.
    #[error(transparent)]
    NameServer(#[from] NameServerError),
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// No temporary folder could be made.
    #[error("cannot make a temporary folder for the store")]
    Folder(#[source] std::io::Error),
}

/// Builds a [`Standalone`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct StandaloneBuilder {
    config: BrokerConfig,
    store: Option<PathBuf>,
    listen: SocketAddr,
    name_server_listen: SocketAddr,
    clock: Clock,
}

impl StandaloneBuilder {
    /// Takes all settings of the broker at once. Its folder is only used when [`StandaloneBuilder::store`] says so.
    pub fn config(mut self, config: BrokerConfig) -> Self {
        self.config = config;
        self
    }

    /// Changes one setting of the broker, by the key of Java's `broker.conf`.
    ///
    /// # Errors
    /// Nobody knows the key, or the value does not fit it.
    pub fn set(mut self, key: &str, value: &str) -> Result<Self, ConfigError> {
        self.config.set(key, value)?;
        Ok(self)
    }

    /// Keeps the messages in this folder, which stays. Default: a temporary one, which goes away.
    pub fn store(mut self, folder: impl Into<PathBuf>) -> Self {
        self.store = Some(folder.into());
        self
    }

    /// Where the broker listens. Default: a free port of 127.0.0.1.
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.listen = addr;
        self
    }

    /// Where the name server listens. Default: a free port of 127.0.0.1.
    pub fn name_server_listen(mut self, addr: SocketAddr) -> Self {
        self.name_server_listen = addr;
        self
    }

    /// Goes by this clock.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Starts both. When this returns, the broker is registered and takes messages.
    ///
    /// # Errors
    /// See [`StandaloneError`].
    pub async fn start(self) -> Result<Standalone, StandaloneError> {
        let Self { mut config, store, listen, name_server_listen, clock } = self;
        let (folder, root) = match store {
            Some(root) => (None, root),
            None => {
                let folder = tempfile::Builder::new()
                    .prefix("rocketmq-")
                    .tempdir()
                    .map_err(StandaloneError::Folder)?;
                let root = folder.path().to_owned();
                (Some(folder), root)
            }
        };
        let name_server = NameServer::builder()
            .listen(name_server_listen)
            .kv_config_path(root.join("namesrv").join("kvConfig.json"))
            .clock(clock.clone())
            .start()
            .await?;
        config.store_root = root;
        let broker = Broker::builder()
            .config(config)
            .listen(listen)
            .name_servers([loopback(name_server.local_addr()).to_string()])
            .clock(clock)
            .start()
            .await?;
        Ok(Standalone { broker, name_server, folder })
    }
}

/// How a server that listens on every interface is reached from its own process.
fn loopback(addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() { SocketAddr::from((Ipv4Addr::LOCALHOST, addr.port())) } else { addr }
}

/// A name server and a broker in the caller's process. Any number may run side by side.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use rocketmq_broker_lite::Standalone;
///
/// let cluster = Standalone::builder().start().await?;
/// println!("name server at {}", cluster.name_server_addr());
/// cluster.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub struct Standalone {
    broker: Broker,
    name_server: NameServer,
    /// Goes away last, with all that was stored.
    folder: Option<TempDir>,
}

impl Standalone {
    /// A builder with the defaults of Java's broker, but for small files: a commit log file has 16 MiB, an index file 8 MiB; that a
    /// disk which others have filled neither refuses messages nor deletes any, as long as there is room; and that SQL92 filters are
    /// allowed.
    pub fn builder() -> StandaloneBuilder {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = BrokerConfig {
            commit_log_file_size: 16 * 1024 * 1024,
            index_slots: 100_000,
            index_items: 400_000,
            clean_file_forcibly: false,
            disk_space_warning_level_ratio: 100,
            property_filter: true,
            ..BrokerConfig::default()
        };
        StandaloneBuilder {
            config,
            store: None,
            listen: any_port,
            name_server_listen: any_port,
            clock: Clock::system(),
        }
    }

    /// `host:port` that clients take as their name server.
    pub fn name_server_addr(&self) -> String {
        loopback(self.name_server.local_addr()).to_string()
    }

    /// The broker.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The clock of both. A test may put it forward.
    pub fn clock(&self) -> &Clock {
        self.broker.clock()
    }

    /// Stops the broker, then the name server, and removes a temporary folder.
    ///
    /// # Errors
    /// The broker could not write something.
    pub async fn shutdown(self) -> Result<(), StandaloneError> {
        let Self { broker, name_server, folder } = self;
        let stopped = broker.shutdown().await;
        name_server.shutdown().await;
        if let Some(folder) = folder {
            let removing = tokio::task::spawn_blocking(move || folder.close());
            removing
                .await
                .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
                .map_err(StandaloneError::Folder)?;
        }
        Ok(stopped?)
    }
}
