//! What brokers ask a client.

use std::collections::BTreeMap;
use std::sync::Arc;

use rocketmq_protocol::body::{ConsumerStatus, QueueTable, ResetOffsetBody, ResetOffsetBodyForC};
use rocketmq_protocol::request::{PayloadError, Request};
use rocketmq_protocol::requests::{
    CheckTransactionState, ConsumeMessageDirectly, GetConsumerRunningInfo, GetConsumerRunningInfoReply,
    GetConsumerStatus, GetConsumerStatusReply, NotifyConsumerIdsChanged, PushReplyMessage, ResetClientOffset,
};
use rocketmq_protocol::transport::{Call, Service};
use rocketmq_protocol::{QueueOffset, ResponseCode, json};
use tracing::{debug, info, warn};

use crate::MessageQueue;
use crate::members::Members;
use crate::namespace::Namespace;
use crate::producer::{AwaitedReplies, TransactionCheck};
use crate::received_message::ReceivedMessages;

/// Passes the requests of brokers to the members they are about, and refuses those that nobody knows.
/// Java: `ClientRemotingProcessor.java`.
pub(crate) struct BrokerRequests {
    pub(crate) members: Arc<Members>,
    pub(crate) replies: Arc<AwaitedReplies>,
}

impl Service for BrokerRequests {
    fn serve(&self, call: Call) {
        let code = call.frame().request_code();
        match code {
            NotifyConsumerIdsChanged::CODE => with(call, |call, changed: NotifyConsumerIdsChanged| {
                self.members.wake(&changed.consumer_group);
                call.done(); // brokers send it one-way, but some forget to say so
            }),
            CheckTransactionState::CODE => TransactionCheck::serve(&self.members, &call),
            PushReplyMessage::CODE => self.replies.serve(&call),
            ResetClientOffset::CODE => with(call, |call, reset| self.reset(&call, &reset)),
            GetConsumerStatus::CODE => with(call, |call, asked| self.status(&call, &asked)),
            GetConsumerRunningInfo::CODE => with(call, |call, asked| self.running_info(&call, &asked)),
            ConsumeMessageDirectly::CODE => with(call, |call, asked| self.consume_directly(call, asked)),
            _ => {
                debug!(peer = %call.connection().peer(), %code, "request of a broker not supported");
                let remark = format!("this client does not serve requests of type {code}");
                call.refuse(ResponseCode::REQUEST_CODE_NOT_SUPPORTED, remark);
            }
        }
    }
}

/// Reads the request, or refuses it.
fn with<R: Request>(call: Call, serve: impl FnOnce(Call, R)) {
    match call.read::<R>() {
        Ok(request) => serve(call, request),
        Err(error) => refuse_malformed(&call, &error),
    }
}

fn refuse_malformed(call: &Call, error: &PayloadError) {
    warn!(peer = %call.connection().peer(), code = %call.frame().request_code(), %error, "malformed request of a broker");
    call.refuse(ResponseCode::SYSTEM_ERROR, error.to_string());
}

impl BrokerRequests {
    fn reset(&self, call: &Call, reset: &ResetClientOffset) {
        let ResetClientOffset { topic, group, .. } = reset;
        match offsets_of(&reset.offsets) {
            Ok(mut offsets) => {
                offsets.retain(|queue, offset| queue.topic == **topic && *offset >= QueueOffset::ZERO);
                info!(peer = %call.connection().peer(), %topic, %group, queues = offsets.len(), "offsets reset from outside");
                if let Some(service) = self.members.service(group) {
                    service.reset(offsets);
                }
                call.done(); // one-way, as a rule
            }
            Err(error) => {
                refuse_malformed(call, &PayloadError::Body { len: reset.offsets.len(), source: error });
            }
        }
    }

    /// A group that is not here has no progress, which is no error in Java either.
    fn status(&self, call: &Call, asked: &GetConsumerStatus) {
        let service = self.members.service(&asked.group);
        let message_queue_table =
            service.map_or_else(QueueTable::default, |service| service.progress(&asked.topic));
        let status = ConsumerStatus { message_queue_table, ..ConsumerStatus::default() };
        call.reply(&GetConsumerStatusReply { status });
    }

    fn running_info(&self, call: &Call, asked: &GetConsumerRunningInfo) {
        match self.members.service(&asked.consumer_group) {
            Some(service) => call.reply(&GetConsumerRunningInfoReply { info: service.running_info() }),
            None => refuse_unknown_group(call, &asked.consumer_group),
        }
    }

    fn consume_directly(&self, call: Call, asked: ConsumeMessageDirectly) {
        let group = &asked.consumer_group;
        let Some(service) = self.members.service(group) else {
            return refuse_unknown_group(&call, group);
        };
        let broker = asked.broker_name.unwrap_or_default();
        let (mut messages, decoded) = ReceivedMessages::decode(asked.message, &broker, &Namespace::default());
        let message = match (messages.next(), decoded) {
            (Some(message), _) => message,
            (None, Err(error)) => return call.refuse(ResponseCode::SYSTEM_ERROR, error.to_string()),
            (None, Ok(())) => {
                return call.refuse(ResponseCode::SYSTEM_ERROR, "the request carries no message");
            }
        };
        service.consume_directly(message, call);
    }
}

/// As Java answers.
fn refuse_unknown_group(call: &Call, group: &str) {
    let remark = format!("The Consumer Group <{group}> not exist in this consumer");
    call.refuse(ResponseCode::SYSTEM_ERROR, remark);
}

/// The offsets of a reset, in the form for Java or the one for C: brokers choose by the language of the administrator, not
/// by ours.
fn offsets_of(body: &[u8]) -> Result<BTreeMap<MessageQueue, QueueOffset>, json::JsonError> {
    if body.is_empty() {
        return Ok(BTreeMap::new());
    }
    json::from_slice::<ResetOffsetBody>(body).map(|table| table.offset_table.into_iter().collect()).or_else(
        |error| {
            let Ok(list) = json::from_slice::<ResetOffsetBodyForC>(body) else { return Err(error) };
            let queue = |entry: rocketmq_protocol::body::QueueOffsetEntry| {
                (MessageQueue::new(entry.topic, entry.broker_name, entry.queue_id), entry.offset)
            };
            Ok(list.offset_table.into_iter().map(queue).collect())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_read_in_both_of_the_forms_that_brokers_print() {
        // As the Java classes print them: `tests/golden/bodies.json` of the protocol crate.
        let java = br#"{"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"TopicTest"}:123}}"#;
        let c =
            br#"{"offsetTable":[{"brokerName":"broker-a","offset":123,"queueId":0,"topic":"TopicTest"}]}"#;
        let expected =
            BTreeMap::from([(MessageQueue::new("TopicTest", "broker-a", 0), QueueOffset::new(123))]);
        assert_eq!(offsets_of(java).unwrap(), expected);
        assert_eq!(offsets_of(c).unwrap(), expected);
        assert!(offsets_of(b"").unwrap().is_empty());
        assert!(offsets_of(b"{\"offsetTable\":7}").is_err());
    }
}
