//! Clients and their groups.

use crate::ByteString;
use crate::body::{CheckClientRequest, ConsumerListByGroup, HeartbeatData};
use crate::request::{Done, requests};

requests! {
    /// Who a client is and what its groups subscribe. Java: `protocol/heartbeat/HeartbeatData.java`.
    Heartbeat = HEART_BEAT {
    } body(data: HeartbeatData)
    -> HeartbeatReply {
        supports_v2: Option<bool> => "IS_SUPPORT_HEART_BEAT_V2",
        subscription_changed: Option<bool> => "IS_SUB_CHANGE",
    };

    /// A client leaves its groups. Java: `UnregisterClientRequestHeader.java`.
    UnregisterClient = UNREGISTER_CLIENT {
        client_id: ByteString => "clientID",
        producer_group: Option<ByteString> => "producerGroup",
        consumer_group: Option<ByteString> => "consumerGroup",
    } -> Done;

    /// The client ids of a group. Java: `GetConsumerListByGroupRequestHeader.java`.
    GetConsumerListByGroup = GET_CONSUMER_LIST_BY_GROUP {
        consumer_group: ByteString => "consumerGroup",
    } -> GetConsumerListByGroupReply {
    } body(consumers: ConsumerListByGroup);

    /// Asks whether a broker accepts a subscription, before it is used. Java: `MQClientAPIImpl.java`,
    /// `checkClientInBroker`.
    CheckClientConfig = CHECK_CLIENT_CONFIG {
    } body(check: CheckClientRequest)
    -> Done;

    /// From broker to client, one-way: members of the group came or left, so rebalance.
    /// Java: `NotifyConsumerIdsChangedRequestHeader.java`.
    NotifyConsumerIdsChanged = NOTIFY_CONSUMER_IDS_CHANGED {
        consumer_group: ByteString => "consumerGroup",
    } -> Done;
}
