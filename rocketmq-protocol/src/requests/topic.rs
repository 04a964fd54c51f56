//! Topics of a broker.

use crate::ByteString;
use crate::body::{TopicConfig, TopicConfigSerializeWrapper};
use crate::request::{Done, requests};

requests! {
    /// Creates or changes a topic. Java: `protocol/header/CreateTopicRequestHeader.java`.
    CreateTopic = UPDATE_AND_CREATE_TOPIC {
        topic: ByteString => "topic",
        default_topic: ByteString => "defaultTopic",
        read_queue_nums: i32 => "readQueueNums",
        write_queue_nums: i32 => "writeQueueNums",
        /// Bits of `body::Perm`.
        perm: i32 => "perm",
        /// `SINGLE_TAG` or `MULTI_TAG`.
        topic_filter_type: ByteString => "topicFilterType",
        topic_sys_flag: Option<i32> => "topicSysFlag",
        order: bool => "order" or false,
        /// `+key=value,-key`.
        attributes: Option<ByteString> => "attributes",
        force: Option<bool> => "force",
    } -> Done;

    /// Deletes a topic with its messages. Java: `DeleteTopicRequestHeader.java`.
    DeleteTopic = DELETE_TOPIC_IN_BROKER {
        topic: ByteString => "topic",
    } -> Done;

    /// All topics of the broker.
    GetAllTopicConfig = GET_ALL_TOPIC_CONFIG {
    } -> GetAllTopicConfigReply {
    } body(topics: TopicConfigSerializeWrapper);

    /// One topic. Java: `GetTopicConfigRequestHeader.java`.
    GetTopicConfig = GET_TOPIC_CONFIG {
        topic: ByteString => "topic",
    } -> GetTopicConfigReply {
    } body(config: TopicConfig);
}
