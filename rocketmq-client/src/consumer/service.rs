//! [`MemberService`]: what a consumer answers to brokers, mostly on behalf of an administrator.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rocketmq_protocol::body::{
    ConsumeMessageDirectlyResult, ConsumeResult, ConsumeType, ConsumerRunningInfo, MessageQueue, QueueTable,
    SubscriptionData,
};
use rocketmq_protocol::requests::ConsumeMessageDirectlyReply;
use rocketmq_protocol::transport::Call;
use rocketmq_protocol::{QueueOffset, ResponseCode};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::assignment::Assignment;
use super::handler::{self, Ack, Batch};
use super::listener::Listener;
use super::orderly::{self, OrderlyAck, OrderlyContext};
use super::pipeline::Pipeline;
use crate::client::spawn_until;
use crate::members::ConsumerService;
use crate::{Client, ReceivedMessage};

/// What a consumer answers to brokers.
pub(super) struct MemberService {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) assignment: Arc<Assignment>,
    pub(super) subscriptions: Vec<Arc<SubscriptionData>>,
    pub(super) consume_type: ConsumeType,
    /// Where messages go that an administrator sends.
    pub(super) listener: Option<Listener>,
    pub(super) started: SystemTime,
    /// Ends what the consumer runs.
    pub(super) kill: CancellationToken,
}

/// What Java calls the release that this crate family announces.
const CLIENT_VERSION: &str = "V5_4_0";

/// What handlers get to finish before their queue goes on elsewhere. Java: `DefaultMQPushConsumerImpl.java`, `resetOffset`.
pub(super) const HANDLERS_MAY_FINISH: Duration = Duration::from_secs(10);

impl ConsumerService for MemberService {
    fn reset(&self, offsets: BTreeMap<MessageQueue, QueueOffset>) {
        for queue in self.assignment.queues() {
            if let Some(offset) = offsets.get(&queue.id) {
                self.pipeline.steering.go_on_at(&queue, *offset, HANDLERS_MAY_FINISH);
            }
        }
    }

    fn progress(&self, topic: &str) -> QueueTable<QueueOffset> {
        let queues = self.assignment.queues().into_iter().filter(|queue| queue.id.topic == topic);
        queues.filter_map(|queue| Some((queue.id.clone(), queue.committable()?))).collect()
    }

    fn running_info(&self) -> ConsumerRunningInfo {
        let queues = self.assignment.queues();
        ConsumerRunningInfo {
            mq_table: queues.iter().map(|queue| (queue.id.clone(), queue.info())).collect(),
            properties: self.properties(),
            status_table: self.pipeline.consumption.statuses(),
            subscription_set: self.subscriptions.iter().map(|data| (**data).clone()).collect(),
            ..ConsumerRunningInfo::default()
        }
    }

    fn consume_directly(&self, message: ReceivedMessage, call: Call) {
        let Some(listener) = self.listener.clone() else {
            let group = &self.pipeline.group;
            let remark =
                format!("the consumer of group {group} has no handler that could be given a message");
            return call.refuse(ResponseCode::SYSTEM_ERROR, remark);
        };
        let message = message.within(&self.pipeline.client.core().namespace);
        info!(?message, "message handed over by an administrator");
        let lost = self.kill.child_token();
        let handling = async move {
            let begun = Instant::now();
            let mut result = given(&listener, Batch::new([message]), OrderlyContext { lost }).await;
            result.spent_time_mills = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
            call.reply(&ConsumeMessageDirectlyReply { result });
        };
        spawn_until(&self.pipeline.tasks, &self.kill, handling);
    }
}

/// What the listener makes of one message. Java: `ConsumeMessageConcurrentlyService.java`,
/// `ConsumeMessageOrderlyService.java`, `consumeMessageDirectly`.
async fn given(listener: &Listener, message: Batch, context: OrderlyContext) -> ConsumeMessageDirectlyResult {
    let (order, verdict) = match listener {
        Listener::Concurrent(listener) => {
            let outcome = handler::consume(&**listener, message).await;
            let verdict = outcome.map(|ack| match ack {
                Ack::All | Ack::First(1..) => (ConsumeResult::Success, true),
                Ack::First(0) | Ack::Retry | Ack::RetryAfter(_) | Ack::DeadLetter => {
                    (ConsumeResult::Later, true)
                }
            });
            (false, verdict)
        }
        Listener::Ordered(listener) => {
            let outcome = orderly::consume(&**listener, message, context).await;
            let verdict = outcome.map(|ack| match ack {
                OrderlyAck::Commit => (ConsumeResult::Success, true),
                OrderlyAck::Hold => (ConsumeResult::Success, false),
                OrderlyAck::Suspend | OrderlyAck::SuspendFor(_) => (ConsumeResult::Later, true),
                OrderlyAck::Rollback => (ConsumeResult::Rollback, false),
            });
            (true, verdict)
        }
    };
    let (consume_result, auto_commit, remark) = match verdict {
        Ok((result, auto_commit)) => (result, auto_commit, None),
        Err(error) => (ConsumeResult::ThrowException, true, Some(error.to_string())),
    };
    ConsumeMessageDirectlyResult { auto_commit, consume_result, order, remark, spent_time_mills: 0 }
}

impl MemberService {
    /// The settings, by Java's names. Java: `DefaultMQPushConsumerImpl.java`, `consumerRunningInfo`.
    fn properties(&self) -> BTreeMap<String, String> {
        let Pipeline { client, group, settings, .. } = &*self.pipeline;
        let mut properties = properties(client, group, self.consume_type, self.started);
        properties.extend(
            [
                ("PROP_CONSUMEORDERLY", matches!(self.listener, Some(Listener::Ordered(_))).to_string()),
                ("PROP_THREADPOOL_CORE_SIZE", settings.concurrency.to_string()),
                ("consumeMessageBatchMaxSize", settings.batch.to_string()),
                ("maxReconsumeTimes", settings.max_reconsume_times.unwrap_or(-1).to_string()),
                ("pullBatchSize", settings.pull.to_string()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        properties
    }
}

/// What every consumer tells of itself, by Java's names. `mqadmin` insists on some of it.
pub(super) fn properties(
    client: &Client,
    group: &str,
    consume_type: ConsumeType,
    started: SystemTime,
) -> BTreeMap<String, String> {
    let started = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    [
        ("PROP_CLIENT_VERSION", CLIENT_VERSION.to_owned()),
        ("PROP_CONSUMEORDERLY", "false".to_owned()),
        ("PROP_CONSUMER_START_TIMESTAMP", started.to_string()),
        ("PROP_CONSUME_TYPE", consume_type.name().to_owned()),
        ("PROP_NAMESERVER_ADDR", client.core().name_servers.addresses().join(";")),
        ("consumerGroup", group.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
