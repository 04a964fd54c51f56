//! [`PushConsumer`]: has messages handled as they come.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::handler::{Ack, Batch, HandlerError, HandlerFn, MessageListener};
use super::interceptor::Hooks;
use super::member::{Member, Setup, check_between, invalid, member_methods, setup_methods};
use super::worker::work;
use crate::Error;

/// Has messages handled as they come, several at a time and in no order.
///
/// The members of a group share the queues of the topics they subscribe to. Each message is handled at least once: one
/// whose handler fails comes again after a while, and the group's offset moves only past messages that were handled or
/// that the broker has stored for another try. After a crash, or when a queue moves to another member, some come again.
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
    setup: Setup,
    listener: Option<Arc<dyn MessageListener>>,
    concurrency: usize,
    pub(super) hooks: Hooks,
}

impl PushConsumer {
    /// Sets up a member of `group`.
    pub fn builder(group: impl Into<String>) -> PushConsumerBuilder {
        PushConsumerBuilder {
            setup: Setup::new(group),
            listener: None,
            concurrency: 20,
            hooks: Hooks::default(),
        }
    }

    member_methods!();

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
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Handlers that run at the same time, from 1 to 65,536. Default 20.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers;
        self
    }

    /// Messages that the handler gets at a time, from 1 to 1024: at most so many, it does not wait for more. Default 1.
    pub fn batch_size(mut self, messages: usize) -> Self {
        self.setup.batch_size = messages;
        self
    }

    /// Messages asked for with one pull, from 1 to 1024. Brokers answer with at most 32 unless configured otherwise.
    /// Default 32.
    pub fn pull_batch_size(mut self, messages: usize) -> Self {
        self.setup.pull_batch_size = messages;
        self
    }

    /// Failures after which a message goes to the dead letters (topic `%DLQ%` and the group). Default: what the broker
    /// has for the group, 16 unless configured otherwise.
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
        check_between("concurrency", self.concurrency, 65_536)?;
        let Some(listener) = self.listener else {
            return Err(invalid("handler", "nothing handles the messages: give a handler or a listener"));
        };
        let setup =
            Setup { listener: Some(Arc::clone(&listener)), concurrency: self.concurrency, ..self.setup };
        let mut member = setup.start().await?;
        let listener = self.hooks.around(listener, &mut member).await?;
        for _ in 0..self.concurrency {
            member.spawn(work(Arc::clone(&member.pipeline), Arc::clone(&listener)));
        }
        Ok(PushConsumer { member })
    }
}
