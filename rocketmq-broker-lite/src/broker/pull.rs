//! Pulling messages: `PULL_MESSAGE` and `LITE_PULL_MESSAGE`, with long polling.

use std::sync::Arc;

use rocketmq_protocol::body::{ExpressionType, Perm, SubscriptionData};
use rocketmq_protocol::message::PropertiesRef;
use rocketmq_protocol::request::Segments;
use rocketmq_protocol::requests::{PullFlag, PullMessage, PullReply};
use rocketmq_protocol::transport::{Call, Connection};
use rocketmq_protocol::{ByteString, QueueId, QueueOffset, ResponseCode, TagHash};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::clients::Subscribed;
use super::held_pulls::HeldPulls;
use super::refusal::Refusal;
use super::shared::Shared;
use super::subscription::Subscription;
use crate::store::{ReadLimits, ReadOutcome, ReadStatus};

/// Pulls that a sender's task answers before it goes on with its own: a sender must not wait for a thousand consumers.
const MAX_AT_ONCE: usize = 16;

/// Serves pulls.
pub(super) struct PullService {
    pub(super) with: Shared,
    pub(super) held: Arc<HeldPulls>,
}

/// A pull that was found in order.
pub(super) struct HeldPull {
    call: Call,
    request: PullMessage,
    subscription: Arc<Subscription>,
    topic_sys_flag: i32,
    group_sys_flag: i32,
}

impl HeldPull {
    pub(super) fn topic(&self) -> &str {
        &self.request.topic
    }

    pub(super) fn queue_id(&self) -> QueueId {
        self.request.queue_id
    }

    pub(super) fn connection(&self) -> &Connection {
        self.call.connection()
    }

    pub(super) fn offset(&self) -> QueueOffset {
        self.request.queue_offset
    }

    /// Whether a message passes.
    pub(super) fn wants(&self, tag_hash: TagHash, properties: PropertiesRef<'_>) -> bool {
        self.subscription.wants_tag(tag_hash) && self.subscription.wants_properties(properties)
    }
}

impl PullService {
    pub(super) fn serve(self: &Arc<Self>, call: Call) {
        let request = match call.read::<PullMessage>() {
            Ok(request) => request,
            Err(error) => return Refusal::from(error).answer(&call),
        };
        let pull = match self.admit(&request) {
            Ok(admitted) => HeldPull {
                call,
                request,
                subscription: admitted.subscription,
                topic_sys_flag: admitted.topic_sys_flag,
                group_sys_flag: admitted.group_sys_flag,
            },
            Err(refusal) => return refusal.answer(&call),
        };
        let flags = PullFlag::new(pull.request.sys_flag);
        if flags.contains(PullFlag::COMMIT_OFFSET) {
            let PullMessage { consumer_group, topic, queue_id, commit_offset, .. } = &pull.request;
            if commit_offset.get() >= 0 {
                self.with.offsets.set(consumer_group, topic, *queue_id, *commit_offset);
            }
        }
        self.execute(pull, flags.contains(PullFlag::SUSPEND));
    }

    /// The checks in the order of Java's `PullMessageProcessor.java`.
    fn admit(&self, request: &PullMessage) -> Result<Admitted, Refusal> {
        let PullMessage { consumer_group: group, topic, queue_id, .. } = request;
        if self.with.config.broker_permission & 4 == 0 {
            return Err(Refusal::forbidden(format!(
                "the broker {} is not readable (brokerPermission)",
                self.with.config.broker_name
            )));
        }
        let flags = PullFlag::new(request.sys_flag);
        if flags.contains(PullFlag::LITE_PULL) && !self.with.config.lite_pull {
            return Err(Refusal::forbidden("lite pulls are switched off (litePullMessageEnable)".to_owned()));
        }
        let group_config = self.with.groups.obtain(group, &self.with.tasks)?;
        if !group_config.consume_enable {
            return Err(Refusal::forbidden(format!("the group {group} may not consume (consumeEnable)")));
        }
        let topic_config =
            self.with.topics.get(topic).ok_or_else(|| Refusal::no_topic(topic, "pull from"))?;
        if !topic_config.perm.contains(Perm::READ) {
            return Err(Refusal::forbidden(format!(
                "the topic {topic} is not readable (perm {})",
                topic_config.perm
            )));
        }
        if queue_id.get() < 0 || queue_id.get() >= topic_config.read_queue_nums {
            return Err(Refusal::new(
                ResponseCode::INVALID_PARAMETER,
                format!(
                    "queueId {queue_id} of topic {topic}: it has {} read queues",
                    topic_config.read_queue_nums
                ),
            ));
        }
        let subscription = if flags.contains(PullFlag::SUBSCRIPTION) {
            let expression = request.subscription.as_deref().unwrap_or(SubscriptionData::ALL);
            let kind = request.expression_type.as_deref().unwrap_or_default();
            let version = request.subscription_version;
            let data = match ExpressionType::from_name(kind) {
                Some(ExpressionType::Tag) => SubscriptionData::parse(topic.to_string(), expression, version),
                Some(ExpressionType::Sql92) => {
                    SubscriptionData::sql92(topic.to_string(), expression, version)
                }
                _ => {
                    let remark = format!("expressionType={kind}: expected TAG or SQL92");
                    return Err(Refusal::new(ResponseCode::SUBSCRIPTION_PARSE_FAILED, remark));
                }
            };
            let subscription = Subscription::new(data);
            // Java sends every message then, which the consumer did not ask for.
            subscription.check().map_err(Refusal::not_parsed)?;
            Arc::new(subscription)
        } else {
            self.subscription(request, group_config.consume_broadcast_enable)?
        };
        if subscription.is_sql() && !self.with.config.property_filter {
            return Err(Refusal::no_sql());
        }
        Ok(Admitted {
            subscription,
            topic_sys_flag: topic_config.topic_sys_flag,
            group_sys_flag: group_config.group_sys_flag,
        })
    }

    /// The subscription that the group's last heartbeat told.
    fn subscription(&self, request: &PullMessage, may_broadcast: bool) -> Result<Arc<Subscription>, Refusal> {
        let PullMessage { consumer_group: group, topic, .. } = request;
        let (subscription, broadcasting) = match self.with.clients.subscription(group, topic) {
            Subscribed::Yes { subscription, broadcasting } => (subscription, broadcasting),
            Subscribed::OtherTopics => {
                return Err(Refusal::new(
                    ResponseCode::SUBSCRIPTION_NOT_EXIST,
                    format!(
                        "the group {group} does not subscribe {topic}; do all its members subscribe the same?"
                    ),
                ));
            }
            Subscribed::NoGroup => {
                return Err(Refusal::new(
                    ResponseCode::SUBSCRIPTION_NOT_EXIST,
                    format!("no heartbeat of the group {group} has come yet"),
                ));
            }
        };
        if broadcasting && !may_broadcast {
            return Err(Refusal::forbidden(format!(
                "the group {group} may not broadcast (consumeBroadcastEnable)"
            )));
        }
        let version = subscription.data.sub_version;
        if version < request.subscription_version {
            return Err(Refusal::new(
                ResponseCode::SUBSCRIPTION_NOT_LATEST,
                format!(
                    "the subscription of {group} to {topic} has version {version} here, older than {}",
                    request.subscription_version
                ),
            ));
        }
        subscription
            .check()
            .map_err(|error| Refusal::new(ResponseCode::FILTER_DATA_NOT_EXIST, error.to_string()))?;
        Ok(subscription)
    }

    /// Reads and answers, elsewhere if that has to wait for the disk; holds the pull instead when there is nothing and it
    /// `may_wait`.
    fn execute(self: &Arc<Self>, pull: HeldPull, may_wait: bool) {
        if self.with.store.would_wait(pull.topic(), pull.queue_id(), pull.offset()) {
            let service = Arc::clone(self);
            self.with.tasks.spawn_blocking(move || service.read_and_answer(pull, may_wait, bring_in));
        } else {
            self.read_and_answer(pull, may_wait, |_| ());
        }
    }

    fn read_and_answer(&self, pull: HeldPull, may_wait: bool, prepare: fn(&ReadOutcome)) {
        let request = &pull.request;
        let reset = self.with.offsets.take_reset(&request.consumer_group, &request.topic, request.queue_id);
        if let Some(offset) = reset.filter(|offset| *offset != request.queue_offset) {
            return self.move_to(&pull, offset);
        }
        let max_messages = usize::try_from(request.max_messages.max(1)).unwrap_or(1);
        let max_bytes = request.max_bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(u64::MAX);
        let limit = |configured: u64| usize::try_from(configured).unwrap_or(usize::MAX);
        let limits = ReadLimits {
            max_messages: max_messages.min(limit(self.with.config.max_transfer_count)),
            max_bytes: limit(max_bytes.min(self.with.config.max_transfer_bytes)),
        };
        let (topic, subscription) = (&request.topic, &pull.subscription);
        let by_tag = |hash| subscription.wants_tag(hash);
        let outcome = if subscription.is_sql() {
            let by_properties = |properties: PropertiesRef<'_>| subscription.wants_properties(properties);
            let (queue_id, from) = (request.queue_id, request.queue_offset);
            self.with.store.read_matching(topic, queue_id, from, limits, by_tag, by_properties)
        } else {
            self.with.store.read(topic, request.queue_id, request.queue_offset, limits, by_tag)
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                warn!(topic = %request.topic, queue_id = %request.queue_id, error = &error as &dyn std::error::Error, "queue cannot be read");
                return Refusal::new(ResponseCode::SYSTEM_ERROR, error.to_string()).answer(&pull.call);
            }
        };
        let code = response_code(outcome.status, request.queue_offset);
        if code == ResponseCode::PULL_NOT_FOUND && may_wait {
            return self.hold(pull);
        }
        prepare(&outcome);
        answer(&pull, code, outcome);
    }

    /// Tells a consumer whose group was reset where to go on. Java: `PullMessageProcessor.java`, `GetMessageStatus.OFFSET_RESET`.
    fn move_to(&self, pull: &HeldPull, offset: QueueOffset) {
        let PullMessage { topic, queue_id, .. } = &pull.request;
        let reply = PullReply {
            suggested_broker_id: 0,
            next_begin_offset: offset,
            min_offset: self.with.store.min_offset(topic, *queue_id),
            max_offset: self.with.store.max_offset(topic, *queue_id),
            topic_sys_flag: Some(pull.topic_sys_flag),
            group_sys_flag: Some(pull.group_sys_flag),
            forbidden_type: None,
            messages: Segments::Empty,
        };
        let remark = ByteString::from_static("OFFSET_RESET");
        pull.call.answer(ResponseCode::PULL_OFFSET_MOVED, Some(remark), &reply);
    }

    fn hold(&self, pull: HeldPull) {
        let wait_ms = if self.with.config.long_polling {
            pull.request.suspend_timeout_ms.max(0)
        } else {
            i64::try_from(self.with.config.short_polling_time.as_millis()).unwrap_or(i64::MAX)
        };
        let deadline = shared_deadline(self.with.clock.now_ms().saturating_add(wait_ms), wait_ms);
        let arrived = |pull: &HeldPull| {
            let (topic, queue_id) = (pull.topic(), pull.queue_id());
            self.with.store.max_offset(topic, queue_id) > pull.offset()
                || self.with.offsets.is_reset(&pull.request.consumer_group, topic, queue_id)
        };
        if let Some(pull) = self.held.hold(pull, deadline, arrived) {
            self.read_and_answer(pull, false, |_| ());
        }
    }

    /// Drops the held pulls of a connection that is gone.
    pub(super) fn forget(&self, connection: &Connection) {
        self.held.forget(connection);
    }

    /// Answers held pulls that messages have woken, a few at most: here and now, since their own task would be a wake-up and a
    /// write later.
    pub(super) fn answer_woken(self: &Arc<Self>) {
        for pull in self.held.take_woken(MAX_AT_ONCE) {
            self.execute(pull, false);
        }
    }

    /// Answers held pulls as they come due, until `stop`; then answers all that are left.
    pub(super) async fn answer_held(self: &Arc<Self>, stop: CancellationToken) {
        loop {
            let (due, next) = self.held.take_due(self.with.clock.now_ms());
            for pull in due {
                self.execute(pull, false);
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.held.due() => {}
                () = self.with.clock.sleep_until(next.unwrap_or(i64::MAX)), if next.is_some() => {}
            }
        }
        for pull in self.held.close() {
            self.execute(pull, false);
        }
    }
}

/// Up to a sixteenth of the wait earlier, so that pulls that began at about the same time end together: the thousands that
/// idle consumers keep up are then answered with few writes, and asked again with few reads.
fn shared_deadline(deadline_ms: i64, wait_ms: i64) -> i64 {
    let grid = 1 << (wait_ms / 16).max(1).ilog2();
    deadline_ms & -grid
}

struct Admitted {
    subscription: Arc<Subscription>,
    topic_sys_flag: i32,
    group_sys_flag: i32,
}

fn answer(pull: &HeldPull, code: ResponseCode, outcome: ReadOutcome) {
    let reply = PullReply {
        suggested_broker_id: 0,
        next_begin_offset: outcome.next_offset,
        min_offset: outcome.min_offset,
        max_offset: outcome.max_offset,
        topic_sys_flag: Some(pull.topic_sys_flag),
        group_sys_flag: Some(pull.group_sys_flag),
        forbidden_type: None,
        messages: Segments::Many(outcome.records),
    };
    pull.call.answer(code, Some(ByteString::from_static(status_name(outcome.status))), &reply);
}

/// Touches every page, so that the disk is waited for here and not on the task of a connection.
fn bring_in(outcome: &ReadOutcome) {
    const PAGE: usize = 4096;
    for record in &outcome.records {
        std::hint::black_box(record.iter().step_by(PAGE).fold(0, |sum: u8, byte| sum.wrapping_add(*byte)));
    }
}

/// Java: `PullMessageProcessor.java`, `composeResponseHeader`.
fn response_code(status: ReadStatus, asked: QueueOffset) -> ResponseCode {
    match status {
        ReadStatus::Found => ResponseCode::SUCCESS,
        ReadStatus::MessageWasRemoving | ReadStatus::NoMatchedMessage => ResponseCode::PULL_RETRY_IMMEDIATELY,
        ReadStatus::NoMatchedLogicQueue | ReadStatus::NoMessageInQueue if asked != QueueOffset::ZERO => {
            ResponseCode::PULL_OFFSET_MOVED
        }
        ReadStatus::NoMatchedLogicQueue
        | ReadStatus::NoMessageInQueue
        | ReadStatus::OffsetFoundNull
        | ReadStatus::OffsetOverflowOne => ResponseCode::PULL_NOT_FOUND,
        ReadStatus::OffsetOverflowBadly | ReadStatus::OffsetTooSmall => ResponseCode::PULL_OFFSET_MOVED,
    }
}

/// Java: `GetMessageStatus.java`.
fn status_name(status: ReadStatus) -> &'static str {
    match status {
        ReadStatus::Found => "FOUND",
        ReadStatus::NoMatchedMessage => "NO_MATCHED_MESSAGE",
        ReadStatus::MessageWasRemoving => "MESSAGE_WAS_REMOVING",
        ReadStatus::OffsetFoundNull => "OFFSET_FOUND_NULL",
        ReadStatus::OffsetOverflowBadly => "OFFSET_OVERFLOW_BADLY",
        ReadStatus::OffsetOverflowOne => "OFFSET_OVERFLOW_ONE",
        ReadStatus::OffsetTooSmall => "OFFSET_TOO_SMALL",
        ReadStatus::NoMatchedLogicQueue => "NO_MATCHED_LOGIC_QUEUE",
        ReadStatus::NoMessageInQueue => "NO_MESSAGE_IN_QUEUE",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::shared_deadline;

    proptest! {
        #[test]
        fn waits_end_a_little_early_never_late_and_never_at_once(
            now_ms in 0..=i64::MAX / 2,
            wait_ms in 1..=86_400_000i64,
        ) {
            let deadline_ms = now_ms + wait_ms;
            let shared = shared_deadline(deadline_ms, wait_ms);
            prop_assert!(shared > now_ms && shared <= deadline_ms && deadline_ms - shared <= wait_ms / 16);
        }
    }

    #[test]
    fn pulls_that_began_together_end_together() {
        let ends = (0..512).map(|ms| shared_deadline(1_700_000_000_000 + ms + 15_000, 15_000));
        assert!(ends.collect::<std::collections::BTreeSet<_>>().len() <= 2);
    }
}
