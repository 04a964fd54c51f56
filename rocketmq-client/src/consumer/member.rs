//! [`Member`]: a consumer's part in its group, whatever becomes of the messages: registered with the brokers, given queues,
//! reading and committing them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_core::future::BoxFuture;
use rocketmq_protocol::ByteString;
use rocketmq_protocol::body::{
    CheckClientRequest, ConsumeType, ConsumerData, ExpressionType, MessageModel, MessageQueue,
    SubscriptionData,
};
use rocketmq_protocol::name::{self, RETRY_PREFIX};
use rocketmq_protocol::requests::CheckClientConfig;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use super::allocate::{AllocateStrategy, Averagely};
use super::assigned_queue::AssignedQueue;
use super::assignment::Assignment;
use super::consumption::Consumption;
use super::dispatch::Dispatcher;
use super::filter::Filter;
use super::flow_control::{FlowControl, Limits};
use super::in_order::Ordered;
use super::interceptor::Hooks;
use super::listener::Listener;
use super::local_offsets::{LocalOffsets, default_folder};
use super::lock_keeper::{keep_locks, unlock};
use super::offset_store::{Occasion, OffsetStore, commit_all};
use super::pipeline::{MessageFilter, Pipeline, Settings};
use super::rebalance::Rebalance;
use super::service::{HANDLERS_MAY_FINISH, MemberService};
use super::start_offset::ConsumeFrom;
use super::steering::Steering;
use super::subscription_check::SubscriptionCheck;
use super::worker::work;
use crate::client::spawn_until;
use crate::client_builder::ClientChoice;
use crate::members::ConsumerRegistration;
use crate::membership::Membership;
use crate::route_table::BrokerChoice;
use crate::trace::Tracer;
use crate::{Client, Error};

/// How often progress is committed to brokers, where there is any: so much comes again after a crash, and the next owner of a
/// queue sees by it that the previous one is still at work. Java's does that with its pulls, and otherwise every 5 s.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// How often a file of offsets is written. Java: `persistConsumerOffsetInterval`.
const SAVE_INTERVAL: Duration = Duration::from_secs(5);

/// A consumer's part in its group. Dropping it stops its tasks at once.
pub(super) struct Member {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) assignment: Arc<Assignment>,
    /// The client asks it as long as it is here.
    _service: Arc<MemberService>,
    membership: Membership,
    /// Gets its last records sent when the handlers are done.
    pub(super) tracer: Option<Tracer>,
    /// It ends with the consumer.
    owns_client: bool,
    /// Tasks that must go on until every handler has ended.
    background: TaskTracker,
    /// Ends every task where it waits, handlers included.
    pub(super) kill: CancellationToken,
    _killer: DropGuard,
}

/// What all consumers of a group are set up with.
pub(super) struct Setup {
    pub(super) group: String,
    pub(super) client: ClientChoice,
    pub(super) subscriptions: BTreeMap<String, Filter>,
    pub(super) batch_size: usize,
    pub(super) pull_batch_size: usize,
    pub(super) from: ConsumeFrom,
    pub(super) max_reconsume_times: Option<u16>,
    pub(super) strategy: Box<dyn AllocateStrategy>,
    pub(super) limits: Limits,
    /// What handles messages; absent where the user asks for them.
    pub(super) listener: Option<Listener>,
    /// What runs around it.
    pub(super) hooks: Hooks,
    /// Listeners that run at the same time.
    pub(super) concurrency: usize,
    /// How long what an ordered listener fails waits.
    pub(super) suspend: Duration,
    /// The user asks for messages: there are no retries, and pulls say that it is so.
    pub(super) polled: bool,
    /// The queues that the user has chosen, instead of subscriptions.
    pub(super) assigned: Option<BTreeSet<MessageQueue>>,
    /// Which messages of those queues are wanted, by topic.
    pub(super) filters: BTreeMap<String, Filter>,
    /// Whether progress is committed without being asked for.
    pub(super) commits: bool,
    pub(super) consume_timeout: Duration,
    pub(super) message_filter: Option<MessageFilter>,
    /// Every member gets every message, and keeps its own offsets.
    pub(super) broadcasting: bool,
    /// Where they are kept; a folder of the user's home when absent.
    pub(super) offsets_folder: Option<PathBuf>,
}

/// The builder methods of all consumers that have a [`Setup`], on a builder that calls it `setup`.
macro_rules! setup_methods {
    () => {
        /// The client to share. Default: one of its own, which ends with the consumer.
        pub fn client(mut self, client: &$crate::Client) -> Self {
            self.setup.client = $crate::client_builder::ClientChoice::Shared(client.clone());
            self
        }

        /// Where the name servers are; see [`ClientBuilder::name_servers`](crate::ClientBuilder::name_servers).
        pub fn name_servers<S: AsRef<str>>(mut self, addrs: impl IntoIterator<Item = S>) -> Self {
            let client = $crate::Client::builder().name_servers(addrs);
            self.setup.client = $crate::client_builder::ClientChoice::own(client);
            self
        }

        /// Subscribes to messages of `topic`; again for another topic. All members of a group must subscribe to the same.
        pub fn subscribe(mut self, topic: impl Into<String>, filter: impl Into<$crate::Filter>) -> Self {
            self.setup.subscriptions.insert(topic.into(), filter.into());
            self
        }

        /// Where the group begins in queues that it has no offset for. Default [`ConsumeFrom::Latest`].
        ///
        /// [`ConsumeFrom::Latest`]: crate::ConsumeFrom::Latest
        pub fn from(mut self, from: $crate::ConsumeFrom) -> Self {
            self.setup.from = from;
            self
        }

        /// How the queues are shared; the same for all members. Default [`Averagely`](crate::Averagely).
        pub fn allocate_strategy(mut self, strategy: impl $crate::AllocateStrategy) -> Self {
            self.setup.strategy = Box::new(strategy);
            self
        }

        /// Unfinished messages of one queue, and bytes of their bodies, above which it is not read on. Default 1000
        /// messages, 100 MiB.
        pub fn queue_limit(mut self, messages: usize, bytes: usize) -> Self {
            self.setup.limits.queue = $crate::consumer::process_queue::Held { messages, bytes };
            self
        }

        /// Unfinished messages of all queues of one topic, and bytes of their bodies, above which the topic is not read on.
        /// Default: no limit of its own.
        pub fn topic_limit(mut self, messages: usize, bytes: usize) -> Self {
            self.setup.limits.topic = $crate::consumer::process_queue::Held { messages, bytes };
            self
        }

        /// Unfinished messages of all queues, and bytes of their bodies, above which nothing is read on. Default 10,000
        /// messages, 256 MiB.
        pub fn total_limit(mut self, messages: usize, bytes: usize) -> Self {
            self.setup.limits.total = $crate::consumer::process_queue::Held { messages, bytes };
            self
        }

        /// Offsets between the first unfinished message of a queue and the last one read, above which it is not read on:
        /// as many come again after a crash when the first one is slow. Default 2000.
        pub fn max_span(mut self, offsets: u32) -> Self {
            self.setup.limits.span = offsets.into();
            self
        }
    };
}
pub(super) use setup_methods;

/// The methods of all consumers that have a [`Member`], on a type that calls it `member`.
macro_rules! member_methods {
    () => {
        /// The group, in the namespace of the client if that has one.
        pub fn group(&self) -> &str {
            &self.member.pipeline.group
        }

        /// The queues that belong to this consumer now, sorted. With more members in the group than queues some have none:
        /// they wait to take over from others.
        pub fn assigned_queues(&self) -> Vec<$crate::MessageQueue> {
            let namespace = &self.member.pipeline.client.core().namespace;
            self.member.queues().iter().map(|queue| namespace.unwrap_queue(queue.id.clone())).collect()
        }

        /// How far the consumer is behind in each of its queues. Those that it has not begun to read yet are left out.
        ///
        /// # Errors
        /// A broker cannot be reached or refuses.
        pub async fn lag(&self) -> Result<Vec<$crate::QueueLag>, $crate::Error> {
            $crate::consumer::lag::lag(&self.member.pipeline, self.member.assignment.queues()).await
        }

        /// How fast the consumer pulls and handles messages, by topic, over the last minute; failures over the last hour.
        pub fn stats(&self) -> std::collections::BTreeMap<String, $crate::ConsumeStatus> {
            let namespace = &self.member.pipeline.client.core().namespace;
            let statuses = self.member.pipeline.consumption.statuses().into_iter();
            statuses.map(|(topic, status)| (namespace.unwrap(&topic).into_owned(), status)).collect()
        }

        /// Goes over everything again, or skips everything, so that it goes on with the first message stored at `time`, to
        /// the millisecond, or later: in each of this consumer's queues. The other members of the group do it for theirs.
        /// Messages that are being handled get 10 seconds to finish; what becomes of them later does not count.
        ///
        /// # Errors
        /// A broker cannot be asked; then nothing has happened.
        ///
        /// # Cancel safety
        /// A dropped call may take effect.
        pub async fn reset_to_time(&self, time: std::time::SystemTime) -> Result<(), $crate::Error> {
            self.member.reset_to_time(time).await
        }
    };
}
pub(super) use member_methods;

impl Setup {
    pub(super) fn new(group: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            client: ClientChoice::own(Client::builder()),
            subscriptions: BTreeMap::new(),
            batch_size: 1,
            pull_batch_size: 128,
            from: ConsumeFrom::default(),
            max_reconsume_times: None,
            strategy: Box::new(Averagely),
            limits: Limits::default(),
            listener: None,
            hooks: Hooks::default(),
            concurrency: 1,
            suspend: Duration::from_secs(1),
            polled: false,
            assigned: None,
            filters: BTreeMap::new(),
            commits: true,
            consume_timeout: Duration::from_secs(15 * 60),
            message_filter: None,
            broadcasting: false,
            offsets_folder: None,
        }
    }

    /// Joins the group and begins to read within the current tokio runtime.
    pub(super) fn start(self) -> BoxFuture<'static, Result<Member, Error>> {
        Box::pin(self.within_namespace().join()) // compiled here, once: an `async fn` is compiled wherever it is awaited
    }

    /// The same, with names as brokers know them.
    fn within_namespace(mut self) -> Self {
        let namespace = self.client.namespace();
        if namespace.name().is_none() {
            return self;
        }
        let wrap = |name: String| namespace.wrap(&name.into()).to_string();
        self.group = wrap(self.group);
        for filters in [&mut self.subscriptions, &mut self.filters] {
            *filters =
                std::mem::take(filters).into_iter().map(|(topic, filter)| (wrap(topic), filter)).collect();
        }
        if let Some(assigned) = &mut self.assigned {
            *assigned = assigned.iter().map(|queue| namespace.wrap_queue(queue).into_owned()).collect();
        }
        self
    }

    async fn join(self) -> Result<Member, Error> {
        let subscriptions = self.checked_subscriptions()?;
        let choice = if self.polled { self.client.streaming() } else { self.client };
        let (client, owns_client) = choice.start().await?;
        let store = if self.broadcasting {
            OffsetStore::Local(open_local(self.offsets_folder, &client, &self.group).await?)
        } else {
            let new_store = if self.commits { OffsetStore::new } else { OffsetStore::quiet };
            new_store(client.clone(), self.group.clone())
        };
        let kill = client.stop_token();
        let killer = kill.clone().drop_guard();
        let group = ByteString::from(self.group.as_str());
        for subscription in subscriptions.values() {
            known_by_brokers(&client, &group, subscription).await?;
        }
        let rebalance = Arc::new(Notify::new());
        let membership = client.register_consumer(ConsumerRegistration {
            group: self.group.clone(),
            heartbeat: heartbeat(self.group, self.from, self.polled, self.broadcasting, &subscriptions),
            rebalance: Arc::clone(&rebalance),
        })?;
        // A broker that does not list us would make for an empty share.
        let brokers = client.heartbeat().await;
        let max_reconsume_times = self.max_reconsume_times.map(i32::from);
        let (mut concurrent, mut ordered, mut tracer) = (None, None, None);
        if let Some(listener) = self.listener.clone() {
            let (listener, closing) =
                self.hooks.around(listener, &client, &client.core().namespace.unwrap(&group)).await?;
            tracer = closing;
            match listener {
                Listener::Concurrent(listener) => concurrent = Some(listener),
                Listener::Ordered(listener) => {
                    ordered = Some(Arc::new(Ordered {
                        listener,
                        permits: Arc::new(Semaphore::new(self.concurrency)),
                        suspend: self.suspend,
                        max_failures: max_reconsume_times,
                        assigned: (!self.broadcasting).then(|| Arc::new(Notify::new())),
                    }));
                }
            }
        }
        let assigned = ordered.as_ref().and_then(|ordered| ordered.assigned.clone());
        let pipeline = Arc::new(Pipeline {
            store: Arc::new(store),
            ordered,
            client,
            group,
            flow: Arc::new(FlowControl::new(self.limits)),
            dispatcher: Dispatcher::new(),
            steering: Steering::new(self.assigned),
            consumption: Consumption::default(),
            settings: Settings {
                batch: self.batch_size,
                pull: i32::try_from(self.pull_batch_size).unwrap_or(i32::MAX),
                from: self.from,
                max_reconsume_times,
                consume_timeout: self.consume_timeout,
                message_filter: self.message_filter,
                concurrency: self.concurrency,
                polled: self.polled,
            },
            subscription_check: SubscriptionCheck::default(),
            rebalance,
            suspended: watch::Sender::new(false),
            tasks: TaskTracker::new(),
            stop: kill.child_token(),
            kill: kill.clone(),
        });
        let assignment = Arc::new(Assignment::default());
        let service = Arc::new(MemberService {
            consume_type: if self.polled { ConsumeType::Actively } else { ConsumeType::Passively },
            pipeline: Arc::clone(&pipeline),
            assignment: Arc::clone(&assignment),
            subscriptions: subscriptions.values().cloned().collect(),
            listener: self.listener,
            started: SystemTime::now(),
            kill: kill.clone(),
        });
        pipeline.client.core().members.serve(&pipeline.group, Arc::downgrade(&service) as _);
        info!(group = %pipeline.group, client_id = pipeline.client.id(), brokers, "consumer started");
        if self.commits {
            pipeline.tasks.spawn(commit_now_and_then(Arc::clone(&pipeline), Arc::clone(&assignment)));
        }
        let rebalance =
            Rebalance::new(Arc::clone(&pipeline), Arc::clone(&assignment), subscriptions, self.strategy);
        pipeline.tasks.spawn(rebalance.run());
        for listener in std::iter::repeat_n(concurrent, self.concurrency).flatten() {
            pipeline.spawn(work(Arc::clone(&pipeline), listener));
        }
        let background = TaskTracker::new();
        if let Some(assigned) = assigned {
            let keeper = keep_locks(Arc::clone(&pipeline), Arc::clone(&assignment), assigned);
            spawn_until(&background, &kill, keeper);
        }
        Ok(Member {
            pipeline,
            assignment,
            _service: service,
            membership,
            tracer,
            owns_client,
            background,
            kill,
            _killer: killer,
        })
    }

    /// What to subscribe to, the group's retry topic included.
    fn checked_subscriptions(&self) -> Result<BTreeMap<String, Arc<SubscriptionData>>, Error> {
        name::validate_group(&self.group)?;
        check_between("batch_size", self.batch_size, 1024)?;
        check_between("pull_batch_size", self.pull_batch_size, 1024)?;
        let limits = &self.limits;
        for (name, limit) in
            [("queue_limit", limits.queue), ("topic_limit", limits.topic), ("total_limit", limits.total)]
        {
            if limit.messages == 0 || limit.bytes == 0 {
                return Err(invalid(name, "nothing can be read below a limit of zero"));
            }
        }
        if limits.span == 0 {
            return Err(invalid("max_span", "nothing can be read below a limit of zero"));
        }
        if self.consume_timeout.is_zero() {
            return Err(invalid("consume_timeout", "zero is no time to handle a message"));
        }
        match (&self.assigned, self.subscriptions.is_empty()) {
            (None, true) => return Err(invalid("subscribe", "there is no subscription")),
            (Some(_), false) => {
                return Err(invalid("assign", "either the group divides the queues, or the user: not both"));
            }
            (None, false) if !self.filters.is_empty() => {
                return Err(invalid(
                    "filter",
                    "it is for assigned queues; `subscribe` takes a filter of its own",
                ));
            }
            _ => {}
        }
        let version_ms = now_ms();
        let mut checked = BTreeMap::new();
        for (topic, filter) in self.subscriptions.iter().chain(&self.filters) {
            name::validate_topic(topic)?;
            let subscription = filter
                .subscription(topic, version_ms)
                .map_err(|reason| invalid("subscribe", format!("{topic}: {reason}")))?;
            checked.insert(topic.clone(), Arc::new(subscription));
        }
        if !self.polled && !self.broadcasting {
            let retry = format!("{RETRY_PREFIX}{}", self.group);
            let all = SubscriptionData::parse(retry.as_str(), SubscriptionData::ALL, version_ms);
            checked.insert(retry, Arc::new(all));
        }
        Ok(checked)
    }
}

impl Member {
    /// Goes on with what was stored at `time` or later, in every queue but those of retries.
    pub(super) async fn reset_to_time(&self, time: SystemTime) -> Result<(), Error> {
        let queues = self.assignment.queues();
        let mut offsets = BTreeMap::new();
        for queue in queues.iter().filter(|queue| !queue.id.topic.starts_with(RETRY_PREFIX)) {
            offsets.insert(queue.id.clone(), self.pipeline.client.offset_at_time(&queue.id, time).await?);
        }
        let moves: Vec<_> = offsets
            .into_iter()
            .filter_map(|(id, offset)| Some((self.assignment.get(&id)?, offset)))
            .map(|(queue, offset)| self.pipeline.steering.go_on_at(&queue, offset, HANDLERS_MAY_FINISH))
            .collect();
        for mut moving in moves {
            self.kill.run_until_cancelled(moving.changed()).await; // an error is the end of the move
        }
        Ok(())
    }

    /// Stops reading and handing out messages: the first step of a shutdown.
    pub(super) fn stop(&self) {
        self.pipeline.stop.cancel();
        self.pipeline.dispatcher.close();
        self.pipeline.tasks.close();
    }

    /// Stops reading, waits up to `grace` for what has messages in hand, commits, and leaves the group.
    ///
    /// # Errors
    /// [`Error::Timeout`] when that took longer, or why a commit failed. It is stopped in any case.
    pub(super) fn shutdown(self, grace: Duration) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(self.end(grace))
    }

    async fn end(self, grace: Duration) -> Result<(), Error> {
        self.stop();
        let pipeline = &self.pipeline;
        let drained = tokio::time::timeout(grace, pipeline.tasks.wait()).await;
        self.kill.cancel();
        if drained.is_err() {
            pipeline.tasks.wait().await;
        }
        self.background.close();
        self.background.wait().await;
        let queues = self.assignment.queues();
        let committed = commit_all(&pipeline.store, queues.clone(), Occasion::Revoke).await;
        if pipeline.ordered.as_ref().is_some_and(|ordered| ordered.assigned.is_some()) {
            unlock(pipeline, queues).await;
        }
        if let Some(tracer) = &self.tracer {
            tracer.close().await;
        }
        self.membership.leave().await;
        if self.owns_client {
            pipeline.client.shutdown().await;
        }
        info!(group = %pipeline.group, drained = drained.is_ok(), "consumer stopped");
        drained.map_err(|_| Error::Timeout { doing: "handling the last messages", waited: grace })?;
        committed
    }
}

impl Member {
    /// The queues that belong to this member now.
    pub(super) fn queues(&self) -> Vec<Arc<AssignedQueue>> {
        self.assignment.queues()
    }

    /// Stops or resumes reading and rebalancing.
    pub(super) fn set_suspended(&self, suspended: bool) {
        self.pipeline.suspended.send_replace(suspended);
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

/// The offsets of a broadcasting consumer: `<folder>/<client id>/<group>`. The id must not change when the process does.
async fn open_local(folder: Option<PathBuf>, client: &Client, group: &str) -> Result<LocalOffsets, Error> {
    let Some(folder) = folder.or_else(default_folder) else {
        return Err(invalid("offsets_folder", "there is no home folder to keep offsets in: choose another"));
    };
    LocalOffsets::open(folder.join(&client.core().lasting_id).join(group)).await
}

/// What heartbeats say.
fn heartbeat(
    group: String,
    from: ConsumeFrom,
    polled: bool,
    broadcasting: bool,
    subscriptions: &BTreeMap<String, Arc<SubscriptionData>>,
) -> Box<dyn Fn() -> ConsumerData + Send + Sync> {
    let data = ConsumerData {
        consume_from_where: from.on_wire(),
        consume_type: if polled { ConsumeType::Actively } else { ConsumeType::Passively },
        group_name: group,
        message_model: if broadcasting { MessageModel::Broadcasting } else { MessageModel::Clustering },
        subscription_data_set: subscriptions.values().map(|subscription| (**subscription).clone()).collect(),
        unit_mode: false,
    };
    Box::new(move || data.clone())
}

async fn commit_now_and_then(pipeline: Arc<Pipeline>, assignment: Arc<Assignment>) {
    let interval = if pipeline.store.is_local() { SAVE_INTERVAL } else { COMMIT_INTERVAL };
    while pipeline.stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
        // Not cut short: what a broker was told must be known at the final commit.
        if let Err(error) = commit_all(&pipeline.store, assignment.queues(), Occasion::Progress).await {
            debug!(%error, "progress not committed everywhere; trying again");
        }
    }
}

/// Refuses a setting that is not between 1 and `largest`.
pub(super) fn check_between(name: &'static str, value: usize, largest: usize) -> Result<(), Error> {
    if (1..=largest).contains(&value) {
        return Ok(());
    }
    Err(invalid(name, format!("{value} is not between 1 and {largest}")))
}

pub(super) fn invalid(name: &'static str, reason: impl Into<String>) -> Error {
    Error::InvalidArgument { name, reason: reason.into() }
}

pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
