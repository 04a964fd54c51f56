//! [`ProducerBuilder`]: how a producer is set up.

use std::sync::Arc;
use std::time::Duration;

use rocketmq_protocol::message::Compression;
use rocketmq_protocol::name::validate_group;

use super::in_flight::InFlight;
use super::{Producer, Shared};
use crate::client_builder::ClientChoice;
use crate::{Client, Error};

/// Sets up a [`Producer`]: [`Producer::builder`].
#[derive(Clone)]
#[must_use]
pub struct ProducerBuilder {
    group: String,
    client: ClientChoice,
    settings: Settings,
}

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) send_timeout: Duration,
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) max_attempts: u32,
    pub(super) max_message_size: usize,
    pub(super) compression: Compression,
    pub(super) compress_above: usize,
    pub(super) default_queues: i32,
    max_in_flight: u32,
    max_in_flight_bytes: u32,
}

impl ProducerBuilder {
    pub(super) fn new(group: String) -> Self {
        let settings = Settings {
            send_timeout: Duration::from_secs(3),
            attempt_timeout: None,
            max_attempts: 3,
            max_message_size: 4 * 1024 * 1024,
            compression: Compression::Zlib,
            compress_above: 4096,
            default_queues: 4,
            max_in_flight: 8192,
            max_in_flight_bytes: 64 * 1024 * 1024,
        };
        Self { group, client: ClientChoice::own(Client::builder()), settings }
    }

    /// Where the name servers are; see [`ClientBuilder::name_servers`](crate::ClientBuilder::name_servers).
    pub fn name_servers<S: AsRef<str>>(mut self, addrs: impl IntoIterator<Item = S>) -> Self {
        self.client = ClientChoice::own(Client::builder().name_servers(addrs));
        self
    }

    /// The client to share. Default: one of its own, which ends with the producer.
    pub fn client(mut self, client: &Client) -> Self {
        self.client = ClientChoice::Shared(client.clone());
        self
    }

    /// Limit of a send: looking up the route, connecting and all attempts. Default 3 s.
    pub fn send_timeout(mut self, limit: Duration) -> Self {
        self.settings.send_timeout = limit;
        self
    }

    /// Limit of each attempt, so that a broker that hangs leaves time for another one. What it did not answer may have been
    /// stored: consumers may see the message twice, under one id. Default: all the time that is left.
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.settings.attempt_timeout = Some(limit);
        self
    }

    /// How often a message is tried, the first time included. Tries that a busy broker turned down do not count, unless
    /// there is to be only one. Default 3.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.settings.max_attempts = attempts;
        self
    }

    /// Longest body, and longest batch, in bytes. Brokers have a limit of their own (`maxMessageSize`). Default 4 MiB.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.settings.max_message_size = bytes;
        self
    }

    /// How bodies are compressed. Every consumer reads zlib; the others need 5.x. Default zlib.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.settings.compression = compression;
        self
    }

    /// Bodies of this many bytes or more are compressed, where that makes them smaller. `usize::MAX` turns it off.
    /// Default 4096.
    pub fn compress_above(mut self, bytes: usize) -> Self {
        self.settings.compress_above = bytes;
        self
    }

    /// Queues that a topic gets at most when a broker creates it because it is sent to. Default 4.
    pub fn default_queues(mut self, queues: u16) -> Self {
        self.settings.default_queues = queues.into();
        self
    }

    /// Messages and bytes of their bodies that may be in flight at the same time; sends beyond that wait. Default 8192
    /// messages and 64 MiB.
    pub fn max_in_flight(mut self, messages: u32, bytes: u32) -> Self {
        self.settings.max_in_flight = messages;
        self.settings.max_in_flight_bytes = bytes;
        self
    }

    /// Starts the producer.
    ///
    /// # Errors
    /// A group name that is not allowed or taken within the client, a setting that makes no sense, or what
    /// [`ClientBuilder::start`](crate::ClientBuilder::start) says.
    pub async fn start(self) -> Result<Producer, Error> {
        let Self { group, client, settings } = self;
        validate_group(&group)?;
        settings.check()?;
        let (client, owns_client) = client.start().await?;
        let membership = client.register_producer(&group)?;
        let in_flight = InFlight::new(settings.max_in_flight, settings.max_in_flight_bytes);
        let group = group.into();
        let shared = Shared { group, client, owns_client, membership, settings, in_flight };
        Ok(Producer { shared: Arc::new(shared) })
    }
}

impl Settings {
    fn check(&self) -> Result<(), Error> {
        let refuse = |name, reason: &str| Err(Error::InvalidArgument { name, reason: reason.to_owned() });
        if self.send_timeout.is_zero() || self.attempt_timeout.is_some_and(|limit| limit.is_zero()) {
            return refuse("send_timeout, attempt_timeout", "zero leaves no time to send");
        }
        if self.max_attempts == 0 {
            return refuse("max_attempts", "zero attempts send nothing");
        }
        if self.max_in_flight == 0 || self.max_in_flight_bytes == 0 {
            return refuse("max_in_flight", "zero lets no message through");
        }
        match self.compression.compress(b"probe", 1) {
            Ok(_) => Ok(()),
            Err(error) => refuse("compression", &error.to_string()),
        }
    }
}
