//! Consumer groups, asked about and changed from outside.

use crate::body::{
    ConsumeStats, ConsumerConnection, ConsumerStatus, GroupList, ResetOffsetBody, SubscriptionGroupConfig,
    SubscriptionGroupWrapper,
};
use crate::request::{Done, requests};
use crate::{ByteString, QueueId, QueueOffset};

requests! {
    /// Creates or changes a group. Java: `MQClientAPIImpl.java`, `createSubscriptionGroup`.
    UpdateGroup = UPDATE_AND_CREATE_SUBSCRIPTIONGROUP {
    } body(config: SubscriptionGroupConfig)
    -> Done;

    /// All groups of the broker.
    GetAllGroupConfig = GET_ALL_SUBSCRIPTIONGROUP_CONFIG {
    } -> GetAllGroupConfigReply {
    } body(groups: SubscriptionGroupWrapper);

    /// One group; refused with `SUBSCRIPTION_GROUP_NOT_EXIST`. Java: `GetSubscriptionGroupConfigRequestHeader.java`.
    GetGroupConfig = GET_SUBSCRIPTIONGROUP_CONFIG {
        group: ByteString => "group",
    } -> GetGroupConfigReply {
    } body(config: SubscriptionGroupConfig);

    /// Deletes a group. Java: `DeleteSubscriptionGroupRequestHeader.java`.
    DeleteGroup = DELETE_SUBSCRIPTIONGROUP {
        group_name: ByteString => "groupName",
        /// Whether the broker forgets where the group stands, too.
        clean_offset: bool => "cleanOffset" or false,
    } -> Done;

    /// Who consumes in a group; refused with `CONSUMER_NOT_ONLINE` when nobody does.
    /// Java: `GetConsumerConnectionListRequestHeader.java`.
    GetConsumerConnections = GET_CONSUMER_CONNECTION_LIST {
        consumer_group: ByteString => "consumerGroup",
    } -> GetConsumerConnectionsReply {
    } body(connections: ConsumerConnection);

    /// How far a group is on this broker. Java: `GetConsumeStatsRequestHeader.java`.
    GetConsumeStats = GET_CONSUME_STATS {
        consumer_group: ByteString => "consumerGroup",
        /// Only this topic; all that the group consumes when absent.
        topic: Option<ByteString> => "topic",
        /// Only these topics, separated by `;` (5.3).
        topic_list: Option<ByteString> => "topicList",
    } -> GetConsumeStatsReply {
    } body(stats: ConsumeStats);

    /// The groups that consume a topic. Java: `QueryTopicConsumeByWhoRequestHeader.java`.
    QueryTopicConsumers = QUERY_TOPIC_CONSUME_BY_WHO {
        topic: ByteString => "topic",
    } -> QueryTopicConsumersReply {
    } body(groups: GroupList);

    /// Tells a broker where a group shall go on. Java: `ResetOffsetRequestHeader.java`.
    InvokeResetOffset = INVOKE_BROKER_TO_RESET_OFFSET {
        topic: ByteString => "topic",
        group: ByteString => "group",
        /// Milliseconds since 1970: at the first message that was stored then or later; -1: behind the last one.
        timestamp: i64 => "timestamp",
        /// Whether the group may skip messages; otherwise it only goes back. Brokers that reset by themselves do not ask.
        force: bool => "isForce",
        /// Only this queue; negative: all.
        queue_id: QueueId => "queueId" or QueueId::new(-1),
        /// This offset instead of a time; only with a queue. Negative: none.
        offset: Option<QueueOffset> => "offset",
    } -> InvokeResetOffsetReply {
    } body(offsets: ResetOffsetBody);

    /// Asks a broker to ask the members of a group how far they are. Java: `GetConsumerStatusRequestHeader.java`.
    InvokeGetConsumerStatus = INVOKE_BROKER_TO_GET_CONSUMER_STATUS {
        topic: ByteString => "topic",
        group: ByteString => "group",
        /// Only the member with this client id.
        client_id: Option<ByteString> => "clientAddr",
    } -> InvokeGetConsumerStatusReply {
    } body(status: ConsumerStatus);
}
