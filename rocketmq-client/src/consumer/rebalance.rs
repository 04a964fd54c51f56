//! [`Rebalance`]: keeps the assignment in step with the members of the group and the queues of its topics.
//!
//! A pass asks a broker for the members, computes the own share and gives up and takes queues accordingly. It happens at
//! once at the start, when a broker tells that members came or went, and every 20 seconds. What could not be asked is not
//! taken for an empty answer: then everything stays as it is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use rocketmq_protocol::body::{MessageQueue, SubscriptionData};
use rocketmq_protocol::name::RETRY_PREFIX;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::allocate::{AllocateError, AllocateStrategy};
use super::assigned_queue::AssignedQueue;
use super::assignment::Assignment;
use super::fetch::Fetch;
use super::in_order::{InOrder, release};
use super::member::now_ms;
use super::offset_store::{Occasion, commit_all};
use super::pipeline::Pipeline;
use super::start_offset::QueueKind;
use crate::{Error, ReceivedMessage};

/// Time between passes when nothing happens. Java: `RebalanceService.java`.
const INTERVAL: Duration = Duration::from_secs(20);
/// Time to the next pass after one that could not ask everything, doubled while that repeats.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// What it grows to: a topic that appears is consumed within this time.
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// Shortest time between passes: many wake-ups, as when a whole group restarts, become one.
const SHORTEST: Duration = Duration::from_millis(250);

/// Keeps the assignment in step.
pub(super) struct Rebalance {
    pipeline: Arc<Pipeline>,
    assignment: Arc<Assignment>,
    subscriptions: BTreeMap<String, Arc<SubscriptionData>>,
    strategy: Box<dyn AllocateStrategy>,
    /// The queues of each topic when the consumer first saw it.
    first_seen: BTreeMap<String, BTreeSet<MessageQueue>>,
    /// Topics whose last pass failed: that is told aloud once.
    failing: BTreeSet<String>,
    /// Topics that have no queue for this member: that is told once.
    idle: BTreeSet<String>,
}

/// What belongs to this consumer of one topic.
struct Share {
    queues: BTreeSet<MessageQueue>,
    /// How many members the group has: others may have had these queues until now.
    members: usize,
    /// How many queues the topic has.
    of: usize,
}

/// Why nothing is known about the share of a topic.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error(transparent)]
    Error(#[from] Error),
    #[error("the broker does not list this client in its group yet")]
    NotListed,
    #[error("strategy {0} failed")]
    Strategy(String, #[source] AllocateError),
}

impl Rebalance {
    pub(super) fn new(
        pipeline: Arc<Pipeline>,
        assignment: Arc<Assignment>,
        subscriptions: BTreeMap<String, Arc<SubscriptionData>>,
        strategy: Box<dyn AllocateStrategy>,
    ) -> Self {
        let (first_seen, failing, idle) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { pipeline, assignment, subscriptions, strategy, first_seen, failing, idle }
    }

    /// Makes passes until the consumer stops.
    pub(super) async fn run(mut self) {
        let pipeline = Arc::clone(&self.pipeline);
        let mut retry = AFTER_FAILURE;
        let mut suspended = pipeline.suspended.subscribe();
        loop {
            let resumed = suspended.wait_for(|suspended| !suspended);
            if pipeline.stop.run_until_cancelled(resumed).await.is_none() {
                return;
            }
            let began = Instant::now();
            let (pause, next_retry) = match self.pass().await {
                true => (INTERVAL, AFTER_FAILURE),
                false => (retry, (retry * 2).min(LONGEST_RETRY)),
            };
            retry = next_retry;
            let next_pass = tokio::time::sleep(pause);
            tokio::pin!(next_pass);
            loop {
                tokio::select! {
                    () = pipeline.stop.cancelled() => return,
                    () = pipeline.steering.moved.notified() => self.follow().await,
                    () = pipeline.rebalance.notified() => break,
                    () = &mut next_pass => break,
                }
            }
            if pipeline.stop.run_until_cancelled(tokio::time::sleep_until(began + SHORTEST)).await.is_none() {
                return;
            }
        }
    }

    /// Takes queues anew that are wanted elsewhere, or those that the user has chosen. Whose they are is not in question.
    async fn follow(&mut self) {
        let ours = || self.assignment.queues().into_iter().map(|queue| queue.id.clone()).collect();
        let wanted = self.pipeline.steering.assigned().unwrap_or_else(ours);
        self.assign(&wanted).await;
    }

    /// Makes these queues ours and no others.
    async fn assign(&mut self, wanted: &BTreeSet<MessageQueue>) {
        let ours = self.assignment.queues();
        let topics: BTreeSet<&str> =
            ours.iter().map(|queue| &queue.id).chain(wanted).map(|id| &*id.topic).collect();
        for topic in topics {
            let all = || Arc::new(SubscriptionData::parse(topic, SubscriptionData::ALL, now_ms()));
            let subscription = self.subscriptions.get(topic).cloned().unwrap_or_else(all);
            let queues = wanted.iter().filter(|queue| queue.topic == topic).cloned().collect();
            self.apply(&subscription, Share { queues, members: 1, of: 0 }).await;
        }
    }

    /// Returns whether everything could be asked.
    async fn pass(&mut self) -> bool {
        if let Some(chosen) = self.pipeline.steering.assigned() {
            self.assign(&chosen).await;
            return true;
        }
        let mut balanced = true;
        for (topic, subscription) in self.subscriptions.clone() {
            // Asking may be cut short; giving up queues may not.
            let stop = self.pipeline.stop.clone();
            match stop.run_until_cancelled(self.share(&topic)).await {
                None => return true,
                Some(Ok(share)) => {
                    self.failing.remove(&topic);
                    self.apply(&subscription, share).await;
                }
                Some(Err(error)) => {
                    balanced = false;
                    // Brokers create the retry topic some time after they heard of the group.
                    if self.failing.contains(&topic) || topic.starts_with(RETRY_PREFIX) {
                        debug!(topic, %error, "queues stay as they are");
                    } else {
                        warn!(topic, %error, "queues stay as they are; asking again");
                        self.failing.insert(topic);
                    }
                }
            }
        }
        balanced
    }

    async fn share(&mut self, topic: &str) -> Result<Share, Unknown> {
        let Pipeline { client, group, .. } = &*self.pipeline;
        let queues = match client.subscribe_queues(topic, client.request_deadline()).await {
            Ok(queues) => queues,
            Err(error) => {
                if matches!(error, Error::TopicNotFound { .. }) {
                    self.first_seen.entry(topic.to_owned()).or_default();
                }
                return Err(error.into());
            }
        };
        if queues.is_empty() {
            return Err(Error::NoQueue { topic: topic.to_owned(), wanted: "read" }.into());
        }
        if !self.first_seen.contains_key(topic) {
            self.first_seen.insert(topic.to_owned(), queues.iter().cloned().collect());
        }
        if self.pipeline.store.is_local() {
            return Ok(Share { queues: queues.into_iter().collect(), members: 1, of: 0 });
        }
        let mut members = client.consumer_ids(group, topic, client.request_deadline()).await?;
        members.sort();
        members.dedup();
        let me = client.id();
        if !members.iter().any(|member| member == me) {
            // It has lost our heartbeat, or not yet got it. An empty share would make us drop everything.
            client.members_changed();
            client.heartbeat().await;
            return Err(Unknown::NotListed);
        }
        let allocate = AssertUnwindSafe(|| self.strategy.allocate(me, &queues, &members));
        let share = catch_unwind(allocate).unwrap_or_else(|_| Err("it panicked".into()));
        let mut share: BTreeSet<_> =
            share.map_err(|error| Unknown::Strategy(self.strategy.name(), error))?.into_iter().collect();
        share.retain(|queue| queues.binary_search(queue).is_ok());
        Ok(Share { queues: share, members: members.len(), of: queues.len() })
    }

    async fn apply(&mut self, subscription: &Arc<SubscriptionData>, share: Share) {
        let topic = &*subscription.topic;
        if !share.queues.is_empty() {
            self.idle.remove(topic);
        } else if share.of > 0 && !topic.starts_with(RETRY_PREFIX) && self.idle.insert(topic.to_owned()) {
            let (members, queues) = (share.members, share.of);
            info!(topic, members, queues, "idle: the other members of the group have all queues");
        }
        let (given_up, taken) = self.assignment.difference(topic, &share.queues);
        if given_up.is_empty() && taken.is_empty() {
            return;
        }
        info!(
            topic,
            given_up = given_up.len(),
            taken = taken.len(),
            all = share.queues.len(),
            "queues assigned"
        );
        let given_up = self.go_on_elsewhere(given_up, &share.queues).await;
        let taken = self.give_up(topic, given_up, taken).await;
        for id in taken {
            let kind = self.kind(&id);
            let flow = self.pipeline.flow.queue(topic);
            let queue = Arc::new(AssignedQueue::new(id, Arc::clone(subscription), flow));
            let fetch = Fetch {
                pipeline: Arc::clone(&self.pipeline),
                queue: Arc::clone(&queue),
                kind,
                handed_over: share.members > 1,
                inbox: self.inbox(&queue),
            };
            self.assignment.add(queue, self.pipeline.tasks.spawn(fetch.run()));
        }
        if let Some(assigned) = self.pipeline.ordered.as_ref().and_then(|ordered| ordered.assigned.as_ref()) {
            assigned.notify_one();
        }
    }

    /// Gives queues up: the next owner begins where we say. Until we have, none of them can come back to us. Returns which
    /// of `taken` can be taken now.
    async fn give_up(
        &self,
        topic: &str,
        given_up: Vec<Arc<AssignedQueue>>,
        mut taken: Vec<MessageQueue>,
    ) -> Vec<MessageQueue> {
        if self.pipeline.ordered.is_some() {
            // A handler may take long, and the lock must be kept until it ends; the other queues do not wait for it.
            self.assignment.releasing(&given_up);
            taken.retain(|id| given_up.iter().all(|queue| queue.id != *id));
            for queue in given_up {
                let (pipeline, assignment) = (Arc::clone(&self.pipeline), Arc::clone(&self.assignment));
                self.pipeline.spawn(release(pipeline, assignment, queue));
            }
        } else {
            if let Err(error) = commit_all(&self.pipeline.store, given_up.clone(), Occasion::Revoke).await {
                warn!(topic, %error, "queues given up without a commit: some messages will come again");
            }
            self.assignment.remove(&given_up);
        }
        taken
    }

    /// Where the messages of `queue` go when they are handled in order, to a task of their own.
    fn inbox(&self, queue: &Arc<AssignedQueue>) -> Option<UnboundedSender<ReceivedMessage>> {
        let ordered = Arc::clone(self.pipeline.ordered.as_ref()?);
        let (inbox, read) = unbounded_channel();
        let in_order = InOrder {
            pipeline: Arc::clone(&self.pipeline),
            ordered,
            queue: Arc::clone(queue),
            inbox: read,
            waiting: VecDeque::new(),
            held: Vec::new(),
        };
        self.pipeline.spawn(in_order.run());
        Some(inbox)
    }

    /// Gives those queues up that are wanted elsewhere. Returns the others.
    async fn go_on_elsewhere(
        &self,
        given_up: Vec<Arc<AssignedQueue>>,
        kept: &BTreeSet<MessageQueue>,
    ) -> Vec<Arc<AssignedQueue>> {
        let Pipeline { steering, store, .. } = &*self.pipeline;
        let begun = Instant::now();
        let mut others = Vec::new();
        for queue in given_up {
            let Some((offset, patience)) = steering.target(&queue.id) else {
                others.push(queue);
                continue;
            };
            if let Err(error) = queue.go_on_at(store, offset, begun + patience).await {
                warn!(queue = %queue.id, %offset, %error, "moved offset not committed");
            }
            if !kept.contains(&queue.id) {
                steering.arrived(&queue, offset);
            }
            self.assignment.remove(&[queue]);
        }
        others
    }

    fn kind(&self, queue: &MessageQueue) -> QueueKind {
        let known = || self.first_seen.get(&*queue.topic).is_some_and(|queues| queues.contains(queue));
        if queue.topic.starts_with(RETRY_PREFIX) {
            QueueKind::Retry
        } else if self.pipeline.steering.has_chosen(queue) || known() {
            QueueKind::Known
        } else {
            QueueKind::Appeared
        }
    }
}
