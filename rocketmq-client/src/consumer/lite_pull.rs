//! [`LitePullConsumer`]: reads ahead, and hands messages over when it is asked for some.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rocketmq_protocol::QueueOffset;
use rocketmq_protocol::body::MessageQueue;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::assigned_queue::AssignedQueue;
use super::dispatch;
use super::handler::Batch;
use super::member::{Member, Setup, invalid, member_methods, setup_methods};
use super::offset_store::{Occasion, OffsetStore, commit_all};
use crate::namespace::Namespace;
use crate::{Error, Filter, ReceivedMessage};

/// How often routes are looked at for new queues. Java: `topicMetadataCheckIntervalMillis`.
const LOOK_FOR_QUEUES: Duration = Duration::from_secs(30);

/// Reads ahead, and hands messages over when it is asked for some.
///
/// Either the members of its group share the queues of the topics that they [subscribe](LitePullConsumerBuilder::subscribe)
/// to, or the user [assigns](LitePullConsumerBuilder::assign) queues to it.
///
/// What one [`poll`](Self::poll) gave counts as done when the next one is made, so that a message comes at least once if it
/// is worked on in between. Offsets are committed every second, when a queue moves to another member, and at the
/// [`shutdown`](Self::shutdown); or only by [`commit`](Self::commit), when the user wants that. Dropping it commits nothing.
///
/// ```no_run
/// # async fn example() -> Result<(), rocketmq_client::Error> {
/// use std::time::Duration;
///
/// use rocketmq_client::{Filter, LitePullConsumer};
///
/// let mut consumer = LitePullConsumer::builder("audit")
///     .name_servers(["127.0.0.1:9876"])
///     .subscribe("orders", Filter::All)
///     .start()
///     .await?;
/// loop {
///     for message in &consumer.poll(Duration::from_secs(5)).await? {
///         println!("{} {:?}", message.message_id(), message.body());
///     }
/// #   break;
/// }
/// consumer.shutdown().await
/// # }
/// ```
pub struct LitePullConsumer {
    member: Member,
    /// Where the user commits to.
    store: Arc<OffsetStore>,
    /// What was handed over last.
    given: Option<Given>,
}

/// What was handed over.
struct Given {
    queue: Arc<AssignedQueue>,
    messages: Batch,
    /// Lets the queue wait for the next poll when it is given up.
    _handling: TaskTrackerToken,
}

/// Sets up a [`LitePullConsumer`]: [`LitePullConsumer::builder`].
#[must_use]
pub struct LitePullConsumerBuilder {
    setup: Setup,
}

/// Where to go on in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SeekTo {
    /// With the oldest message there is.
    Begin,
    /// Behind the newest message.
    End,
    /// With the message at this offset.
    Offset(QueueOffset),
    /// With the first message stored at this time, to the millisecond, or later.
    Time(SystemTime),
}

impl LitePullConsumer {
    /// Sets up a consumer of `group`, under which its offsets are kept.
    pub fn builder(group: impl Into<String>) -> LitePullConsumerBuilder {
        let setup = Setup { polled: true, pull_batch_size: 10, ..Setup::new(group) };
        LitePullConsumerBuilder { setup }
    }

    member_methods!();

    /// The next messages, of one queue and in its order, at most as many as one pull brings; none when nothing comes within
    /// `patience`. What the last poll gave counts as done from now on.
    ///
    /// # Errors
    /// [`Error::Closed`] when its client was shut down.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn poll(&mut self, patience: Duration) -> Result<Batch, Error> {
        self.settle();
        let next = tokio::time::timeout(patience, self.member.pipeline.dispatcher.next());
        match self.member.kill.run_until_cancelled(next).await {
            Some(Ok(Some(dispatch::Delivery { queue, messages }))) => {
                let given = Given { _handling: queue.handling(), queue, messages: messages.clone() };
                self.given = Some(given);
                Ok(messages)
            }
            Some(Err(_)) => Ok(Batch::new([])),
            Some(Ok(None)) | None => Err(Error::Closed { what: "the consumer" }),
        }
    }

    /// Commits everything that was polled, and waits until the brokers have it.
    ///
    /// # Errors
    /// The first broker that cannot be reached or refuses; the others have been told.
    ///
    /// # Cancel safety
    /// A dropped call may have told some brokers.
    pub async fn commit(&mut self) -> Result<(), Error> {
        self.settle();
        commit_all(&self.store, self.member.assignment.queues(), Occasion::Progress).await
    }

    /// Commits `next` as the offset to go on with in `queue`, whatever was polled, and waits until the broker has it. It is
    /// for those who have [switched off](LitePullConsumerBuilder::auto_commit) that the consumer commits what it hands over.
    ///
    /// # Errors
    /// The broker cannot be reached or refuses.
    pub async fn commit_offset(&self, queue: &MessageQueue, next: QueueOffset) -> Result<(), Error> {
        let queue = self.namespace().wrap_queue(queue);
        match self.member.assignment.get(&queue) {
            Some(assigned) => assigned.commit_at(&self.store, next).await,
            None => self.store.commit(&queue, next).await,
        }
    }

    /// Where the group stands: the offset of the next message to read, as committed. `None` when it has never committed one.
    ///
    /// # Errors
    /// The broker cannot be asked.
    pub async fn committed(&self, queue: &MessageQueue) -> Result<Option<QueueOffset>, Error> {
        self.store.stored(&self.namespace().wrap_queue(queue)).await
    }

    /// Goes on elsewhere in a queue. Polls give nothing any more that was read before; the group's offset is set, too, unless
    /// [`auto_commit`](LitePullConsumerBuilder::auto_commit) is off.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the queue is not assigned to this consumer, or does not reach to that offset; or its
    /// broker cannot be asked.
    ///
    /// # Cancel safety
    /// A dropped call may take effect.
    pub async fn seek(&mut self, queue: &MessageQueue, to: SeekTo) -> Result<(), Error> {
        let pipeline = &self.member.pipeline;
        let queue = &*pipeline.client.core().namespace.wrap_queue(queue);
        self.find(queue).await?;
        let client = &pipeline.client;
        let offset = match to {
            SeekTo::Begin => client.min_offset(queue, client.request_deadline()).await?,
            SeekTo::End => client.max_offset(queue, client.request_deadline()).await?,
            SeekTo::Time(time) => client.offset_at_time(queue, time).await?,
            SeekTo::Offset(offset) => {
                let min = client.min_offset(queue, client.request_deadline()).await?;
                let max = client.max_offset(queue, client.request_deadline()).await?;
                if !(min..=max).contains(&offset) {
                    return Err(invalid(
                        "offset",
                        format!("{offset} of {queue} is not between {min} and {max}"),
                    ));
                }
                offset
            }
        };
        // What was polled of it is not done, but no longer wanted either.
        self.given.take_if(|given| given.queue.id == *queue);
        let assigned = self.find(queue).await?; // it may be another one by now
        let mut moving = pipeline.steering.go_on_at(&assigned, offset, Duration::ZERO);
        self.member.kill.run_until_cancelled(moving.changed()).await; // an error is the end of the move
        Ok(())
    }

    /// Reads no more of these queues until they are [resumed](Self::resume). What was read before is still polled.
    pub fn pause(&self, queues: impl IntoIterator<Item = MessageQueue>) {
        let namespace = self.namespace();
        let queues = queues.into_iter().map(|queue| namespace.wrap_queue(&queue).into_owned());
        self.member.pipeline.steering.pause(queues);
    }

    /// Reads these queues again.
    pub fn resume<'a>(&self, queues: impl IntoIterator<Item = &'a MessageQueue>) {
        let queues: Vec<_> =
            queues.into_iter().map(|queue| self.namespace().wrap_queue(queue).into_owned()).collect();
        self.member.pipeline.steering.resume(&queues);
    }

    /// Reads these queues and no others from now on. They begin where the group stands.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when it subscribes to topics: then its group divides the queues.
    pub fn assign(&self, queues: impl IntoIterator<Item = MessageQueue>) -> Result<(), Error> {
        let namespace = self.namespace();
        let queues = queues.into_iter().map(|queue| namespace.wrap_queue(&queue).into_owned());
        if self.member.pipeline.steering.assign(queues.collect()) {
            return Ok(());
        }
        Err(invalid("assign", "it subscribes to topics, so that its group divides the queues"))
    }

    /// The queues of a topic that can be read, sorted: [`Client::queues`](crate::Client::queues).
    ///
    /// # Errors
    /// As there.
    pub async fn queues(&self, topic: &str) -> Result<Vec<MessageQueue>, Error> {
        self.member.pipeline.client.queues(topic).await
    }

    /// Waits until the queues of a topic are others than `known`, and returns them. It looks every 30 s.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn queues_changed(&self, topic: &str, known: &[MessageQueue]) -> Vec<MessageQueue> {
        let client = &self.member.pipeline.client;
        loop {
            if let Ok(queues) = client.queues(topic).await {
                if queues != known {
                    return queues;
                }
            }
            tokio::time::sleep(LOOK_FOR_QUEUES).await;
            client.refresh_route(&self.namespace().wrap(&topic.into()), client.request_deadline()).await;
        }
    }

    /// The offset of the first message of a queue stored at `time`, to the millisecond, or later.
    ///
    /// # Errors
    /// The master cannot be reached or refuses.
    pub async fn offset_at(&self, queue: &MessageQueue, time: SystemTime) -> Result<QueueOffset, Error> {
        self.member.pipeline.client.offset_at_time(&self.namespace().wrap_queue(queue), time).await
    }

    /// Stops gracefully: what the last poll gave counts as done; commits, waiting for the brokers, unless
    /// [`auto_commit`](LitePullConsumerBuilder::auto_commit) is off, and leaves the group, so that the others take over at
    /// once.
    ///
    /// # Errors
    /// Why a commit failed. Some messages will then come again. The consumer is stopped in any case.
    pub async fn shutdown(mut self) -> Result<(), Error> {
        self.settle();
        self.member.shutdown(Duration::from_secs(30)).await // nobody has messages in hand: it is brief
    }

    /// The queue, if it is ours, or as soon as it is, if the user has chosen it.
    async fn find(&self, queue: &MessageQueue) -> Result<Arc<AssignedQueue>, Error> {
        let Member { pipeline, assignment, kill, .. } = &self.member;
        loop {
            let came = assignment.came.notified();
            if let Some(assigned) = assignment.get(queue) {
                return Ok(assigned);
            }
            if !pipeline.steering.has_chosen(queue) {
                return Err(invalid("queue", format!("{queue} is not assigned to this consumer")));
            }
            kill.run_until_cancelled(came).await.ok_or(Error::Closed { what: "the consumer" })?;
        }
    }

    fn namespace(&self) -> &Namespace {
        &self.member.pipeline.client.core().namespace
    }

    /// What was polled is done.
    fn settle(&mut self) {
        if let Some(Given { queue, messages, _handling }) = self.given.take() {
            self.member.pipeline.consumption.handled(&queue.id.topic, messages.len(), 0, Duration::ZERO);
            queue.finish(messages.iter().map(ReceivedMessage::queue_offset));
        }
    }
}

impl LitePullConsumerBuilder {
    setup_methods!();

    /// Reads these queues, which the user divides, and does not subscribe to anything.
    pub fn assign(mut self, queues: impl IntoIterator<Item = MessageQueue>) -> Self {
        self.setup.assigned.get_or_insert_default().extend(queues);
        self
    }

    /// Which messages of the assigned queues of `topic` are wanted. Default all.
    pub fn filter(mut self, topic: impl Into<String>, filter: impl Into<Filter>) -> Self {
        self.setup.filters.insert(topic.into(), filter.into());
        self
    }

    /// Messages that one poll gives at most, from 1 to 1024: those of one pull. Default 10.
    pub fn pull_batch_size(mut self, messages: usize) -> Self {
        self.setup.pull_batch_size = messages;
        self
    }

    /// Whether offsets are committed without being asked for. Default true.
    pub fn auto_commit(mut self, on: bool) -> Self {
        self.setup.commits = on;
        self
    }

    /// Begins to read ahead within the current tokio runtime; as a member of the group, if it subscribes. Topics that do
    /// not exist yet are waited for.
    ///
    /// # Errors
    /// As [`PushConsumerBuilder::start`](crate::PushConsumerBuilder::start).
    pub async fn start(self) -> Result<LitePullConsumer, Error> {
        let setup = Setup { batch_size: self.setup.pull_batch_size, ..self.setup };
        let member = setup.start().await?;
        let client = member.pipeline.client.clone();
        let store = Arc::new(OffsetStore::new(client, member.pipeline.group.to_string()));
        Ok(LitePullConsumer { member, store, given: None })
    }
}
