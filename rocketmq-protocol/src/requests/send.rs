//! Sending messages.

use crate::request::{Done, requests, same_shape};
use crate::{ByteString, LogPosition, QueueId, QueueOffset};
use bytes::Bytes;

requests! {
    /// Stores one message. The old `SEND_MESSAGE` (10) has the same fields under long names, which are read too.
    /// Java: `protocol/header/SendMessageRequestHeaderV2.java`.
    SendMessage = SEND_MESSAGE_V2 {
        producer_group: ByteString => "a" | "producerGroup",
        topic: ByteString => "b" | "topic",
        /// Topic to copy from where `topic` must be created, normally `TBW102`.
        default_topic: ByteString => "c" | "defaultTopic",
        default_topic_queue_nums: i32 => "d" | "defaultTopicQueueNums",
        /// Negative: the broker picks a queue.
        queue_id: QueueId => "e" | "queueId",
        sys_flag: i32 => "f" | "sysFlag",
        /// Milliseconds since 1970, by the client's clock.
        born_timestamp: i64 => "g" | "bornTimestamp",
        /// The user's own number.
        flag: i32 => "h" | "flag",
        /// Property string; see [`crate::message`].
        properties: Option<ByteString> => "i" | "properties",
        reconsume_times: i32 => "j" | "reconsumeTimes" or 0,
        unit_mode: bool => "k" | "unitMode" or false,
        /// Only for retry topics.
        max_reconsume_times: Option<i32> => "l" | "maxReconsumeTimes",
        /// The body is a client batch.
        batch: bool => "m" | "batch" or false,
        broker_name: Option<ByteString> => "n" | "bname",
    } body(body: Bytes)
    accepts [FLUSH_DISK_TIMEOUT, SLAVE_NOT_AVAILABLE, FLUSH_SLAVE_TIMEOUT]
    -> SendReply {
        /// Offset message id; comma-joined, one for each message of a batch.
        message_id: ByteString => "msgId",
        queue_id: QueueId => "queueId",
        /// Offset of the (first) message.
        queue_offset: QueueOffset => "queueOffset",
        /// The unique key.
        transaction_id: Option<ByteString> => "transactionId",
        batch_unique_id: Option<ByteString> => "batchUniqId",
        recall_handle: Option<ByteString> => "recallHandle",
        region: Option<ByteString> => "MSG_REGION",
        trace_on: Option<bool> => "TRACE_ON",
    };

    /// Stores a message that could not be handled in its group's retry topic, or, when it came too often, in the
    /// dead-letter topic. Goes to the master that holds the message. Java: `ConsumerSendMsgBackRequestHeader.java`.
    SendMessageBack = CONSUMER_SEND_MSG_BACK {
        /// Where the master's log has the message.
        position: LogPosition => "offset",
        group: ByteString => "group",
        /// From 1: that delay; 0: grows with every failure; negative: to the dead letters at once.
        delay_level: i32 => "delayLevel",
        origin_message_id: Option<ByteString> => "originMsgId",
        origin_topic: Option<ByteString> => "originTopic",
        unit_mode: bool => "unitMode" or false,
        /// Failures after which it becomes a dead letter; the group's own setting when absent.
        max_reconsume_times: Option<i32> => "maxReconsumeTimes",
        broker_name: Option<ByteString> => "bname",
    } -> Done;

    /// Takes a timer message back that is not due yet. Goes to the master that the handle names.
    /// Java: `protocol/header/RecallMessageRequestHeader.java`.
    RecallMessage = RECALL_MESSAGE {
        producer_group: Option<ByteString> => "producerGroup",
        topic: ByteString => "topic",
        /// See [`crate::message::RecallHandle`].
        recall_handle: ByteString => "recallHandle",
        broker_name: Option<ByteString> => "bname",
    } -> RecallMessageReply {
        /// The unique key.
        message_id: ByteString => "msgId",
    };
}

same_shape! {
    /// Stores a client batch (see `message::batch`) in one queue, all of it or nothing.
    SendBatchMessage = SEND_BATCH_MESSAGE as SendMessage;
}
