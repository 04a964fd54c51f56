//! Request and response bodies that are JSON text, as serde structs.
//!
//! Fields stand in the alphabetical order of their wire names, the order in which the Java classes print them, so
//! [`json::to_bytes`](crate::json::to_bytes) gives the same text. A field that is missing or `null` takes its default, an
//! unknown one is ignored, and `None` is not printed. Maps are ordered: equal values print equally.

#[macro_use]
mod wire_enum;

mod connection;
mod consume_directly;
mod data_version;
mod heartbeat;
mod lists;
mod lock;
mod message_queue;
mod number;
mod offsets;
mod perm;
mod register_broker;
mod route;
mod running_info;
mod stats;
mod subscription;
mod subscription_group;
mod topic_config;

pub use connection::{Connection, ConsumerConnection, ProducerConnection};
pub use consume_directly::{ConsumeMessageDirectlyResult, ConsumeResult};
pub use data_version::DataVersion;
pub use heartbeat::{ConsumeFromWhere, ConsumeType, ConsumerData, HeartbeatData, MessageModel, ProducerData};
pub use lists::{ConsumerListByGroup, GroupList, KvTable, TopicList};
pub use lock::{LockBatchRequest, LockBatchResponse, UnlockBatchRequest};
pub use message_queue::{MessageQueue, QueueTable};
pub use offsets::{
    ConsumerOffsetWrapper, ConsumerStatus, DelayOffsetWrapper, QueueOffsetEntry, ResetOffsetBody,
    ResetOffsetBodyForC,
};
pub use perm::Perm;
pub use register_broker::{RegisterBrokerBody, RegisterBrokerBodyError};
pub use route::{
    BrokerData, BrokerMemberGroup, BrokerMemberGroupBody, ClusterInfo, MASTER_ID, QueueData, TopicRouteData,
};
pub use running_info::{ConsumeStatus, ConsumerRunningInfo, PopProcessQueueInfo, ProcessQueueInfo};
pub use stats::{ConsumeOffsets, ConsumeStats, TopicOffsets, TopicStats};
pub use subscription::{CheckClientRequest, ExpressionType, SubscriptionData};
pub use subscription_group::{
    CustomizedRetryPolicy, ExponentialRetryPolicy, GroupRetryPolicy, GroupRetryPolicyType,
    SimpleSubscriptionData, SubscriptionGroupConfig, SubscriptionGroupWrapper,
};
pub use topic_config::{
    StaticTopics, TopicConfig, TopicConfigAndMappingSerializeWrapper, TopicConfigSerializeWrapper,
    TopicFilterType,
};

crate::request::json_bodies! {
    BrokerMemberGroupBody, CheckClientRequest, ClusterInfo, ConsumeMessageDirectlyResult, ConsumeStats, ConsumerConnection,
    ConsumerListByGroup, ConsumerRunningInfo, ConsumerStatus, DataVersion, GroupList, HeartbeatData, KvTable, LockBatchRequest,
    LockBatchResponse, ResetOffsetBody, ResetOffsetBodyForC, SubscriptionGroupConfig, SubscriptionGroupWrapper, TopicConfig,
    TopicConfigSerializeWrapper, TopicList,
}
