//! [`PushConsumer`]: has messages handled as they come.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rocketmq_protocol::ByteString;
use rocketmq_protocol::body::{
    CheckClientRequest, ConsumeType, ConsumerData, ExpressionType, MessageModel, SubscriptionData,
};
use rocketmq_protocol::name::{self, RETRY_PREFIX};
use rocketmq_protocol::requests::CheckClientConfig;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use super::allocate::{AllocateStrategy, Averagely};
use super::assignment::Assignment;
use super::dispatch::Dispatcher;
use super::filter::Filter;
use super::flow_control::{FlowControl, Limits};

use super::handler::{Ack, Batch, HandlerError, HandlerFn, MessageListener};
use super::offset_store::{Occasion, OffsetStore, commit_all};
use super::pipeline::{Pipeline, Settings};
use super::process_queue::Held;
use super::rebalance::Rebalance;
use super::start_offset::ConsumeFrom;
use super::worker::work;
use crate::client_builder::ClientChoice;
use crate::members::ConsumerRegistration;
use crate::membership::Membership;
use crate::route_table::BrokerChoice;
use crate::{Client, Error};

/// How often progress is committed. Java: `persistConsumerOffsetInterval`.
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);

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
    pipeline: Arc<Pipeline>,
    assignment: Arc<Assignment>,
    membership: Membership,
    /// It ends with the consumer.
    owns_client: bool,
    /// Ends every task where it waits, handlers included.
    kill: CancellationToken,
    _killer: DropGuard,
}

/// Sets up a [`PushConsumer`]: [`PushConsumer::builder`].
#[must_use]
pub struct PushConsumerBuilder {
    group: String,
    client: ClientChoice,
    subscriptions: BTreeMap<String, Filter>,
    listener: Option<Box<dyn MessageListener>>,
    concurrency: usize,
    batch_size: usize,
    pull_batch_size: usize,
    from: ConsumeFrom,
    max_reconsume_times: Option<u16>,
    strategy: Box<dyn AllocateStrategy>,
    limits: Limits,
}

impl PushConsumer {
    /// Sets up a member of `group`.
    pub fn builder(group: impl Into<String>) -> PushConsumerBuilder {
        PushConsumerBuilder {
            group: group.into(),
            client: ClientChoice::own(Client::builder()),
            subscriptions: BTreeMap::new(),
            listener: None,
            concurrency: 20,
            batch_size: 1,
            pull_batch_size: 32,
            from: ConsumeFrom::default(),
            max_reconsume_times: None,
            strategy: Box::new(Averagely),
            limits: Limits::default(),
        }
    }

    /// The group.
    pub fn group(&self) -> &str {
        &self.pipeline.group
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
        let pipeline = &self.pipeline;
        pipeline.stop.cancel();
        pipeline.dispatcher.close();
        pipeline.tasks.close();
        let drained = tokio::time::timeout(grace, pipeline.tasks.wait()).await;
        self.kill.cancel();
        pipeline.tasks.wait().await;
        let committed = commit_all(&pipeline.store, self.assignment.queues(), Occasion::Revoke).await;
        self.membership.leave().await;
        if self.owns_client {
            pipeline.client.shutdown().await;
        }
        info!(group = self.group(), drained = drained.is_ok(), "consumer stopped");
        drained.map_err(|_| Error::Timeout { doing: "handling the last messages", waited: grace })?;
        committed
    }
}

impl PushConsumerBuilder {
    /// The client to share. Default: one of its own, which ends with the consumer.
    pub fn client(mut self, client: &Client) -> Self {
        self.client = ClientChoice::Shared(client.clone());
        self
    }

    /// Where the name servers are; see [`ClientBuilder::name_servers`](crate::ClientBuilder::name_servers).
    pub fn name_servers<S: AsRef<str>>(mut self, addrs: impl IntoIterator<Item = S>) -> Self {
        self.client = ClientChoice::own(Client::builder().name_servers(addrs));
        self
    }

    /// Subscribes to messages of `topic`; again for another topic. All members of a group must subscribe to the same.
    pub fn subscribe(mut self, topic: impl Into<String>, filter: impl Into<Filter>) -> Self {
        self.subscriptions.insert(topic.into(), filter.into());
        self
    }

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
        self.listener = Some(Box::new(listener));
        self
    }

    /// Handlers that run at the same time, from 1 to 65,536. Default 20.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers;
        self
    }

    /// Messages that the handler gets at a time, from 1 to 1024: at most so many, it does not wait for more. Default 1.
    pub fn batch_size(mut self, messages: usize) -> Self {
        self.batch_size = messages;
        self
    }

    /// Messages asked for with one pull, from 1 to 1024. Brokers answer with at most 32 unless configured otherwise.
    /// Default 32.
    pub fn pull_batch_size(mut self, messages: usize) -> Self {
        self.pull_batch_size = messages;
        self
    }

    /// Where the group begins in queues that it has no offset for. Default [`ConsumeFrom::Latest`].
    pub fn from(mut self, from: ConsumeFrom) -> Self {
        self.from = from;
        self
    }

    /// Failures after which a message goes to the dead letters (topic `%DLQ%` and the group). Default: what the broker
    /// has for the group, 16 unless configured otherwise.
    pub fn max_reconsume_times(mut self, times: u16) -> Self {
        self.max_reconsume_times = Some(times);
        self
    }

    /// How the queues are shared; the same for all members. Default [`Averagely`].
    pub fn allocate_strategy(mut self, strategy: impl AllocateStrategy) -> Self {
        self.strategy = Box::new(strategy);
        self
    }

    /// Unfinished messages of one queue, and bytes of their bodies, above which it is not read on. Default 1000 messages,
    /// 100 MiB.
    pub fn queue_limit(mut self, messages: usize, bytes: usize) -> Self {
        self.limits.queue = Held { messages, bytes };
        self
    }

    /// Unfinished messages of all queues, and bytes of their bodies, above which nothing is read on. Default 10,000
    /// messages, 256 MiB.
    pub fn total_limit(mut self, messages: usize, bytes: usize) -> Self {
        self.limits.total = Held { messages, bytes };
        self
    }

    /// Offsets between the first unfinished message of a queue and the last one read, above which it is not read on: as
    /// many come again after a crash when the first one is slow. Default 2000.
    pub fn max_span(mut self, offsets: u32) -> Self {
        self.limits.span = offsets.into();
        self
    }

    /// Joins the group and begins to consume within the current tokio runtime. Topics that do not exist yet are waited
    /// for.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] or [`Error::Name`] for a setting that makes no sense, [`Error::GroupTaken`], those of
    /// [`ClientBuilder::start`](crate::ClientBuilder::start), an SQL92 condition that a broker refuses, or no name server that answers.
    pub async fn start(self) -> Result<PushConsumer, Error> {
        let subscriptions = self.checked_subscriptions()?;
        let Some(listener) = self.listener else {
            return Err(invalid("handler", "nothing handles the messages: give a handler or a listener"));
        };
        let (client, owns_client) = self.client.start().await?;
        let kill = client.stop_token();
        let killer = kill.clone().drop_guard();
        let group = ByteString::from(self.group.as_str());
        for subscription in subscriptions.values() {
            known_by_brokers(&client, &group, subscription).await?;
        }
        let rebalance = Arc::new(Notify::new());
        let membership = client.register_consumer(ConsumerRegistration {
            group: self.group.clone(),
            heartbeat: heartbeat(self.group.clone(), self.from, &subscriptions),
            rebalance: Arc::clone(&rebalance),
        })?;
        // A broker that does not list us would make for an empty share.
        let brokers = client.heartbeat().await;
        let pipeline = Arc::new(Pipeline {
            store: Arc::new(OffsetStore::new(client.clone(), self.group)),
            client,
            group,
            flow: Arc::new(FlowControl::new(self.limits)),
            dispatcher: Dispatcher::new(),
            listener,
            settings: Settings {
                batch: self.batch_size,
                pull: i32::try_from(self.pull_batch_size).unwrap_or(i32::MAX),
                from: self.from,
                max_reconsume_times: self.max_reconsume_times.map(i32::from),
            },
            rebalance,
            tasks: TaskTracker::new(),
            stop: kill.child_token(),
        });
        let assignment = Arc::new(Assignment::default());
        info!(group = %pipeline.group, client_id = pipeline.client.id(), brokers, "consumer started");
        for _ in 0..self.concurrency {
            let (kill, pipeline) = (kill.clone(), Arc::clone(&pipeline));
            let tasks = pipeline.tasks.clone();
            tasks.spawn(async move { kill.run_until_cancelled(work(pipeline)).await.unwrap_or_default() });
        }
        pipeline.tasks.spawn(commit_now_and_then(Arc::clone(&pipeline), Arc::clone(&assignment)));
        let rebalance =
            Rebalance::new(Arc::clone(&pipeline), Arc::clone(&assignment), subscriptions, self.strategy);
        pipeline.tasks.spawn(rebalance.run());
        Ok(PushConsumer { pipeline, assignment, membership, owns_client, kill, _killer: killer })
    }
    /// What to subscribe to, the group's retry topic included.
    fn checked_subscriptions(&self) -> Result<BTreeMap<String, Arc<SubscriptionData>>, Error> {
        name::validate_group(&self.group)?;
        for (name, value, largest) in [
            ("concurrency", self.concurrency, 65_536),
            ("batch_size", self.batch_size, 1024),
            ("pull_batch_size", self.pull_batch_size, 1024),
        ] {
            if !(1..=largest).contains(&value) {
                return Err(invalid(name, format!("{value} is not between 1 and {largest}")));
            }
        }
        let limits = &self.limits;
        for (name, limit) in [("queue_limit", limits.queue), ("total_limit", limits.total)] {
            if limit.messages == 0 || limit.bytes == 0 {
                return Err(invalid(name, "nothing can be read below a limit of zero"));
            }
        }
        if limits.span == 0 {
            return Err(invalid("max_span", "nothing can be read below a limit of zero"));
        }
        if self.subscriptions.is_empty() {
            return Err(invalid("subscribe", "there is no subscription"));
        }
        let version_ms = now_ms();
        let mut checked = BTreeMap::new();
        for (topic, filter) in &self.subscriptions {
            name::validate_topic(topic)?;
            let subscription = filter
                .subscription(topic, version_ms)
                .map_err(|reason| invalid("subscribe", format!("{topic}: {reason}")))?;
            checked.insert(topic.clone(), Arc::new(subscription));
        }
        let retry = format!("{RETRY_PREFIX}{}", self.group);
        let all = SubscriptionData::parse(retry.as_str(), SubscriptionData::ALL, version_ms);
        checked.insert(retry, Arc::new(all));
        Ok(checked)
    }
}

/// Finds the brokers of a subscription, and has one check it where that can fail. A topic that does not exist yet is no
/// error.
async fn known_by_brokers(
    client: &Client,
    group: &str,
    subscription: &SubscriptionData,
) -> Result<(), Error> {
    let deadline = client.request_deadline();
    let topic = &*subscription.topic;
    let route = match client.route(topic, deadline).await {
        Ok(route) => route,
        Err(Error::TopicNotFound { .. }) => {
            if !topic.starts_with(RETRY_PREFIX) {
                debug!(topic, "topic does not exist; waiting for it");
            }
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let Some(broker) = route.any_broker().filter(|_| subscription.expression_type == ExpressionType::Sql92)
    else {
        return Ok(());
    };
    let check = CheckClientRequest {
        client_id: client.id().to_owned(),
        group: group.to_owned(),
        namespace: None,
        subscription_data: subscription.clone(),
    };
    let request = CheckClientConfig { check };
    let choice = BrokerChoice::MasterOrReplica;
    client.call_broker(topic, &broker.broker_name, choice, &request, deadline).await.map(drop)
}

/// What heartbeats say.
fn heartbeat(
    group: String,
    from: ConsumeFrom,
    subscriptions: &BTreeMap<String, Arc<SubscriptionData>>,
) -> Box<dyn Fn() -> ConsumerData + Send + Sync> {
    let data = ConsumerData {
        consume_from_where: from.on_wire(),
        consume_type: ConsumeType::Passively,
        group_name: group,
        message_model: MessageModel::Clustering,
        subscription_data_set: subscriptions.values().map(|subscription| (**subscription).clone()).collect(),
        unit_mode: false,
    };
    Box::new(move || data.clone())
}

async fn commit_now_and_then(pipeline: Arc<Pipeline>, assignment: Arc<Assignment>) {
    while pipeline.stop.run_until_cancelled(tokio::time::sleep(COMMIT_INTERVAL)).await.is_some() {
        // Not cut short: what a broker was told must be known at the final commit.
        if let Err(error) = commit_all(&pipeline.store, assignment.queues(), Occasion::Progress).await {
            debug!(%error, "progress not committed everywhere; trying again");
        }
    }
}

fn invalid(name: &'static str, reason: impl Into<String>) -> Error {
    Error::InvalidArgument { name, reason: reason.into() }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
