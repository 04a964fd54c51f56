//! How much is in a topic, and how much of it a group has consumed.

use serde::{Deserialize, Serialize};

use super::QueueTable;
use crate::QueueOffset;

/// A group's progress on a broker. Java: `protocol/admin/ConsumeStats.java`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumeStats {
    /// Messages per second that the group pulls.
    pub consume_tps: f64,
    /// Progress by queue.
    pub offset_table: QueueTable<ConsumeOffsets>,
}

/// A group's progress on one queue. Java: `protocol/admin/OffsetWrapper.java`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumeOffsets {
    /// End of the queue.
    pub broker_offset: QueueOffset,
    /// The group has consumed what is before.
    pub consumer_offset: QueueOffset,
    /// When the last consumed message was stored, in milliseconds since the epoch.
    pub last_timestamp: i64,
    /// The group has pulled what is before. Absent in 4.x.
    pub pull_offset: QueueOffset,
}

/// A topic's content on a broker. Java: `protocol/admin/TopicStatsTable.java`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicStats {
    /// Content by queue.
    pub offset_table: QueueTable<TopicOffsets>,
    /// Messages per second that are sent to the topic.
    pub topic_put_tps: f64,
}

/// One queue's content. Java: `protocol/admin/TopicOffset.java`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicOffsets {
    /// When the last message was stored, in milliseconds since the epoch; 0 without one.
    pub last_update_timestamp: i64,
    /// End of the queue.
    pub max_offset: QueueOffset,
    /// The oldest message that is still there.
    pub min_offset: QueueOffset,
}
