//! Replies: `SEND_REPLY_MESSAGE` and its short form. A reply is pushed to the client that waits for it, and stored as well.
//!
//! The request itself is a message like others; that its reply finds the way back, the broker adds its `CLUSTER` to it, which names the
//! topic of replies. Java: `broker/processor/ReplyMessageProcessor.java`.

use std::sync::Arc;
use std::time::Duration;

use rocketmq_protocol::message::{Properties, PropertiesRef, property};
use rocketmq_protocol::requests::{PushReplyMessage, SendMessage, SendReply};
use rocketmq_protocol::transport::Call;
use rocketmq_protocol::{ByteString, QueueId, QueueOffset, ResponseCode};

use super::refusal::Refusal;
use super::send::{SendService, malformed};
use super::shared::Shared;

/// How long the client that waits for the reply may take to accept it. Java: `Broker2Client.java`, `callClient`.
const PUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves replies.
pub(super) struct ReplyService {
    pub(super) with: Shared,
    pub(super) send: Arc<SendService>,
}

impl ReplyService {
    pub(super) fn serve(self: &Arc<Self>, call: Call) {
        let mut request = match call.read::<SendMessage>() {
            Ok(request) => request,
            Err(error) => return Refusal::from(error).answer(&call),
        };
        if let Err(refusal) = self.send.check(&call, &request) {
            return refusal.answer(&call);
        }
        let service = Arc::clone(self);
        self.with.tasks.spawn(async move {
            if let Err(refusal) = service.push(&call, &mut request).await {
                return refusal.answer(&call);
            }
            if service.with.config.store_reply_message {
                service.send.store(call, request, false);
            } else {
                call.reply(&not_stored(&request));
            }
        });
    }

    /// Hands the reply to the client that its property `REPLY_TO_CLIENT` names, and waits until that has it.
    async fn push(&self, call: &Call, request: &mut SendMessage) -> Result<(), Refusal> {
        let failed = |reason: String| Refusal::new(ResponseCode::SYSTEM_ERROR, reason);
        let now = self.with.clock.now_ms();
        let told = request.properties.clone().unwrap_or_default();
        let properties = Properties::new(told).with(property::PUSH_REPLY_TIME, &now.to_string());
        let properties = properties.map_err(malformed)?;
        request.properties = Some(properties.encoded().clone());
        let client = properties.get(property::REPLY_TO_CLIENT);
        let client = client.ok_or_else(|| failed("the reply has no property REPLY_TO_CLIENT".to_owned()))?;
        let connection = self.with.clients.connection(client);
        let connection = connection
            .ok_or_else(|| failed(format!("the client {client} is not connected to be replied to")))?;
        let push = PushReplyMessage {
            producer_group: request.producer_group.clone(),
            topic: request.topic.clone(),
            default_topic: request.default_topic.clone(),
            default_topic_queue_nums: request.default_topic_queue_nums,
            queue_id: request.queue_id,
            sys_flag: request.sys_flag,
            born_timestamp: request.born_timestamp,
            flag: request.flag,
            properties: request.properties.clone(),
            reconsume_times: request.reconsume_times,
            unit_mode: request.unit_mode,
            born_host: call.connection().peer().to_string().into(),
            store_host: self.with.store_host.to_string().into(),
            store_timestamp: now,
            body: request.body.clone(),
        };
        match connection.call(&push, PUSH_TIMEOUT).await {
            Ok(_) => Ok(()),
            Err(error) => Err(failed(format!("the client {client} did not take the reply: {error}"))),
        }
    }
}

/// What is answered when the reply is only pushed. Java says the same.
fn not_stored(request: &SendMessage) -> SendReply {
    let properties = PropertiesRef::from(request.properties.as_deref().unwrap_or_default());
    SendReply {
        message_id: ByteString::from_static("0"),
        queue_id: QueueId::new(request.queue_id.get().max(0)),
        queue_offset: QueueOffset::ZERO,
        transaction_id: properties.get(property::UNIQ_KEY).map(ByteString::from),
        batch_unique_id: None,
        recall_handle: None,
        region: None,
        trace_on: None,
    }
}
