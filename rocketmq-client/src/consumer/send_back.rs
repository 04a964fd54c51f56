//! Has messages that could not be handled stored for another try.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rocketmq_protocol::body::MessageQueue;
use rocketmq_protocol::message::{SysFlag, property};
use rocketmq_protocol::name::{AUTO_CREATE_TOPIC, RETRY_PREFIX};
use rocketmq_protocol::requests::{SendMessage, SendMessageBack};
use rocketmq_protocol::{ByteString, ResponseCode};
use tracing::debug;

use super::pipeline::Pipeline;
use crate::deadline::Deadline;
use crate::route_table::BrokerChoice;
use crate::{Error, ReceivedMessage};

/// Limit of sending one message back. Java: `MQClientAPIImpl.java`, `consumerSendMessageBack`.
const LIMIT: Duration = Duration::from_secs(5);
/// Sends what its own master does not take. Java: `MixAll.java`.
const INNER_PRODUCER: ByteString = ByteString::from_static("CLIENT_INNER_PRODUCER");
/// The delay level after the first failure. Java: `DefaultMQPushConsumerImpl.java`.
const FIRST_DELAY: i32 = 3;
/// Failures that a group has unless something else is chosen. Java: `DefaultMQPushConsumer.java`.
const MAX_RECONSUME_TIMES: i32 = 16;

impl Pipeline {
    /// Has `message` stored for another try: after the delay of this level; 0 for one that grows with every failure; less
    /// for the dead letters. When the master that holds it does not do that, it is sent anew to the retry topic.
    ///
    /// # Errors
    /// Why its master did not do it. It is not stored, or nobody knows.
    pub(super) async fn send_back(
        &self,
        queue: &MessageQueue,
        message: &ReceivedMessage,
        delay_level: i32,
    ) -> Result<(), Error> {
        let request = SendMessageBack {
            position: message.position(),
            group: self.group.clone(),
            delay_level,
            origin_message_id: Some((&*message.message_id()).into()),
            origin_topic: Some(self.client.core().namespace.wrap(&message.topic().into())),
            unit_mode: false,
            max_reconsume_times: self.settings.max_reconsume_times,
            broker_name: Some(queue.broker_name.clone()),
        };
        let (master, deadline) = (BrokerChoice::Master, Deadline::after(LIMIT));
        let told =
            self.client.call_broker(&queue.topic, &queue.broker_name, master, &request, deadline).await;
        let Err(error) = told else { return Ok(()) };
        match self.send_anew(message, delay_level).await {
            Ok(()) => Ok(()),
            Err(second) => {
                debug!(%queue, error = %second, "message not sent to the retry topic either");
                Err(error)
            }
        }
    }

    /// Java: `DefaultMQPushConsumerImpl.java`, `sendMessageBackAsNormalMessage`.
    async fn send_anew(&self, message: &ReceivedMessage, delay_level: i32) -> Result<(), Error> {
        let deadline = Deadline::after(LIMIT);
        let topic = ByteString::from(format!("{RETRY_PREFIX}{}", self.group));
        let route = self.client.route(&topic, deadline).await?;
        let Some(queue) = route.publish.next(None) else {
            return Err(Error::NoQueue { topic: topic.to_string(), wanted: "written" });
        };
        let failures = message.reconsume_times().saturating_add(1);
        let level = if delay_level > 0 { delay_level } else { FIRST_DELAY.saturating_add(failures - 1) };
        let stored = message.stored();
        let origin = message.property(property::ORIGIN_MESSAGE_ID).map(str::to_owned);
        let properties = stored
            .properties
            .to_builder()
            .remove(property::TRAN_MSG)
            .set(property::ORIGIN_MESSAGE_ID, &origin.unwrap_or_else(|| message.message_id().into_owned()))
            .set(property::RETRY_TOPIC, &self.client.core().namespace.wrap(&message.topic().into()))
            .set(property::DELAY, &level.to_string())
            .build()?;
        let sys_flag = match stored.sys_flag.compression() {
            Ok(Some(compression)) => SysFlag::NONE.with_compression(compression),
            _ => SysFlag::NONE,
        };
        // A broker makes a dead letter of what has failed more often than this.
        let allowed = if delay_level < 0 {
            0
        } else {
            self.settings.max_reconsume_times.unwrap_or(MAX_RECONSUME_TIMES)
        };
        let request = SendMessage {
            producer_group: INNER_PRODUCER,
            topic: topic.clone(),
            default_topic: ByteString::from_static(AUTO_CREATE_TOPIC),
            default_topic_queue_nums: 4,
            queue_id: queue.queue_id,
            sys_flag: sys_flag.get(),
            born_timestamp: now_ms(),
            flag: stored.flag,
            properties: Some(properties.encoded().clone()),
            reconsume_times: failures,
            unit_mode: false,
            max_reconsume_times: Some(allowed),
            batch: false,
            broker_name: Some(queue.broker_name.clone()),
            body: stored.body.clone(),
        };
        let master = self.client.broker(&topic, &queue.broker_name, BrokerChoice::Master, deadline).await?;
        let (code, _) = master.call_coded(&request, deadline.left()).await?;
        if code != ResponseCode::SUCCESS {
            debug!(%code, "message sent to the retry topic, but not as safely as it should be");
        }
        Ok(())
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
