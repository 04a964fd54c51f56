//! Where topics and brokers are: what the name server answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Perm;

/// The broker id of a master; every other id is a replica of it.
pub const MASTER_ID: i64 = 0;

/// The brokers that hold a topic, and its queues on each. Java: `protocol/route/TopicRouteData.java`.
///
/// The queue mapping of static topics (`topicQueueMappingByBroker`) is neither read nor printed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicRouteData {
    /// The brokers, by no particular order.
    pub broker_datas: Vec<BrokerData>,
    /// Filter servers by broker address; a 3.x feature, always empty since.
    pub filter_server_table: BTreeMap<String, Vec<String>>,
    /// For a strictly ordered topic, `broker:queues;broker:queues`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_topic_conf: Option<String>,
    /// The queues, one entry per broker name.
    pub queue_datas: Vec<QueueData>,
}

/// A master and its replicas, which share a broker name. Java: `protocol/route/BrokerData.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BrokerData {
    /// Address (`host:port`) by broker id; the master has [`MASTER_ID`].
    pub broker_addrs: BTreeMap<i64, String>,
    /// The name they share.
    pub broker_name: String,
    /// The cluster they belong to.
    pub cluster: String,
    /// Whether the replica with the smallest id takes over the master's reading duties.
    pub enable_acting_master: bool,
    /// The zone that the brokers are in, if they told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone_name: Option<String>,
}

impl BrokerData {
    /// The master's address, if there is a master now.
    pub fn master_addr(&self) -> Option<&str> {
        self.broker_addrs.get(&MASTER_ID).map(String::as_str)
    }
}

/// A topic's queues on one broker. Java: `protocol/route/QueueData.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct QueueData {
    /// The broker's name.
    pub broker_name: String,
    /// What may be done with the queues.
    pub perm: Perm,
    /// Queues `0..n` may be pulled from.
    pub read_queue_nums: i32,
    /// System flags of the topic (unit topics).
    #[serde(alias = "topicSynFlag")]
    pub topic_sys_flag: i32,
    /// Queues `0..n` may be sent to.
    pub write_queue_nums: i32,
}

/// Every broker and cluster that a name server knows. Java: `protocol/body/ClusterInfo.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClusterInfo {
    /// Brokers by broker name.
    pub broker_addr_table: BTreeMap<String, BrokerData>,
    /// Broker names by cluster name.
    pub cluster_addr_table: BTreeMap<String, Vec<String>>,
}

/// The members alive under one broker name. Java: `protocol/body/BrokerMemberGroup.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BrokerMemberGroup {
    /// Address by broker id.
    pub broker_addrs: BTreeMap<i64, String>,
    /// The name they share.
    pub broker_name: String,
    /// The cluster they belong to.
    pub cluster: String,
}

/// Answer to `GET_BROKER_MEMBER_GROUP`. Java: `protocol/body/GetBrokerMemberGroupResponseBody.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BrokerMemberGroupBody {
    /// The group; absent when the name server knows nobody of that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_member_group: Option<BrokerMemberGroup>,
}
