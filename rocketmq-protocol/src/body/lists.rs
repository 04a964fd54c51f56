//! Bodies that hold one list or one table of text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Names of topics. Java: `protocol/body/TopicList.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicList {
    /// With the name server's system topics: the address of some broker to ask for more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_addr: Option<String>,
    /// The topics.
    pub topic_list: Vec<String>,
}

/// Names of groups. Java: `protocol/body/GroupList.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GroupList {
    /// The groups.
    pub group_list: Vec<String>,
}

/// Ids of the clients in a consumer group. Java: `protocol/body/GetConsumerListByGroupResponseBody.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumerListByGroup {
    /// The client ids.
    pub consumer_id_list: Vec<String>,
}

/// Text by name. Java: `protocol/body/KVTable.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KvTable {
    /// The entries.
    pub table: BTreeMap<String, String>,
}
