//! What a broker asks or tells the member of a consumer group, on its own or on behalf of an administrator.
//!
//! `GET_CONSUMER_RUNNING_INFO` and `CONSUME_MESSAGE_DIRECTLY` go from the administrator to the broker in the same shape; it hands
//! them on to the client that they name, and the answer back.

use bytes::Bytes;

use crate::body::{ConsumeMessageDirectlyResult, ConsumerRunningInfo, ConsumerStatus};
use crate::request::{Done, requests};
use crate::{ByteString, QueueId, QueueOffset};

requests! {
    /// One-way: go on at these offsets. The body is a `body::ResetOffsetBody`, for C clients a `body::ResetOffsetBodyForC`. Java: `ResetOffsetRequestHeader.java`.
    ResetClientOffset = RESET_CONSUMER_CLIENT_OFFSET {
        topic: ByteString => "topic",
        group: ByteString => "group",
        /// The time that the offsets were found by, in milliseconds since 1970.
        timestamp: i64 => "timestamp",
        force: bool => "isForce",
        queue_id: QueueId => "queueId" or QueueId::new(-1),
        offset: Option<QueueOffset> => "offset",
    } body(offsets: Bytes)
    -> Done;

    /// How far the client is in a topic. Java: `GetConsumerStatusRequestHeader.java`.
    GetConsumerStatus = GET_CONSUMER_STATUS_FROM_CLIENT {
        topic: ByteString => "topic",
        group: ByteString => "group",
        client_id: Option<ByteString> => "clientAddr",
    } -> GetConsumerStatusReply {
    } body(status: ConsumerStatus);

    /// What the consumer is doing. Java: `GetConsumerRunningInfoRequestHeader.java`.
    GetConsumerRunningInfo = GET_CONSUMER_RUNNING_INFO {
        consumer_group: ByteString => "consumerGroup",
        client_id: ByteString => "clientId",
        /// Whether stack traces are wanted.
        jstack: bool => "jstackEnable" or false,
    } -> GetConsumerRunningInfoReply {
    } body(info: ConsumerRunningInfo);

    /// Hands one message to the listener, whatever the offsets say, and tells what came of it. The body is the stored message; the
    /// administrator sends none, the broker adds it.
    /// Java: `ConsumeMessageDirectlyResultRequestHeader.java`.
    ConsumeMessageDirectly = CONSUME_MESSAGE_DIRECTLY {
        consumer_group: ByteString => "consumerGroup",
        client_id: Option<ByteString> => "clientId",
        /// The offset message id, by which the broker finds the message.
        message_id: Option<ByteString> => "msgId",
        broker_name: Option<ByteString> => "brokerName",
        topic: Option<ByteString> => "topic",
        topic_sys_flag: Option<i32> => "topicSysFlag",
        group_sys_flag: Option<i32> => "groupSysFlag",
    } body(message: Bytes)
    -> ConsumeMessageDirectlyReply {
    } body(result: ConsumeMessageDirectlyResult);
}
