//! Taking back timer messages that are not due yet.

use rocketmq_protocol::ByteString;
use rocketmq_protocol::message::RecallHandle;
use rocketmq_protocol::name::{DLQ_PREFIX, RETRY_PREFIX, validate_topic};
use rocketmq_protocol::requests::RecallMessage;

use super::Producer;
use crate::Error;
use crate::route_table::BrokerChoice;

impl Producer {
    /// Takes back a timer message that is not due yet, by the [`recall_handle`](crate::SendReceipt::recall_handle) of its
    /// receipt. Returns the message's id. Needs a broker from 5.3.2 on that allows it (`recallMessageEnable`).
    ///
    /// Taken back means that the broker has stored the order to delete it; it is carried out when the message is due.
    ///
    /// # Errors
    /// A handle that is none or is of another topic, or the refusal of the broker: too late, or not allowed.
    pub async fn recall(&self, topic: &str, handle: &str) -> Result<ByteString, Error> {
        validate_topic(topic)?;
        let refuse = |reason: String| Err(Error::InvalidArgument { name: "handle", reason });
        if topic.starts_with(RETRY_PREFIX) || topic.starts_with(DLQ_PREFIX) {
            return refuse(format!("nothing can be taken back from {topic}"));
        }
        let place: RecallHandle = handle.parse()?;
        let core = self.shared.client.core();
        let wire_topic = core.namespace.wrap(&topic.into());
        if place.topic != *wire_topic {
            return refuse(format!("it is of topic {}, not of {topic}", core.namespace.unwrap(&place.topic)));
        }
        let deadline = self.deadline_of(None);
        self.shared.client.route(&wire_topic, deadline).await?;
        let request = RecallMessage {
            producer_group: Some(self.shared.group.clone()),
            topic: wire_topic.clone(),
            recall_handle: handle.into(),
            broker_name: Some(place.broker_name.as_str().into()),
        };
        let master = BrokerChoice::Master;
        let client = &self.shared.client;
        let reply = client.call_broker(&wire_topic, &place.broker_name, master, &request, deadline).await?;
        Ok(reply.message_id)
    }
}
