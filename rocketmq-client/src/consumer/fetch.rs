//! The task of an assigned queue: finds where to begin, and then reads as long as the queue is ours.
//!
//! There is one such task per queue and it has at most one pull under way, so that no message is read twice and no pull
//! gets lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rocketmq_protocol::requests::{LitePullMessage, PullFlag, PullMessage, PullReply};
use rocketmq_protocol::{ByteString, QueueOffset, ResponseCode};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::assigned_queue::AssignedQueue;
use super::dispatch::Delivery;
use super::filter::selects;
use super::handler::Batch;
use super::pipeline::Pipeline;
use super::start_offset::{Begin, QueueKind};
use crate::deadline::Deadline;
use crate::received_message::ReceivedMessages;
use crate::route_table::BrokerChoice;
use crate::{Error, ReceivedMessage};

/// How long a broker may hold a pull until messages arrive, in milliseconds. Java: `DefaultMQPushConsumerImpl.java`.
const SUSPEND_MS: i64 = 15_000;
/// Limit of a pull. It must leave the broker time to answer what it held.
const PULL_LIMIT: Duration = Duration::from_secs(30);
/// Largest answer to ask for, in bytes. Java: `pullBatchSizeInBytes`.
const MAX_BYTES: i32 = 256 << 10;
/// Pause after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Pause after the broker asked for one.
const AFTER_FLOW_CONTROL: Duration = Duration::from_millis(20);
/// Pause after an answer that brought nothing, though the broker had not waited for messages.
const AFTER_NOTHING: Duration = Duration::from_millis(100);
/// Limit of a question for an offset. Java: `MQAdminImpl.java`, 6 s.
const OFFSET_LIMIT: Duration = Duration::from_secs(6);
/// For how long a group's offset must stand still until the previous owner of a queue is taken to be done with it. Java waits as
/// long, but does not look: `RebalanceImpl.java`, `updateProcessQueueTableInRebalance`.
const STILL: Duration = Duration::from_millis(500);
/// How long a previous owner that goes on and on is waited for: something is wrong with it, and the queue is ours.
const LONGEST_HAND_OVER: Duration = Duration::from_secs(5);
/// The broker id of a master.
const MASTER: i64 = 0;

/// A queue that was given to this consumer.
pub(super) struct Fetch {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) queue: Arc<AssignedQueue>,
    pub(super) kind: QueueKind,
    /// Somebody else may still be handling messages of it.
    pub(super) handed_over: bool,
    /// Where messages that are handled in order go.
    pub(super) inbox: Option<UnboundedSender<ReceivedMessage>>,
}

impl Fetch {
    /// Reads until the queue is given up or the consumer stops.
    pub(super) async fn run(self) {
        let Self { pipeline, queue, .. } = &self;
        let elsewhere = tokio::select! {
            () = pipeline.stop.cancelled() => return,
            () = queue.left() => return,
            elsewhere = self.read() => elsewhere,
        };
        warn!(queue = %queue.id, from = %queue.next(), to = %elsewhere, "offset moved: the broker does not have it");
        // Handlers that are late can no longer commit what they did.
        pipeline.steering.go_on_at(queue, elsewhere, Duration::ZERO);
    }

    /// Reads on and on. Returns the offset to begin anew with when the broker does not have the one to read on from.
    async fn read(&self) -> QueueOffset {
        if self.needs_lock() {
            self.queue.lock.held().await; // the previous owner gives it back after its last commit
        } else if self.handed_over {
            self.previous_owner_done().await;
        }
        let start = self.start().await;
        debug!(queue = %self.queue.id, offset = %start, "queue taken");
        self.queue.begin(start);
        self.pipeline.steering.arrived(&self.queue, start);
        let source = Source::new(&self.pipeline, &self.queue);
        let mut broker_id = MASTER;
        let mut failing = false;
        loop {
            self.queue.room().await;
            self.pipeline.steering.resumed(&self.queue.id).await;
            let mut suspended = self.pipeline.suspended.subscribe();
            suspended.wait_for(|suspended| !suspended).await.ok(); // the pipeline owns the sender
            let (before, begun) = (self.queue.next(), Instant::now());
            self.queue.pulling();
            let answer = tokio::select! {
                answer = source.pull(&self.pipeline, &self.queue, broker_id) => answer,
                _ = suspended.wait_for(|suspended| *suspended) => continue,
            };
            let taken = match answer {
                // A replica that lags behind must not move the group.
                Ok((ResponseCode::PULL_OFFSET_MOVED, _)) if broker_id != MASTER => {
                    broker_id = MASTER;
                    continue;
                }
                Ok((ResponseCode::PULL_OFFSET_MOVED, reply)) => return reply.next_begin_offset,
                Ok((code, reply)) => {
                    broker_id = reply.suggested_broker_id;
                    self.take(&source, reply, begun.elapsed()).map(|()| code)
                }
                Err(error) => Err(error),
            };
            let pause = match taken {
                Ok(code) => {
                    if std::mem::take(&mut failing) {
                        info!(queue = %self.queue.id, "pulling again");
                    }
                    if code == ResponseCode::PULL_NOT_FOUND || self.queue.next() > before {
                        continue;
                    }
                    AFTER_NOTHING
                }
                Err(error) if error.response_code() == Some(ResponseCode::FLOW_CONTROL) => AFTER_FLOW_CONTROL,
                Err(error) => {
                    self.failed("pull", &error, &mut failing).await;
                    broker_id = MASTER;
                    AFTER_FAILURE
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Tells aloud only once that something fails, and does what may help.
    async fn failed(&self, what: &'static str, error: &Error, failing: &mut bool) {
        let queue = &self.queue.id;
        if std::mem::replace(failing, true) {
            debug!(%queue, what, %error, "request failed again");
        } else {
            warn!(%queue, what, %error, "request failed; trying on");
        }
        let client = &self.pipeline.client;
        match error.response_code() {
            // The broker has forgotten us, or has not heard of us yet.
            Some(
                ResponseCode::SUBSCRIPTION_NOT_EXIST
                | ResponseCode::SUBSCRIPTION_NOT_LATEST
                | ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
            ) => {
                self.pipeline.subscription_check.refused(&self.pipeline.group, &queue.topic);
                client.members_changed();
            }
            _ if error.doubts_route() => {
                let deadline = client.request_deadline();
                client.core().refresh_route(&queue.topic, deadline).await;
            }
            _ => {}
        }
    }

    /// Waits until the group's offset stands still. Whoever had the queue moves it as long as it handles messages: a member of
    /// ours every second and when it learns that the queue is no longer its own, Java's with every pull. It may learn that
    /// later than we do: Java's looks once a second at most.
    async fn previous_owner_done(&self) {
        let Self { pipeline, queue, .. } = self;
        let began = Instant::now();
        let mut before = pipeline.store.stored(&queue.id).await.ok();
        loop {
            tokio::time::sleep(STILL).await;
            let now = pipeline.store.stored(&queue.id).await.ok();
            if now.is_some() && now == before {
                return;
            }
            if began.elapsed() >= LONGEST_HAND_OVER {
                debug!(queue = %queue.id, "taken over while its previous owner may still be at work");
                return;
            }
            before = now;
        }
    }

    /// Where to begin: where the group stands, or what was chosen for groups that stand nowhere. A failure to ask is
    /// neither.
    async fn start(&self) -> QueueOffset {
        let mut failing = false;
        loop {
            match self.try_start().await {
                Ok(offset) => return offset,
                Err(error) => self.failed("offset to begin with", &error, &mut failing).await,
            }
            tokio::time::sleep(AFTER_FAILURE).await;
        }
    }

    async fn try_start(&self) -> Result<QueueOffset, Error> {
        let Self { pipeline, queue, kind, .. } = self;
        if let Some((wanted, _)) = pipeline.steering.target(&queue.id) {
            return Ok(wanted);
        }
        if let Some(stored) = pipeline.store.stored(&queue.id).await? {
            return Ok(stored);
        }
        let deadline = Deadline::after(OFFSET_LIMIT);
        let start = match pipeline.settings.from.begin(*kind) {
            Begin::Min => pipeline.client.min_offset(&queue.id, deadline).await,
            Begin::Max => pipeline.client.max_offset(&queue.id, deadline).await,
            Begin::Time(ms) => pipeline.client.offset_at(&queue.id, ms, deadline).await,
        }?;
        queue.settle(&pipeline.store, start).await?;
        Ok(start)
    }

    /// Whether messages may only be read under the broker's lock.
    fn needs_lock(&self) -> bool {
        self.pipeline.ordered.as_ref().is_some_and(|ordered| ordered.assigned.is_some())
    }

    /// Whether the user wants the message handled. A filter that panics does not say no.
    fn passes(&self, message: &ReceivedMessage) -> bool {
        let Some(filter) = &self.pipeline.settings.message_filter else { return true };
        catch_unwind(AssertUnwindSafe(|| filter(message))).unwrap_or_else(|_| {
            warn!(queue = %self.queue.id, offset = %message.queue_offset(), "message filter panicked; message let through");
            true
        })
    }

    /// Hands the messages of an answer to the workers. What follows a message that cannot be read is left for the next
    /// pull, and so is that message.
    fn take(&self, source: &Source, reply: PullReply, took: Duration) -> Result<(), Error> {
        let Self { pipeline, queue, .. } = self;
        let mut next = queue.next();
        let namespace = &pipeline.client.core().namespace;
        let body = reply.messages.into_bytes();
        let (messages, decoded) = ReceivedMessages::decode(body, &source.broker, namespace);
        let mut wanted = Vec::with_capacity(messages.size_hint().0);
        for message in messages {
            next = message.queue_offset().plus(1);
            if selects(&queue.subscription, || message.tag()) && self.passes(&message) {
                wanted.push(message);
            }
        }
        let undecodable =
            |source| Error::Undecodable { queue: queue.id.to_string(), offset: next.get(), source };
        let taken = decoded.map_err(undecodable);
        if taken.is_ok() {
            next = reply.next_begin_offset;
        }
        let mut ready = Vec::with_capacity(wanted.len());
        let sized = |message: ReceivedMessage| (message.queue_offset(), message.stored().body.len(), message);
        queue.put(wanted.into_iter().map(sized), next, |message| ready.push(message));
        pipeline.consumption.pulled(&queue.id.topic, ready.len(), took);
        if let Some(inbox) = &self.inbox {
            for message in ready {
                inbox.send(message).ok(); // whoever does not listen any more has given the queue up
            }
            return taken;
        }
        let mut deliveries = Vec::with_capacity(ready.len().div_ceil(pipeline.settings.batch));
        while !ready.is_empty() {
            let batch: Arc<[_]> = ready.drain(..pipeline.settings.batch.min(ready.len())).collect();
            deliveries.push(Delivery { queue: Arc::clone(queue), messages: Batch::new(batch) });
        }
        pipeline.dispatcher.push(deliveries);
        taken
    }
}

/// What the pulls of one queue have in common.
struct Source {
    broker: ByteString,
    request: PullMessage,
    /// The request for lite pulls is used, until a broker does not know it.
    lite: AtomicBool,
}

impl Source {
    fn new(pipeline: &Pipeline, queue: &AssignedQueue) -> Self {
        let polled = pipeline.settings.polled;
        let request = PullMessage {
            consumer_group: pipeline.group.clone(),
            topic: queue.id.topic.clone(),
            queue_id: queue.id.queue_id,
            queue_offset: QueueOffset::ZERO,
            max_messages: pipeline.settings.pull,
            sys_flag: 0,
            commit_offset: QueueOffset::ZERO,
            suspend_timeout_ms: SUSPEND_MS,
            subscription: polled.then(|| queue.subscription.sub_string.as_str().into()),
            subscription_version: queue.subscription.sub_version,
            expression_type: Some(queue.subscription.expression_type.name().into()),
            max_bytes: Some(MAX_BYTES),
        };
        Self { broker: queue.id.broker_name.clone(), request, lite: AtomicBool::new(polled) }
    }

    async fn pull(
        &self,
        pipeline: &Pipeline,
        queue: &AssignedQueue,
        broker_id: i64,
    ) -> Result<(ResponseCode, PullReply), Error> {
        let deadline = Deadline::after(PULL_LIMIT);
        let choice = BrokerChoice::Id(broker_id);
        let connection =
            pipeline.client.broker(&queue.id.topic, &queue.id.broker_name, choice, deadline).await?;
        let polled = pipeline.settings.polled;
        let mut flag = PullFlag::SUSPEND;
        if polled {
            flag = flag.with(PullFlag::SUBSCRIPTION).with(PullFlag::LITE_PULL);
        }
        // Only what no commit of ours can overtake, and only to the master, which keeps offsets.
        let settled = queue.settled().filter(|offset| {
            broker_id == MASTER && *offset > QueueOffset::ZERO && !polled && !pipeline.store.is_local()
        });
        if settled.is_some() {
            flag = flag.with(PullFlag::COMMIT_OFFSET);
        }
        let request = PullMessage {
            queue_offset: queue.next(),
            sys_flag: flag.get(),
            commit_offset: settled.unwrap_or_default(),
            ..self.request.clone()
        };
        if !self.lite.load(Ordering::Relaxed) {
            return Ok(connection.call_coded(&request, deadline.left()).await?);
        }
        let answer = connection.call_coded(&LitePullMessage(request), deadline.left()).await;
        if matches!(&answer, Err(error) if error.response_code() == Some(ResponseCode::REQUEST_CODE_NOT_SUPPORTED))
        {
            self.lite.store(false, Ordering::Relaxed); // before 5.0
        }
        Ok(answer?)
    }
}
