//! [`ClientBuilder`]: how a client is set up.

use std::sync::Arc;
use std::time::Duration;

use rocketmq_protocol::transport::TransportOptions;

use crate::name_server::{NAMESRV_ADDR, parse_list};
use crate::namespace::Namespace;
use crate::{Client, Error, discovery};

/// Sets up a [`Client`]: [`Client::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientBuilder {
    name_servers: Vec<Arc<str>>,
    name_server_url: Option<String>,
    id: Option<String>,
    options: Options,
    transport: TransportOptions,
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) request_timeout: Duration,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) route_interval: Duration,
    /// The client's id ends with `@STREAM`.
    pub(crate) streaming: bool,
    pub(crate) namespace: Namespace,
}

impl ClientBuilder {
    pub(crate) fn new() -> Self {
        Self {
            name_servers: Vec::new(),
            name_server_url: None,
            id: None,
            options: Options {
                request_timeout: Duration::from_secs(3),
                heartbeat_interval: Duration::from_secs(30),
                route_interval: Duration::from_secs(30),
                streaming: false,
                namespace: Namespace::default(),
            },
            transport: TransportOptions::default(),
        }
    }

    /// Where the name servers are: `host:port` each; `;` may join several. Without this, the environment variable
    /// `NAMESRV_ADDR` says it, then [`ClientBuilder::name_server_url`].
    pub fn name_servers<S: AsRef<str>>(mut self, addrs: impl IntoIterator<Item = S>) -> Self {
        self.name_servers =
            addrs.into_iter().flat_map(|text| parse_list(text.as_ref()).collect::<Vec<_>>()).collect();
        self
    }

    /// Where the list of name servers is fetched from, at the start and every two minutes, when neither
    /// [`ClientBuilder::name_servers`] nor the environment names any. Java builds `http://<domain>:8080/rocketmq/nsaddr`.
    pub fn name_server_url(mut self, url: impl Into<String>) -> Self {
        self.name_server_url = Some(url.into());
        self
    }

    /// What brokers know the client by. It must differ from that of every other client of its consumer groups. Default
    /// `ip@pid#random`, unique.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Limit of routes, heartbeats and other small requests. Default 3 s.
    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.options.request_timeout = limit;
        self
    }

    /// How often brokers hear that the client is alive. They give it up after 120 s. Default 30 s.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.options.heartbeat_interval = interval;
        self
    }

    /// How often routes are asked for again; a failure does so at once. Default 30 s.
    pub fn route_interval(mut self, interval: Duration) -> Self {
        self.options.route_interval = interval;
        self
    }

    /// Keeps topics and groups apart from those of other namespaces by a prefix (`NAME%`) that only brokers see, as Java's
    /// `namespace`. Names that have it already keep it, those of the system get none. Default none.
    pub fn namespace(mut self, name: &str) -> Self {
        self.options.namespace = Namespace::new(name);
        self
    }

    /// Limit of one connection attempt. Default 3 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.transport.connect_timeout = limit;
        self
    }

    /// Starts the client within the current tokio runtime. It connects when it has something to ask.
    ///
    /// # Errors
    /// [`Error::NoNameServer`] when nobody says where they are, [`Error::Discovery`] when their list cannot be fetched,
    /// [`Error::InvalidArgument`] for a setting of zero.
    pub async fn start(self) -> Result<Client, Error> {
        for (name, value) in [
            ("request_timeout", self.options.request_timeout),
            ("heartbeat_interval", self.options.heartbeat_interval),
            ("route_interval", self.options.route_interval),
            ("connect_timeout", self.transport.connect_timeout),
        ] {
            if value.is_zero() {
                return Err(Error::InvalidArgument { name, reason: "zero is no duration to wait".into() });
            }
        }
        let (name_servers, url) = self.find_name_servers().await?;
        Ok(Client::launch(self.id, self.options, self.transport, name_servers, url))
    }

    /// The name servers, and the URL to ask again where they came from one.
    async fn find_name_servers(&self) -> Result<(Vec<Arc<str>>, Option<String>), Error> {
        if !self.name_servers.is_empty() {
            return Ok((self.name_servers.clone(), None));
        }
        let from_environment: Vec<_> =
            std::env::var(NAMESRV_ADDR).iter().flat_map(|list| parse_list(list)).collect();
        if !from_environment.is_empty() {
            return Ok((from_environment, None));
        }
        match &self.name_server_url {
            Some(url) => Ok((discovery::fetch(url).await?, Some(url.clone()))),
            None => Err(Error::NoNameServer),
        }
    }
}

/// The client that a producer or consumer is built with.
#[derive(Clone)]
pub(crate) enum ClientChoice {
    /// One that others may use too.
    Shared(Client),
    /// One of its own, started and shut down with it.
    Own(Box<ClientBuilder>),
}

impl ClientChoice {
    pub(crate) fn own(builder: ClientBuilder) -> Self {
        Self::Own(Box::new(builder))
    }

    /// As the client of a consumer that pulls when its user wants: its id says so, unless the user has given one. Java:
    /// `ClientConfig.buildMQClientId`.
    pub(crate) fn streaming(self) -> Self {
        match self {
            Self::Shared(client) => Self::Shared(client),
            Self::Own(mut builder) => {
                builder.options.streaming = true;
                Self::Own(builder)
            }
        }
    }

    /// What its topics and groups are kept apart by.
    pub(crate) fn namespace(&self) -> Namespace {
        match self {
            Self::Shared(client) => client.core().namespace.clone(),
            Self::Own(builder) => builder.options.namespace.clone(),
        }
    }

    /// The running client, and whether it must be shut down by whoever was built with it.
    pub(crate) async fn start(self) -> Result<(Client, bool), Error> {
        match self {
            Self::Shared(client) => Ok((client, false)),
            Self::Own(builder) => Ok((builder.start().await?, true)),
        }
    }
}
