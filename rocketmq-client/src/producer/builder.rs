//! [`ProducerBuilder`]: how a producer is set up.

use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use rocketmq_protocol::message::Compression;
use rocketmq_protocol::name::{SELF_TEST_TOPIC, validate_group};
use rocketmq_protocol::{ByteString, ResponseCode};
use tokio::sync::mpsc;

use super::accumulate::{Accumulate, Accumulator};
use super::fault_table::{FaultTable, LatencyFault};
use super::in_flight::InFlight;
use super::interceptor::{Interceptors, SendInterceptor};
use super::transaction::TransactionProducer;
use super::transaction_check::{CHECKS_HELD, TransactionChecker, answer_checks};
use super::{Producer, Shared};
use crate::client_builder::ClientChoice;
use crate::members::ProducerRegistration;
use crate::trace::{Propagation, Trace, TraceContext};
use crate::{Client, Error};

/// Sets up a [`Producer`]: [`Producer::builder`].
#[must_use]
pub struct ProducerBuilder {
    group: String,
    client: ClientChoice,
    topics: Vec<ByteString>,
    interceptors: Vec<Box<dyn SendInterceptor>>,
    trace: Option<Trace>,
    settings: Settings,
}

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) send_timeout: Duration,
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) max_attempts: u32,
    pub(super) max_message_size: usize,
    pub(super) retry_not_ok: bool,
    pub(super) retry_codes: Vec<ResponseCode>,
    pub(super) require_ok: bool,
    pub(super) latency_fault: Option<LatencyFault>,
    pub(super) accumulate: Option<Accumulate>,
    pub(super) compression: Compression,
    pub(super) compression_level: u32,
    pub(super) compress_above: usize,
    pub(super) default_queues: i32,
    max_in_flight: u32,
    max_in_flight_bytes: u32,
    wait_for_room: bool,
}

impl ProducerBuilder {
    pub(super) fn new(group: String) -> Self {
        let settings = Settings {
            send_timeout: Duration::from_secs(3),
            attempt_timeout: None,
            max_attempts: 3,
            max_message_size: 4 * 1024 * 1024,
            retry_not_ok: false,
            retry_codes: Vec::new(),
            require_ok: false,
            latency_fault: None,
            accumulate: None,
            compression: Compression::Zlib,
            compression_level: 5,
            compress_above: 4096,
            default_queues: 4,
            max_in_flight: 8192,
            max_in_flight_bytes: 64 * 1024 * 1024,
            wait_for_room: true,
        };
        let client = ClientChoice::own(Client::builder());
        Self { group, client, topics: Vec::new(), interceptors: Vec::new(), trace: None, settings }
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

    /// Topics that will be sent to: their routes are asked for at the start, and their brokers learn of the group before the
    /// first send. A transactional producer is asked about transactions by these brokers; without any, by every broker that
    /// the name servers know.
    pub fn topics<T: Into<ByteString>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics = topics.into_iter().map(Into::into).collect();
        self
    }

    /// What runs around every send, after those given before.
    pub fn interceptor(mut self, interceptor: impl SendInterceptor) -> Self {
        self.interceptors.push(Box::new(interceptor));
        self
    }

    /// Tells consumers in which span a message was sent: what `current` says within the task of the send, unless the message has
    /// a context of its own.
    pub fn trace_context(self, current: impl Fn() -> Option<TraceContext> + Send + Sync + 'static) -> Self {
        self.interceptor(Propagation(current))
    }

    /// Tells a topic what was sent, where and how fast. Default off.
    pub fn trace(mut self, trace: Trace) -> Self {
        self.trace = Some(trace);
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

    /// Whether a message that is stored, but not as safely as the broker is set up to ([`SendStatus`](crate::SendStatus)),
    /// is sent to another broker as well. Consumers see it more than once then. Default false.
    pub fn retry_not_ok(mut self, retry: bool) -> Self {
        self.settings.retry_not_ok = retry;
        self
    }

    /// Refusals after which another broker is tried, beside those where it always is: `SYSTEM_ERROR`, `SYSTEM_BUSY`,
    /// `SERVICE_NOT_AVAILABLE`, `NO_PERMISSION`, `TOPIC_NOT_EXIST`, `NO_BUYER_ID`, `NOT_IN_CURRENT_UNIT`, `GO_AWAY`.
    pub fn retry_codes(mut self, codes: impl IntoIterator<Item = ResponseCode>) -> Self {
        self.settings.retry_codes = codes.into_iter().collect();
        self
    }

    /// Whether a message that is stored, but not as safely as the broker is set up to, is an error
    /// ([`Error::NotSafelyStored`]) instead of a receipt. Default false.
    pub fn require_ok(mut self, required: bool) -> Self {
        self.settings.require_ok = required;
        self
    }

    /// Passes over brokers that were slow or failed, for a while. It may change the broker of a queue in turn only; queues
    /// chosen by the caller stay. Default off.
    pub fn latency_fault(mut self, rules: LatencyFault) -> Self {
        self.settings.latency_fault = Some(rules);
        self
    }

    /// Gathers single sends into batches, each send waiting a little for others. Default off.
    pub fn accumulate(mut self, accumulate: Accumulate) -> Self {
        self.settings.accumulate = Some(accumulate);
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

    /// How hard to compress, as the compression counts it: zlib from 1, fast, to 9, small. Default 5.
    pub fn compression_level(mut self, level: u32) -> Self {
        self.settings.compression_level = level;
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

    /// Messages and bytes of their bodies that may be in flight at the same time; sends beyond that wait, unless
    /// [`fail_when_full`](Self::fail_when_full). Default 8192 messages and 64 MiB.
    pub fn max_in_flight(mut self, messages: u32, bytes: u32) -> Self {
        self.settings.max_in_flight = messages;
        self.settings.max_in_flight_bytes = bytes;
        self
    }

    /// Sends that find no room ([`max_in_flight`](Self::max_in_flight)) fail at once with [`Error::Overloaded`] instead of
    /// waiting for it.
    pub fn fail_when_full(mut self) -> Self {
        self.settings.wait_for_room = false;
        self
    }

    /// Starts the producer.
    ///
    /// # Errors
    /// A group name that is not allowed or taken within the client, a setting that makes no sense, or what
    /// [`ClientBuilder::start`](crate::ClientBuilder::start) says.
    pub async fn start(self) -> Result<Producer, Error> {
        self.start_with(None).await
    }

    /// Starts a producer of messages in transactions, whose outcome brokers ask `checker` for where they did not get it.
    /// They know of it when this returns: it may be asked before it sends anything, about transactions of other producers
    /// of the group.
    ///
    /// # Errors
    /// As [`ProducerBuilder::start`].
    pub async fn start_transactional(
        self,
        checker: impl TransactionChecker,
    ) -> Result<TransactionProducer, Error> {
        Ok(TransactionProducer::new(self.start_with(Some(Arc::new(checker))).await?))
    }

    /// Compiled here, once: an `async fn` is compiled wherever it is awaited.
    fn start_with(
        self,
        checker: Option<Arc<dyn TransactionChecker>>,
    ) -> BoxFuture<'static, Result<Producer, Error>> {
        Box::pin(self.launch(checker))
    }

    async fn launch(self, checker: Option<Arc<dyn TransactionChecker>>) -> Result<Producer, Error> {
        let Self { group, client, mut topics, mut interceptors, trace, settings } = self;
        validate_group(&group)?;
        settings.check()?;
        let (client, owns_client) = client.start().await?;
        let group = client.core().namespace.wrap(&group.into());
        let (checks, checked) = checker
            .map(|checker| {
                let (sender, checks) = mpsc::channel(CHECKS_HELD);
                (sender, (checker, checks))
            })
            .unzip();
        let membership =
            client.register_producer(ProducerRegistration { group: group.to_string(), checks })?;
        let room = (settings.max_in_flight, settings.max_in_flight_bytes);
        let in_flight = InFlight::new(room.0, room.1, settings.wait_for_room);
        let faults = settings.latency_fault.clone().map(|rules| Arc::new(FaultTable::new(rules)));
        if let Some(faults) = &faults {
            let core = client.core();
            core.spawn(FaultTable::detect(Arc::downgrade(faults), Arc::clone(core)));
        }
        let tracer = match trace {
            Some(trace) => Some(trace.start(&client, &group, "PRODUCE").await?),
            None => None,
        };
        interceptors.extend(tracer.clone().map(|tracer| Box::new(tracer) as Box<dyn SendInterceptor>));
        let interceptors: Interceptors = interceptors.into();
        if let Some((checker, checks)) = checked {
            if topics.is_empty() {
                topics.push(ByteString::from_static(SELF_TEST_TOPIC)); // every broker has it
            }
            let answering = answer_checks(checks, checker, group.clone(), Arc::clone(&interceptors));
            client.core().spawn(answering);
        }
        let accumulator = settings.accumulate.clone().map(Accumulator::new);
        let shared = Shared {
            group,
            client,
            owns_client,
            membership,
            settings,
            in_flight,
            faults,
            interceptors,
            accumulator,
            tracer,
        };
        let producer = Producer { shared: Arc::new(shared) };
        producer.preload(&topics).await;
        Ok(producer)
    }
}

impl Settings {
    fn check(&self) -> Result<(), Error> {
        let refuse = |name, reason: &str| Err(Error::InvalidArgument { name, reason: reason.to_owned() });
        if self.send_timeout.is_zero() || self.attempt_timeout.is_some_and(|limit| limit.is_zero()) {
            return refuse("send_timeout, attempt_timeout", "zero leaves no time to send");
        }
        if self.latency_fault.as_ref().is_some_and(|rules| !rules.is_sound()) {
            return refuse("latency_fault", "an interval of zero would be asking all the time");
        }
        if let Some(Err(reason)) = self.accumulate.as_ref().map(Accumulate::check) {
            return refuse("accumulate", &reason);
        }
        if self.max_attempts == 0 {
            return refuse("max_attempts", "zero attempts send nothing");
        }
        if self.max_in_flight == 0 || self.max_in_flight_bytes == 0 {
            return refuse("max_in_flight", "zero lets no message through");
        }
        match self.compression.compress(b"probe", self.compression_level) {
            Ok(_) => Ok(()),
            Err(error) => refuse("compression", &error.to_string()),
        }
    }
}
