//! A topic's settings on a broker, alone and as the table that brokers register, replicate and persist.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DataVersion, Perm};

wire_enum! {
    /// Whether one message may carry several tags; no broker looks at it. Java: `common/TopicFilterType.java`.
    TopicFilterType {
        /// One tag.
        #[default]
        SingleTag = "SINGLE_TAG",
        /// Several tags.
        MultiTag = "MULTI_TAG",
    }
}

/// Settings of one topic on one broker. Java: `common/TopicConfig.java`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicConfig {
    /// Settings by name (`message.type`, …), in requests `+name` or `-name`. Absent in 4.x.
    pub attributes: BTreeMap<String, String>,
    /// Whether the topic is strictly ordered: no sending to other queues when a broker is away.
    pub order: bool,
    /// What clients may do.
    pub perm: Perm,
    /// Queues `0..n` may be pulled from.
    pub read_queue_nums: i32,
    /// Whether one message may carry several tags.
    pub topic_filter_type: TopicFilterType,
    /// The topic.
    pub topic_name: String,
    /// System flags (unit topics).
    pub topic_sys_flag: i32,
    /// Queues `0..n` may be sent to.
    pub write_queue_nums: i32,
}

impl TopicConfig {
    /// A topic with this many queues to read and to write, and otherwise the defaults.
    pub fn new(topic_name: impl Into<String>, queues: i32, perm: Perm) -> Self {
        Self {
            topic_name: topic_name.into(),
            perm,
            read_queue_nums: queues,
            write_queue_nums: queues,
            ..Self::default()
        }
    }
}

impl Default for TopicConfig {
    /// 16 queues, as a Java broker reads a configuration that doesn't say.
    fn default() -> Self {
        Self {
            attributes: BTreeMap::new(),
            order: false,
            perm: Perm::READ_WRITE,
            read_queue_nums: 16,
            topic_filter_type: TopicFilterType::SingleTag,
            topic_name: String::new(),
            topic_sys_flag: 0,
            write_queue_nums: 16,
        }
    }
}

/// All topics of a broker, as in `config/topics.json` and 4.x registrations. Java:
/// `protocol/body/TopicConfigSerializeWrapper.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicConfigSerializeWrapper {
    /// Version of the table.
    pub data_version: DataVersion,
    /// Settings by topic.
    pub topic_config_table: BTreeMap<String, TopicConfig>,
}

/// All topics of a broker, as registered and replicated since 5.0. Java:
/// `protocol/body/TopicConfigAndMappingSerializeWrapper.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicConfigAndMappingSerializeWrapper {
    /// Version of the table.
    pub data_version: DataVersion,
    /// Version of the static topics.
    pub mapping_data_version: DataVersion,
    /// Settings by topic.
    pub topic_config_table: BTreeMap<String, TopicConfig>,
    /// Static topics with the queues they are made of.
    pub topic_queue_mapping_detail_map: StaticTopics,
    /// Static topics.
    pub topic_queue_mapping_info_map: StaticTopics,
}

impl From<TopicConfigSerializeWrapper> for TopicConfigAndMappingSerializeWrapper {
    fn from(topics: TopicConfigSerializeWrapper) -> Self {
        Self {
            data_version: topics.data_version,
            topic_config_table: topics.topic_config_table,
            ..Self::default()
        }
    }
}

/// The table of static topics, of which this crate has none: whatever a peer sends is skipped, and `{}` is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticTopics {}
