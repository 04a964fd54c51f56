//! [`PullConsumer`]: reads queues where and when its user wants. The user keeps the offsets, here or elsewhere.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dashmap::DashMap;
use rocketmq_protocol::body::{
    ConsumeType, ConsumerData, ConsumerRunningInfo, MASTER_ID, MessageModel, MessageQueue, QueueTable,
    SubscriptionData,
};
use rocketmq_protocol::name::validate_group;
use rocketmq_protocol::requests::{GetEarliestStoreTime, PullFlag, PullMessage, PullReply, SendMessageBack};
use rocketmq_protocol::transport::Call;
use rocketmq_protocol::{ByteString, QueueOffset, ResponseCode};
use tokio::sync::Notify;
use tracing::debug;

use super::Filter;
use super::filter::selects;
use super::service::properties;
use crate::client_builder::ClientChoice;
use crate::deadline::Deadline;
use crate::members::{ConsumerRegistration, ConsumerService};
use crate::membership::Membership;
use crate::namespace::Namespace;
use crate::received_message::{ReceivedMessage, ReceivedMessages};
use crate::route_table::BrokerChoice;
use crate::{Client, Error};

/// Reads queues where and when its user wants. Cheap to clone.
///
/// ```no_run
/// # async fn example() -> Result<(), rocketmq_client::Error> {
/// use std::time::Duration;
/// use rocketmq_client::{PullConsumer, PullOutcome, PullRequest};
///
/// let consumer = PullConsumer::builder("audit").name_servers(["127.0.0.1:9876"]).start().await?;
/// for queue in consumer.queues("orders").await? {
///     let mut next = match consumer.committed(&queue).await? {
///         Some(offset) => offset,
///         None => consumer.min_offset(&queue).await?,
///     };
///     let wait = Duration::from_secs(5);
///     while let PullOutcome::Found { messages, next: behind } =
///         consumer.pull(&queue, PullRequest::new(next).wait(wait)).await?
///     {
///         for message in &messages {
///             println!("{} {:?}", message.message_id(), message.body());
///         }
///         next = behind;
///         consumer.commit(&queue, next).await?;
///     }
/// }
/// consumer.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PullConsumer {
    shared: Arc<Shared>,
}

struct Shared {
    group: ByteString,
    client: Client,
    owns_client: bool,
    membership: Membership,
    subscriptions: Arc<Subscriptions>,
    pull_timeout: Duration,
    /// The member that a broker group suggested for the next pull, where it is not the master.
    suggested: DashMap<MessageQueue, i64>,
    /// What this consumer has committed, for administrators.
    committed: DashMap<MessageQueue, QueueOffset>,
    started: SystemTime,
}

/// What the group has pulled so far, for the heartbeat: brokers know a group by it.
#[derive(Default)]
struct Subscriptions {
    by_topic: Mutex<BTreeMap<String, SubscriptionData>>,
}

/// Sets up a [`PullConsumer`]: [`PullConsumer::builder`].
#[derive(Clone)]
#[must_use]
pub struct PullConsumerBuilder {
    group: String,
    client: ClientChoice,
    pull_timeout: Duration,
}

/// One pull: from where, how much, which messages, how long to wait.
#[derive(Clone, Debug)]
#[must_use]
pub struct PullRequest {
    offset: QueueOffset,
    max_messages: i32,
    max_bytes: Option<i32>,
    filter: Filter,
    wait: Duration,
}

/// What a pull brought.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PullOutcome {
    /// Messages; go on at `next`. With a filter there may be none of them: the broker looks at less than all of a tag.
    Found {
        /// In the order of the queue.
        messages: Vec<ReceivedMessage>,
        /// Offset behind the last one looked at.
        next: QueueOffset,
    },
    /// The queue ends there: nothing new.
    NoNewMessage {
        /// Where to go on.
        next: QueueOffset,
    },
    /// There are messages, but none that the filter wants.
    NoMatch {
        /// Offset behind the last one looked at.
        next: QueueOffset,
    },
    /// The queue does not have that offset (any more).
    OutOfRange {
        /// Where the broker suggests to go on.
        next: QueueOffset,
        /// Oldest offset that it has.
        min: QueueOffset,
        /// Offset behind its last message.
        max: QueueOffset,
    },
}

impl PullOutcome {
    /// Where to go on, whatever came.
    pub fn next(&self) -> QueueOffset {
        match self {
            Self::Found { next, .. }
            | Self::NoNewMessage { next }
            | Self::NoMatch { next }
            | Self::OutOfRange { next, .. } => *next,
        }
    }

    /// The messages, if there are any.
    pub fn into_messages(self) -> Vec<ReceivedMessage> {
        match self {
            Self::Found { messages, .. } => messages,
            _ => Vec::new(),
        }
    }
}

impl PullRequest {
    /// Up to 32 messages from `offset` on, without waiting.
    pub fn new(offset: QueueOffset) -> Self {
        Self { offset, max_messages: 32, max_bytes: None, filter: Filter::All, wait: Duration::ZERO }
    }

    /// The most messages that come at once, at least 1. Brokers have limits of their own. Default 32.
    pub fn max(mut self, messages: u16) -> Self {
        self.max_messages = messages.max(1).into();
        self
    }

    /// The most bytes that come at once; one message comes in any case. Needs a 5.x broker. Default: the broker's limit.
    pub fn max_bytes(mut self, bytes: u32) -> Self {
        self.max_bytes = Some(i32::try_from(bytes).unwrap_or(i32::MAX));
        self
    }

    /// Which messages are wanted. Default all.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// How long the broker may hold the request until a message arrives. Default not at all.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }
}

impl PullConsumerBuilder {
    /// Where the name servers are; see [`ClientBuilder::name_servers`](crate::ClientBuilder::name_servers).
    pub fn name_servers<S: AsRef<str>>(mut self, addrs: impl IntoIterator<Item = S>) -> Self {
        self.client = ClientChoice::own(Client::builder().name_servers(addrs));
        self
    }

    /// The client to share. Default: one of its own, which ends with the consumer.
    pub fn client(mut self, client: &Client) -> Self {
        self.client = ClientChoice::Shared(client.clone());
        self
    }

    /// Limit of a pull, beyond what the broker may wait. Default 10 s.
    pub fn pull_timeout(mut self, limit: Duration) -> Self {
        self.pull_timeout = limit;
        self
    }

    /// Starts the consumer.
    ///
    /// # Errors
    /// A group name that is not allowed or taken within the client, or what [`ClientBuilder::start`] says.
    ///
    /// [`ClientBuilder::start`]: crate::ClientBuilder::start
    pub async fn start(self) -> Result<PullConsumer, Error> {
        let group = self.client.namespace().wrap(&self.group.into());
        validate_group(&group)?;
        let (client, owns_client) = self.client.streaming().start().await?;
        let subscriptions = Arc::new(Subscriptions::default());
        let membership = client.register_consumer(ConsumerRegistration {
            group: group.to_string(),
            heartbeat: {
                let (group, subscriptions) = (group.to_string(), Arc::clone(&subscriptions));
                Box::new(move || ConsumerData {
                    consume_type: ConsumeType::Actively,
                    group_name: group.clone(),
                    message_model: MessageModel::Clustering,
                    subscription_data_set: subscriptions.all(),
                    ..ConsumerData::default()
                })
            },
            rebalance: Arc::new(Notify::new()), // the user divides the queues
        })?;
        let shared = Shared {
            group,
            client,
            owns_client,
            membership,
            subscriptions,
            pull_timeout: self.pull_timeout,
            suggested: DashMap::new(),
            committed: DashMap::new(),
            started: SystemTime::now(),
        };
        let shared = Arc::new(shared);
        let service: Weak<Shared> = Arc::downgrade(&shared);
        shared.client.core().members.serve(&shared.group, service);
        Ok(PullConsumer { shared })
    }
}

impl PullConsumer {
    /// Sets up a consumer in `group`, under which its offsets are kept.
    pub fn builder(group: impl Into<String>) -> PullConsumerBuilder {
        PullConsumerBuilder {
            group: group.into(),
            client: ClientChoice::own(Client::builder()),
            pull_timeout: Duration::from_secs(10),
        }
    }

    /// The queues of a topic that can be read, sorted: [`Client::queues`].
    ///
    /// # Errors
    /// As there.
    pub async fn queues(&self, topic: &str) -> Result<Vec<MessageQueue>, Error> {
        self.shared.client.queues(topic).await
    }

    /// Pulls messages of one queue.
    ///
    /// # Cancel safety
    /// A dropped call loses nothing: the next one pulls the same.
    ///
    /// # Errors
    /// A filter that selects nothing, a broker that cannot be reached or refuses, or [`Error::Undecodable`] when the first
    /// message cannot be read.
    pub async fn pull(&self, queue: &MessageQueue, pull: PullRequest) -> Result<PullOutcome, Error> {
        let Shared { group, client, subscriptions, pull_timeout, suggested, .. } = &*self.shared;
        let queue = &*client.core().namespace.wrap_queue(queue);
        if pull.offset < QueueOffset::ZERO {
            let reason = format!("{} is negative", pull.offset);
            return Err(Error::InvalidArgument { name: "offset", reason });
        }
        let subscription = subscriptions
            .of(&queue.topic, &pull.filter)
            .map_err(|reason| Error::InvalidArgument { name: "filter", reason })?;
        let waits = !pull.wait.is_zero();
        let flag = PullFlag::SUBSCRIPTION;
        let request = PullMessage {
            consumer_group: group.clone(),
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            queue_offset: pull.offset,
            max_messages: pull.max_messages,
            sys_flag: if waits { flag.with(PullFlag::SUSPEND) } else { flag }.get(),
            commit_offset: QueueOffset::ZERO,
            suspend_timeout_ms: i64::try_from(pull.wait.as_millis()).unwrap_or(i64::MAX),
            subscription: Some(subscription.sub_string.as_str().into()),
            subscription_version: subscription.sub_version,
            expression_type: Some(subscription.expression_type.name().into()),
            max_bytes: pull.max_bytes,
        };
        let deadline = Deadline::after(pull.wait.saturating_add(*pull_timeout));
        let member = suggested.get(queue).map_or(MASTER_ID, |id| *id);
        let choice = BrokerChoice::Id(member);
        let connection = client.broker(&queue.topic, &queue.broker_name, choice, deadline).await?;
        let (code, reply) = match connection.call_coded(&request, deadline.left()).await {
            Ok(reply) => reply,
            Err(error) => {
                let error = Error::from(error);
                suggested.remove(queue);
                if error.doubts_route() {
                    client.refresh_route(&queue.topic, client.request_deadline()).await;
                }
                return Err(error);
            }
        };
        match reply.suggested_broker_id {
            MASTER_ID => drop(suggested.remove(queue)),
            other => drop(suggested.insert(queue.clone(), other)),
        }
        let next = reply.next_begin_offset;
        match code {
            ResponseCode::PULL_NOT_FOUND => Ok(PullOutcome::NoNewMessage { next }),
            ResponseCode::PULL_RETRY_IMMEDIATELY => Ok(PullOutcome::NoMatch { next }),
            ResponseCode::PULL_OFFSET_MOVED => {
                Ok(PullOutcome::OutOfRange { next, min: reply.min_offset, max: reply.max_offset })
            }
            _ => found(queue, pull.offset, &subscription, reply, &client.core().namespace),
        }
    }

    /// The oldest offset of a queue.
    ///
    /// # Errors
    /// The master cannot be reached or refuses.
    pub async fn min_offset(&self, queue: &MessageQueue) -> Result<QueueOffset, Error> {
        let client = &self.shared.client;
        client.min_offset(&client.core().namespace.wrap_queue(queue), client.request_deadline()).await
    }

    /// The offset behind the last message of a queue.
    ///
    /// # Errors
    /// The master cannot be reached or refuses.
    pub async fn max_offset(&self, queue: &MessageQueue) -> Result<QueueOffset, Error> {
        let client = &self.shared.client;
        client.max_offset(&client.core().namespace.wrap_queue(queue), client.request_deadline()).await
    }

    /// The offset of the first message stored at `time` or later.
    ///
    /// # Errors
    /// The master cannot be reached or refuses.
    pub async fn offset_at(&self, queue: &MessageQueue, time: SystemTime) -> Result<QueueOffset, Error> {
        let client = &self.shared.client;
        client.offset_at_time(&client.core().namespace.wrap_queue(queue), time).await
    }

    /// When the oldest message of a queue was stored; `None` when it has none.
    ///
    /// # Errors
    /// The master cannot be reached or refuses.
    pub async fn earliest_store_time(&self, queue: &MessageQueue) -> Result<Option<SystemTime>, Error> {
        let client = &self.shared.client;
        let queue = client.core().namespace.wrap_queue(queue);
        let request = GetEarliestStoreTime { topic: queue.topic.clone(), queue_id: queue.queue_id };
        let deadline = client.request_deadline();
        let master = BrokerChoice::Master;
        let reply = client.call_broker(&queue.topic, &queue.broker_name, master, &request, deadline).await?;
        let since_epoch = u64::try_from(reply.timestamp).ok();
        Ok(since_epoch.map(|ms| UNIX_EPOCH + Duration::from_millis(ms)))
    }

    /// Has the broker store `message` for another try: it comes again in the group's retry topic (`%RETRY%` and the group),
    /// after the delay of this level (0: one that grows with every failure, -1: it goes to the dead letters now).
    ///
    /// # Errors
    /// The master that holds it cannot be reached or refuses. The message must not be passed then.
    pub async fn send_back(&self, message: &ReceivedMessage, delay_level: i32) -> Result<(), Error> {
        let Shared { group, client, .. } = &*self.shared;
        let namespace = &client.core().namespace;
        let queue = message.queue();
        let queue = namespace.wrap_queue(&queue);
        let request = SendMessageBack {
            position: message.position(),
            group: group.clone(),
            delay_level,
            origin_message_id: Some((&*message.message_id()).into()),
            origin_topic: Some(namespace.wrap(&message.topic().into())),
            unit_mode: false,
            max_reconsume_times: None,
            broker_name: Some(queue.broker_name.clone()),
        };
        let deadline = client.request_deadline();
        let master = BrokerChoice::Master;
        client.call_broker(&queue.topic, &queue.broker_name, master, &request, deadline).await.map(drop)
    }

    /// Where the group stands: the offset of the next message to read. `None` when it has never committed one.
    ///
    /// # Errors
    /// The broker cannot be asked.
    pub async fn committed(&self, queue: &MessageQueue) -> Result<Option<QueueOffset>, Error> {
        let Shared { group, client, .. } = &*self.shared;
        client
            .stored_offset(group, &client.core().namespace.wrap_queue(queue), client.request_deadline())
            .await
    }

    /// Stores where the group stands, forwards or backwards, and waits until the broker has it.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have stored it.
    ///
    /// # Errors
    /// The broker cannot be reached or refuses.
    pub async fn commit(&self, queue: &MessageQueue, next: QueueOffset) -> Result<(), Error> {
        let Shared { group, client, .. } = &*self.shared;
        let queue = client.core().namespace.wrap_queue(queue).into_owned();
        client.store_offset(group, &queue, next, client.request_deadline()).await?;
        self.shared.committed.insert(queue, next);
        Ok(())
    }

    /// Leaves the group, and stops the client if it is the consumer's own. May be called again.
    pub async fn shutdown(&self) {
        self.shared.membership.leave().await;
        if self.shared.owns_client {
            self.shared.client.shutdown().await;
        }
    }
}

impl ConsumerService for Shared {
    /// The user asks where the group stands.
    fn reset(&self, offsets: BTreeMap<MessageQueue, QueueOffset>) {
        debug!(group = %self.group, queues = offsets.len(), "reset left to the user of the pull consumer");
    }

    fn progress(&self, topic: &str) -> QueueTable<QueueOffset> {
        let committed = self.committed.iter().filter(|entry| entry.key().topic == topic);
        committed.map(|entry| (entry.key().clone(), *entry.value())).collect()
    }

    fn running_info(&self) -> ConsumerRunningInfo {
        ConsumerRunningInfo {
            properties: properties(&self.client, &self.group, ConsumeType::Actively, self.started),
            subscription_set: self.subscriptions.all(),
            ..ConsumerRunningInfo::default()
        }
    }

    fn consume_directly(&self, _: ReceivedMessage, call: Call) {
        call.refuse(
            ResponseCode::SYSTEM_ERROR,
            "a pull consumer has no handler that could be given a message",
        );
    }
}

/// What follows a message that cannot be read is left for the next pull, and so is that message.
fn found(
    queue: &MessageQueue,
    begin: QueueOffset,
    subscription: &SubscriptionData,
    reply: PullReply,
    namespace: &Namespace,
) -> Result<PullOutcome, Error> {
    let (decoded, whole) =
        ReceivedMessages::decode(reply.messages.into_bytes(), &queue.broker_name, namespace);
    let mut messages = Vec::with_capacity(decoded.size_hint().0);
    let mut next = begin;
    for message in decoded {
        next = next.max(message.queue_offset().plus(1));
        if selects(subscription, || message.tag()) {
            messages.push(message);
        }
    }
    match whole {
        Ok(()) => Ok(PullOutcome::Found { messages, next: reply.next_begin_offset }),
        Err(source) if next == begin => {
            Err(Error::Undecodable { queue: queue.to_string(), offset: begin.get(), source })
        }
        Err(_) => Ok(PullOutcome::Found { messages, next }),
    }
}

impl Subscriptions {
    /// The subscription for a pull; the newest one of each topic is what heartbeats tell.
    fn of(&self, topic: &str, filter: &Filter) -> Result<SubscriptionData, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let new = filter.subscription(topic, i64::try_from(now.as_millis()).unwrap_or(i64::MAX))?;
        let mut by_topic = self.by_topic.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match by_topic.get(topic) {
            Some(old) if SubscriptionData { sub_version: new.sub_version, ..old.clone() } == new => {
                Ok(old.clone())
            }
            _ => {
                by_topic.insert(topic.to_owned(), new.clone());
                Ok(new)
            }
        }
    }

    fn all(&self) -> Vec<SubscriptionData> {
        let by_topic = self.by_topic.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        by_topic.values().cloned().collect()
    }
}
