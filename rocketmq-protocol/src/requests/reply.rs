//! Request and reply over topics: the request is a message like others; the reply goes to the broker as
//! [`SendReplyMessage`], and from there to the client that waits for it.

use bytes::Bytes;

use super::SendMessage;
use crate::request::{Done, requests, same_shape};
use crate::{ByteString, QueueId};

same_shape! {
    /// A reply, on its way to the broker. The old `SEND_REPLY_MESSAGE` (324) has the same fields under long names, which
    /// are read too. Java: `broker/processor/ReplyMessageProcessor.java`.
    SendReplyMessage = SEND_REPLY_MESSAGE_V2 as SendMessage;
}

requests! {
    /// From broker to the client that sent the request: the reply. The client is found by the property
    /// `REPLY_TO_CLIENT`, the request by `CORRELATION_ID`. Java: `protocol/header/ReplyMessageRequestHeader.java`.
    PushReplyMessage = PUSH_REPLY_MESSAGE_TO_CLIENT {
        producer_group: ByteString => "producerGroup",
        topic: ByteString => "topic",
        default_topic: ByteString => "defaultTopic",
        default_topic_queue_nums: i32 => "defaultTopicQueueNums",
        queue_id: QueueId => "queueId",
        sys_flag: i32 => "sysFlag",
        /// Milliseconds since 1970, by the replier's clock.
        born_timestamp: i64 => "bornTimestamp",
        flag: i32 => "flag",
        properties: Option<ByteString> => "properties",
        reconsume_times: i32 => "reconsumeTimes" or 0,
        unit_mode: bool => "unitMode" or false,
        /// `ip:port` of the replier.
        born_host: ByteString => "bornHost",
        /// `ip:port` of the broker.
        store_host: ByteString => "storeHost",
        /// Milliseconds since 1970, by the broker's clock.
        store_timestamp: i64 => "storeTimestamp",
    } body(body: Bytes)
    -> Done;
}
