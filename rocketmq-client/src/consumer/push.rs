//! [`PushConsumer`]: has messages handled as they come.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rocketmq_protocol::QueueOffset;
use rocketmq_protocol::body::MessageQueue;

use super::assigned_queue::AssignedQueue;
use super::handler::{Ack, Batch, HandlerError, HandlerFn, MessageListener};
use super::listener::Listener;
use super::member::{Member, Setup, check_between, invalid, member_methods, setup_methods};
use super::orderly::{OrderlyAck, OrderlyContext, OrderlyFn, OrderlyListener};
use crate::{Error, ReceivedMessage};

/// Has messages handled as they come.
///
/// The members of a group share the queues of the topics they subscribe to. Each message is handled at least once: one
/// whose handler fails comes again after a while, and the group's offset moves only past messages that were handled or
/// that the broker has stored for another try. After a crash, or when a queue moves to another member, some come again.
///
/// It comes in three arrangements:
/// - with a [`handler`](PushConsumerBuilder::handler), messages are handled several at a time and in no order;
/// - [`ordered`](PushConsumerBuilder::ordered), those of one queue are handled one after the other, by one member at a time;
/// - [`broadcasting`](PushConsumerBuilder::broadcasting), every member gets every message.
///
/// Dropping it stops it at once; messages being handled then come again. [`PushConsumer::shutdown`] stops it gracefully.
///
/// ```no_run
/// # async fn example() -> Result<(), rocketmq_client::Error> {
/// use std::time::Duration;
///
/// use rocketmq_client::{Ack, Filter, PushConsumer};
///
/// let consumer = PushConsumer::builder("invoices")
///     .name_servers(["127.0.0.1:9876"])
///     .subscribe("orders", Filter::tags(["paid", "refunded"]))
///     .handler(|messages| async move {
///         for message in &messages {
///             println!("{}: {} bytes", message.topic(), message.body()?.len());
///         }
///         Ok(Ack::All)
///     })
///     .start()
///     .await?;
/// // …
/// consumer.shutdown(Duration::from_secs(30)).await?;
/// # Ok(())
/// # }
/// ```
pub struct PushConsumer {
    member: Member,
}

/// Sets up a [`PushConsumer`]: [`PushConsumer::builder`].
#[must_use]
pub struct PushConsumerBuilder {
    pub(super) setup: Setup,
}

/// A queue of an ordered consumer whose next message keeps failing: nothing behind it is handled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StuckQueue {
    /// The queue.
    pub queue: MessageQueue,
    /// Where the message is.
    pub offset: QueueOffset,
    /// How often it has failed here.
    pub failures: i32,
}

impl PushConsumer {
    /// Sets up a member of `group`.
    pub fn builder(group: impl Into<String>) -> PushConsumerBuilder {
        PushConsumerBuilder { setup: Setup { concurrency: 20, ..Setup::new(group) } }
    }

    member_methods!();

    /// The queues whose next message keeps failing, when messages are handled in order.
    pub fn stuck_queues(&self) -> Vec<StuckQueue> {
        let namespace = &self.member.pipeline.client.core().namespace;
        let stuck = |queue: &Arc<AssignedQueue>| {
            let (offset, failures) = queue.stuck_at()?;
            Some(StuckQueue { queue: namespace.unwrap_queue(queue.id.clone()), offset, failures })
        };
        self.member.queues().iter().filter_map(stuck).collect()
    }

    /// Reads no more until [`PushConsumer::resume`]; what was read is still handled, and the queues stay as they are.
    pub fn suspend(&self) {
        self.member.set_suspended(true);
    }

    /// Goes on after [`PushConsumer::suspend`].
    pub fn resume(&self) {
        self.member.set_suspended(false);
    }

    /// Stops gracefully: reads no more, waits up to `grace` for the handlers that are running, commits, waiting for the
    /// brokers, and leaves the group, so that the others take over at once. Messages that were read but not given to the
    /// handler are left to them.
    ///
    /// # Errors
    /// [`Error::Timeout`] when handlers took longer and were dropped, or why a commit failed. Some messages will then
    /// come again. The consumer is stopped in any case.
    ///
    /// # Cancel safety
    /// When dropped, it goes on as if the consumer had been dropped.
    pub async fn shutdown(self, grace: Duration) -> Result<(), Error> {
        self.member.shutdown(grace).await
    }
}

impl PushConsumerBuilder {
    setup_methods!();

    /// What handles messages. It gets up to [`batch_size`](Self::batch_size) at a time; an error or a panic makes them
    /// come again.
    pub fn handler<F, Fut>(self, handler: F) -> Self
    where
        F: Fn(Batch) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Ack, HandlerError>> + Send,
    {
        self.listener(HandlerFn(handler))
    }

    /// As [`handler`](Self::handler), for a type of your own.
    pub fn listener(mut self, listener: impl MessageListener) -> Self {
        self.setup.listener = Some(Listener::Concurrent(Arc::new(listener)));
        self
    }

    /// What handles messages in order: those of one queue one batch after the other, different queues side by side. A
    /// batch that fails comes again in its place, and everything behind it waits. It replaces a [`handler`](Self::handler).
    ///
    /// Within a group only one member handles messages of a queue: it holds the queue's lock with the broker, and gives it
    /// back when its handler has ended. All members of the group must be ordered.
    pub fn ordered<F, Fut>(self, handler: F) -> Self
    where
        F: Fn(Batch, OrderlyContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<OrderlyAck, HandlerError>> + Send,
    {
        self.ordered_listener(OrderlyFn(handler))
    }

    /// As [`ordered`](Self::ordered), for a type of your own.
    pub fn ordered_listener(mut self, listener: impl OrderlyListener) -> Self {
        self.setup.listener = Some(Listener::Ordered(Arc::new(listener)));
        self
    }

    /// How long an ordered consumer waits until a batch that failed comes again. Default 1 s.
    pub fn suspend_time(mut self, time: Duration) -> Self {
        self.setup.suspend = time;
        self
    }

    /// Every member of the group gets every message. Offsets are kept in a file of this machine
    /// ([`offsets_folder`](Self::offsets_folder)) under the id of the client, which should be
    /// [chosen](crate::ClientBuilder::client_id): the default, `ip@DEFAULT` as in Java, serves one process of a group per machine.
    ///
    /// There are no retries and no dead letters: a message whose handler fails is logged and passed.
    pub fn broadcasting(mut self) -> Self {
        self.setup.broadcasting = true;
        self
    }

    /// Where a [broadcasting](Self::broadcasting) consumer keeps its offsets: `<folder>/<client id>/<group>/offsets.json`, as
    /// Java does. Default `.rocketmq_offsets` in the user's home.
    pub fn offsets_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.setup.offsets_folder = Some(folder.into());
        self
    }

    /// Lets only those messages through to the handler that `filter` says yes to; the others are passed as if handled. It
    /// is the last of three filters, after the broker's and the tags, and should be quick.
    pub fn message_filter(
        mut self,
        filter: impl Fn(&ReceivedMessage) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.setup.message_filter = Some(Box::new(filter));
        self
    }

    /// How long a handler may have messages until they are sent back, so that one that is stuck does not keep the offset of
    /// its queue for ever. The handler goes on, but what it says counts no more. Not for ordered or broadcasting consumers.
    /// Default 15 minutes.
    pub fn consume_timeout(mut self, limit: Duration) -> Self {
        self.setup.consume_timeout = limit;
        self
    }

    /// Handlers that run at the same time, from 1 to 65,536. Default 20.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.setup.concurrency = handlers;
        self
    }

    /// Messages that the handler gets at a time, from 1 to 1024: at most so many, it does not wait for more. Default 1.
    pub fn batch_size(mut self, messages: usize) -> Self {
        self.setup.batch_size = messages;
        self
    }

    /// Messages asked for with one pull, from 1 to 1024. Java's brokers answer with at most 32 unless configured otherwise
    /// (`maxTransferCountOnMessageInMemory`), ours with 256. Default 128.
    pub fn pull_batch_size(mut self, messages: usize) -> Self {
        self.setup.pull_batch_size = messages;
        self
    }

    /// Failures after which a message goes to the dead letters (topic `%DLQ%` and the group). Default: what the broker
    /// has for the group, 16 unless configured otherwise; in order: never, since what comes behind a message may depend on it, and
    /// sixteen failures are soon over. [`PushConsumer::stuck_queues`] and the log tell which queues are stuck.
    pub fn max_reconsume_times(mut self, times: u16) -> Self {
        self.setup.max_reconsume_times = Some(times);
        self
    }

    /// Joins the group and begins to consume within the current tokio runtime. Topics that do not exist yet are waited
    /// for.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] or [`Error::Name`] for a setting that makes no sense, [`Error::GroupTaken`], those of
    /// [`ClientBuilder::start`](crate::ClientBuilder::start), an SQL92 condition that a broker refuses, or no name server that answers.
    pub async fn start(self) -> Result<PushConsumer, Error> {
        check_between("concurrency", self.setup.concurrency, 65_536)?;
        if self.setup.listener.is_none() {
            return Err(invalid("handler", "nothing handles the messages: give a handler or a listener"));
        }
        Ok(PushConsumer { member: self.setup.start().await? })
    }
}
