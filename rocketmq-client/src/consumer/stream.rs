//! [`StreamConsumer`]: gives out messages one by one, for those who like a loop.

use std::fmt;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, ReusableBoxFuture};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::debug;

use super::assigned_queue::AssignedQueue;
use super::dispatch;
use super::member::{Member, Setup, member_methods, setup_methods};
use super::pipeline::Pipeline;
use super::worker::send_back;
use crate::client::spawn_until;
use crate::{Error, ReceivedMessage};

/// Gives out messages one by one, each to be acknowledged when it is done.
///
/// The members of a group share the queues of the topics they subscribe to. Each message comes at least once: the group's
/// offset moves only past messages that were acknowledged, or that the broker has stored for another try. Messages are read
/// ahead, as many as the limits of the builder allow; who takes no more gets no more.
///
/// Several tasks may call [`StreamConsumer::next`] at the same time; the messages of a queue are given out in its order.
/// [`StreamConsumer::stream`] gives a [`Stream`] of the same.
///
/// Dropping it stops it at once; what was not acknowledged comes again. [`StreamConsumer::shutdown`] stops it gracefully.
///
/// ```no_run
/// # async fn example() -> Result<(), rocketmq_client::Error> {
/// use rocketmq_client::{Filter, StreamConsumer};
///
/// let consumer = StreamConsumer::builder("invoices")
///     .name_servers(["127.0.0.1:9876"])
///     .subscribe("orders", Filter::tags(["paid", "refunded"]))
///     .start()
///     .await?;
/// while let Some(delivery) = consumer.next().await {
///     match delivery.body() {
///         Ok(body) => {
///             println!("{}: {} bytes", delivery.topic(), body.len());
///             delivery.ack();
///         }
///         Err(_) => delivery.dead_letter(),
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct StreamConsumer {
    member: Member,
    /// Where verdicts are carried out, wherever they are given.
    runtime: Handle,
    /// Counts the deliveries that are out.
    out: TaskTracker,
}

/// Sets up a [`StreamConsumer`]: [`StreamConsumer::builder`].
#[must_use]
pub struct StreamConsumerBuilder {
    setup: Setup,
}

/// What a [`StreamConsumer`] gives out, as a [`Stream`]: [`StreamConsumer::stream`].
pub struct Deliveries<'a> {
    consumer: &'a StreamConsumer,
    upcoming: ReusableBoxFuture<'a, Option<Delivery>>,
}

/// A message that was given out, and what becomes of it. It derefs to the [message](ReceivedMessage).
///
/// One that is dropped without a verdict, because its task panicked for example, has failed: that is as good as
/// [`Delivery::retry_later`].
#[must_use = "a delivery that is dropped counts as failed"]
pub struct Delivery {
    message: ReceivedMessage,
    /// Until the verdict.
    open: Option<Open>,
}

/// A delivery whose verdict is open.
struct Open {
    pipeline: Arc<Pipeline>,
    queue: Arc<AssignedQueue>,
    runtime: Handle,
    /// The consumer was dropped.
    kill: CancellationToken,
    /// When it was given out.
    since: Instant,
    /// Lets the queue wait for the verdict when it is given up.
    _handling: TaskTrackerToken,
    /// Lets the shutdown wait for it.
    _out: TaskTrackerToken,
}

impl StreamConsumer {
    /// Sets up a member of `group`.
    pub fn builder(group: impl Into<String>) -> StreamConsumerBuilder {
        StreamConsumerBuilder { setup: Setup::new(group) }
    }

    member_methods!();

    /// Waits for the next message; `None` when the client was shut down.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn next(&self) -> Option<Delivery> {
        let next = self.member.pipeline.dispatcher.next();
        self.member.kill.run_until_cancelled(next).await.flatten().and_then(|next| self.give_out(next))
    }

    /// The messages as a [`Stream`]. Drop it when it is no longer polled: it may keep a place in the line of those who wait.
    pub fn stream(&self) -> Deliveries<'_> {
        Deliveries { consumer: self, upcoming: ReusableBoxFuture::new(self.next()) }
    }

    /// Stops gracefully: reads no more, waits up to `grace` for a verdict on every delivery that is out, commits, waiting
    /// for the brokers, and leaves the group, so that the others take over at once. Messages that were read but not given
    /// out are left to them.
    ///
    /// # Errors
    /// [`Error::Timeout`] when a verdict took longer, or why a commit failed. Some messages will then come again. The
    /// consumer is stopped in any case.
    ///
    /// # Cancel safety
    /// When dropped, it goes on as if the consumer had been dropped.
    pub async fn shutdown(self, grace: Duration) -> Result<(), Error> {
        let until = Instant::now() + grace;
        self.member.stop();
        self.out.close();
        let settled = tokio::time::timeout_at(until, self.out.wait()).await;
        let stopped = self.member.shutdown(until.saturating_duration_since(Instant::now())).await;
        settled.map_err(|_| Error::Timeout { doing: "waiting for the last deliveries", waited: grace })?;
        stopped
    }

    fn give_out(&self, next: dispatch::Delivery) -> Option<Delivery> {
        let dispatch::Delivery { queue, messages } = next;
        let message = messages.first()?.clone(); // batches of one
        let open = Open {
            pipeline: Arc::clone(&self.member.pipeline),
            runtime: self.runtime.clone(),
            kill: self.member.kill.clone(),
            since: Instant::now(),
            _handling: queue.handling(),
            _out: self.out.token(),
            queue,
        };
        Some(Delivery { message, open: Some(open) })
    }
}

impl Stream for Deliveries<'_> {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let next = ready!(self.upcoming.poll(context));
        let consumer = self.consumer;
        self.upcoming.set(consumer.next());
        Poll::Ready(next)
    }
}

impl StreamConsumerBuilder {
    setup_methods!();

    /// Messages asked for with one pull, from 1 to 1024. Java's brokers answer with at most 32 unless configured otherwise
    /// (`maxTransferCountOnMessageInMemory`), ours with 256. Default 128.
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

    /// Joins the group and begins to read ahead within the current tokio runtime. Topics that do not exist yet are waited
    /// for.
    ///
    /// # Errors
    /// As [`PushConsumerBuilder::start`](crate::PushConsumerBuilder::start).
    pub async fn start(self) -> Result<StreamConsumer, Error> {
        let member = self.setup.start().await?;
        Ok(StreamConsumer { member, runtime: Handle::current(), out: TaskTracker::new() })
    }
}

impl Delivery {
    /// The message.
    pub fn message(&self) -> &ReceivedMessage {
        &self.message
    }

    /// It is done: the group's offset may move past it.
    pub fn ack(mut self) {
        if let Some(open) = self.open.take() {
            open.handled(1, 0);
            open.queue.finish([self.message.queue_offset()]);
        }
    }

    /// It failed and shall come again, after a delay that grows with every failure; after too many, it goes to the dead
    /// letters. The broker stores it anew for that; where it cannot, the message comes again from here after 5 s.
    pub fn retry_later(mut self) {
        self.fail(0);
    }

    /// As [`Delivery::retry_later`], after the delay of this level of the broker (by default 1 is a second, 5 a minute,
    /// 18 two hours). 0 is the delay that grows.
    pub fn retry_after(mut self, level: u8) {
        self.fail(level.into());
    }

    /// It goes to the dead letters (topic `%DLQ%` and the group) now.
    pub fn dead_letter(mut self) {
        self.fail(-1);
    }

    fn fail(&mut self, delay_level: i32) {
        let Some(open) = self.open.take() else { return };
        open.handled(0, 1);
        let message = self.message.clone();
        let (tasks, runtime, kill) = (open.pipeline.tasks.clone(), open.runtime.clone(), open.kill.clone());
        let failing = async move {
            // The tokens of `open` stay until the end: who gives the queue up, or the consumer, may wait for it.
            let Open { pipeline, queue, .. } = &open;
            if !queue.is_gone() {
                send_back(pipeline, Arc::clone(queue), &[message], delay_level).await;
            }
        };
        let _entered = runtime.enter();
        spawn_until(&tasks, &kill, failing);
    }
}

impl Open {
    fn handled(&self, succeeded: usize, failed: usize) {
        self.pipeline.consumption.handled(&self.queue.id.topic, succeeded, failed, self.since.elapsed());
    }
}

impl Deref for Delivery {
    type Target = ReceivedMessage;

    fn deref(&self) -> &ReceivedMessage {
        &self.message
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.open.is_some() {
            debug!(message = ?self.message, "delivery dropped without a verdict");
            self.fail(0);
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Delivery").field(&self.message).finish()
    }
}
