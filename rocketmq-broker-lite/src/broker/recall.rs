//! Taking back a message that waits for its time: `RECALL_MESSAGE`.

use std::net::SocketAddr;

use rocketmq_protocol::message::{NewMessage, Properties, RecallHandle, SysFlag, property};
use rocketmq_protocol::name::{DLQ_PREFIX, RETRY_PREFIX};
use rocketmq_protocol::requests::{RecallMessage, RecallMessageReply};
use rocketmq_protocol::{LogPosition, QueueId, ResponseCode};

use super::refusal::Refusal;
use super::send::{malformed, not_appended};
use super::shared::Shared;

/// Takes messages back.
pub(super) struct RecallService {
    pub(super) with: Shared,
}

impl RecallService {
    /// Stores a mark that waits for the same second as the message, and takes it away then. Java:
    /// `RecallMessageProcessor.java`.
    pub(super) fn recall(
        &self,
        request: &RecallMessage,
        asker: SocketAddr,
    ) -> Result<RecallMessageReply, Refusal> {
        let topic: &str = &request.topic;
        if !self.with.config.recall_message {
            let remark = "messages cannot be taken back here (recallMessageEnable=false)".to_owned();
            return Err(Refusal::forbidden(remark));
        }
        if self.with.config.broker_permission & 2 == 0 {
            let remark =
                format!("the broker {} is not writable (brokerPermission)", self.with.config.broker_name);
            return Err(Refusal::new(ResponseCode::SERVICE_NOT_AVAILABLE, remark));
        }
        if self.with.topics.get(topic).is_none() {
            return Err(Refusal::no_topic(topic, "recall from"));
        }
        let wrong = |remark: String| Refusal::new(ResponseCode::ILLEGAL_OPERATION, remark);
        let handle: RecallHandle =
            request.recall_handle.parse().map_err(|error| wrong(format!("{error}")))?;
        if topic.starts_with(RETRY_PREFIX) || topic.starts_with(DLQ_PREFIX) || handle.topic != topic {
            return Err(wrong(format!("recallHandle is of topic {}, not {topic}", handle.topic)));
        }
        if handle.broker_name != self.with.config.broker_name {
            let remark = format!(
                "recallHandle is of broker {}, not {}",
                handle.broker_name, self.with.config.broker_name
            );
            return Err(wrong(remark));
        }
        let now = self.with.clock.now_ms();
        let ahead = handle.deliver_ms.saturating_sub(now);
        if ahead <= 0 || ahead >= self.with.deferral.max_timer_ms() {
            let remark = format!("the message is due at {}, now it is {now}: too late", handle.deliver_ms);
            return Err(wrong(remark));
        }
        let properties = Properties::builder()
            .set(property::TAGS, "_RECALL_TAG_")
            .set(property::BORN_TIMESTAMP, &now.to_string())
            .set(property::PGROUP, request.producer_group.as_deref().unwrap_or_default())
            .set(property::TIMER_DELIVER_MS, &handle.deliver_ms.to_string())
            .set(property::TIMER_DEL_UNIQKEY, &handle.unique_key)
            .set(property::UNIQ_KEY, &handle.unique_key)
            .build()
            .map_err(malformed)?;
        let mark = self.with.deferral.of(topic, QueueId::ZERO, properties.as_ref(), now)?;
        let mark = mark.ok_or_else(|| wrong("the message is due now".to_owned()))?;
        let mut buffer = Vec::new();
        let message = NewMessage {
            topic: mark.topic,
            queue_id: mark.queue_id,
            flag: 0,
            sys_flag: SysFlag::new(0),
            born_timestamp: now,
            born_host: asker,
            store_host: self.with.store_host,
            reconsume_times: 0,
            prepared_transaction_offset: LogPosition::ZERO,
            body: b"0",
            properties: &[mark.properties.as_ref()],
        };
        message.encode(&mut buffer).map_err(malformed)?;
        self.with.store.append(mark.topic, mark.queue_id, &mut buffer).map_err(not_appended)?;
        Ok(RecallMessageReply { message_id: handle.unique_key.into() })
    }
}
