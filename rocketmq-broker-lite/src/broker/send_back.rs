//! Messages that a consumer could not handle: `CONSUMER_SEND_MSG_BACK` stores them once more, to come again later or as dead letters.

use std::sync::Arc;

use rocketmq_protocol::body::{Perm, SubscriptionGroupConfig, TopicConfig};
use rocketmq_protocol::message::{NewMessage, Properties, StoredMessageRef, property};
use rocketmq_protocol::name::{dlq_topic, retry_topic};
use rocketmq_protocol::request::Done;
use rocketmq_protocol::requests::SendMessageBack;
use rocketmq_protocol::{ByteString, QueueId, ResponseCode};
use tracing::info;

use super::refusal::Refusal;
use super::schedule::moved;
use super::send::{malformed, not_appended};
use super::shared::Shared;
use crate::config::FlushDisk;

/// The delay level of the first failure; each further one waits a level longer.
const FIRST_LEVEL: i32 = 3;

/// Takes messages back.
pub(super) struct SendBackService {
    pub(super) with: Shared,
}

/// Where a message goes that failed `reconsume_times` before.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Retry { level: i32 },
    DeadLetter,
}

impl SendBackService {
    /// Java: `AbstractSendMessageProcessor.java`, `consumerSendMsgBack`.
    pub(super) async fn send_back(&self, request: SendMessageBack) -> Result<Done, Refusal> {
        let group = self.with.groups.obtain(&request.group, &self.with.tasks)?;
        if self.with.config.broker_permission & 2 == 0 {
            let remark =
                format!("the broker {} is not writable (brokerPermission)", self.with.config.broker_name);
            return Err(Refusal::forbidden(remark));
        }
        if group.retry_queue_nums <= 0 {
            return Ok(Done {}); // the group wants failed messages forgotten
        }
        let retry = self.obtain(retry_topic(&request.group), group.retry_queue_nums).await?;
        // Its record may have to be read from disk.
        let (store, position) = (Arc::clone(&self.with.store), request.position);
        let reading = tokio::task::spawn_blocking(move || store.message_at(position));
        let record =
            reading.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
        let gone = |reason: &str| {
            let remark = format!("no message at position {position} of the commit log{reason}");
            Refusal::new(ResponseCode::SYSTEM_ERROR, remark)
        };
        let record = record.ok_or_else(|| gone(""))?;
        let record = StoredMessageRef::parse(&record).map_err(|error| gone(&format!(": {error}")))?;

        let (topic, level) = match next(&group, &request, record.reconsume_times()) {
            Next::Retry { level } => (retry, level),
            Next::DeadLetter => (self.obtain(dlq_topic(&request.group), 1).await?, 0),
        };
        let queue_id = QueueId::new(rand::random_range(0..topic.write_queue_nums.max(1)));
        self.store_again(&record, &topic.topic_name, queue_id, level).await
    }

    /// The topic, made when it is missing.
    async fn obtain(&self, name: String, queues: i32) -> Result<Arc<TopicConfig>, Refusal> {
        if let Some(topic) = self.with.topics.get(&name) {
            return Ok(topic);
        }
        let topic = TopicConfig::new(name.clone(), queues, Perm::READ_WRITE);
        let topic = self.with.topics.create(topic).await.map_err(|error| {
            Refusal::new(ResponseCode::SYSTEM_ERROR, format!("the topic {name} cannot be created: {error}"))
        })?;
        info!(topic = name, "topic created for failed messages");
        self.with.registration.announce().await;
        Ok(topic)
    }

    async fn store_again(
        &self,
        record: &StoredMessageRef<'_>,
        topic: &str,
        queue_id: QueueId,
        level: i32,
    ) -> Result<Done, Refusal> {
        let properties = again(record, level)?;
        let deferred =
            self.with.deferral.of(topic, queue_id, properties.as_ref(), self.with.clock.now_ms())?;
        let (topic, queue_id, properties) = match &deferred {
            Some(deferred) => (deferred.topic, deferred.queue_id, &deferred.properties),
            None => (topic, queue_id, &properties),
        };
        let mut buffer = Vec::new();
        let message = NewMessage {
            store_host: self.with.store_host,
            reconsume_times: record.reconsume_times().saturating_add(1),
            properties: &[properties.as_ref()],
            ..moved(record, topic, queue_id)
        };
        message.encode(&mut buffer).map_err(malformed)?;
        let appended = self.with.store.append(topic, queue_id, &mut buffer).map_err(not_appended)?;
        // The consumer's offset passes the message once this is answered, so the copy must be as safe as any other message.
        if self.with.config.flush_disk == FlushDisk::Sync {
            self.with
                .store
                .flushed(appended.end)
                .await
                .map_err(|error| Refusal::new(ResponseCode::SYSTEM_ERROR, error.to_string()))?;
        }
        Ok(Done {})
    }
}

fn next(group: &SubscriptionGroupConfig, request: &SendMessageBack, failed_before: i32) -> Next {
    let most = request.max_reconsume_times.unwrap_or(group.retry_max_times);
    if failed_before >= most || request.delay_level < 0 {
        Next::DeadLetter
    } else if request.delay_level == 0 {
        Next::Retry { level: failed_before.max(0).saturating_add(FIRST_LEVEL) }
    } else {
        Next::Retry { level: request.delay_level }
    }
}

/// The properties of a message that is stored once more.
fn again(record: &StoredMessageRef<'_>, level: i32) -> Result<Properties, Refusal> {
    let told = record.properties();
    let mut builder = Properties::new(ByteString::from(told.to_text().as_ref())).to_builder();
    if told.get(property::RETRY_TOPIC).is_none() {
        builder = builder.set(property::RETRY_TOPIC, record.topic());
    }
    if told.get(property::ORIGIN_MESSAGE_ID).is_none() {
        builder = builder.set(property::ORIGIN_MESSAGE_ID, &record.offset_message_id().to_string());
    }
    builder.set(property::DELAY, &level.to_string()).set(property::WAIT, "false").build().map_err(malformed)
}

#[cfg(test)]
mod tests {
    use rocketmq_protocol::LogPosition;

    use super::*;

    fn request(delay_level: i32, max_reconsume_times: Option<i32>) -> SendMessageBack {
        SendMessageBack {
            position: LogPosition::ZERO,
            group: "g".into(),
            delay_level,
            origin_message_id: None,
            origin_topic: None,
            unit_mode: false,
            max_reconsume_times,
            broker_name: None,
        }
    }

    #[test]
    fn each_failure_waits_a_level_longer_until_the_message_is_dead() {
        let group = SubscriptionGroupConfig::new("g");
        let levels: Vec<_> = (0..18).map(|failed| next(&group, &request(0, None), failed)).collect();
        let expected = (3..=18).map(|level| Next::Retry { level });
        assert_eq!(levels, expected.chain([Next::DeadLetter, Next::DeadLetter]).collect::<Vec<_>>());
    }

    #[test]
    fn the_request_overrules_the_group_and_a_negative_level_ends_it() {
        let group = SubscriptionGroupConfig { retry_max_times: 2, ..SubscriptionGroupConfig::new("g") };
        assert_eq!(next(&group, &request(5, None), 1), Next::Retry { level: 5 });
        assert_eq!(next(&group, &request(5, None), 2), Next::DeadLetter);
        assert_eq!(next(&group, &request(5, Some(3)), 2), Next::Retry { level: 5 });
        assert_eq!(next(&group, &request(-1, Some(3)), 0), Next::DeadLetter);
        assert_eq!(next(&group, &request(0, Some(0)), 0), Next::DeadLetter);
    }
}
