//! [`ConsumerRunningInfo`]: a consumer's account of itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::number::number;
use super::{QueueTable, SubscriptionData};
use crate::QueueOffset;

/// What a consumer is doing. Java: `protocol/body/ConsumerRunningInfo.java`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumerRunningInfo {
    /// Stack traces, when they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jstack: Option<String>,
    /// State of the queues it pops from.
    pub mq_pop_table: QueueTable<PopProcessQueueInfo>,
    /// State of the queues it pulls from.
    pub mq_table: QueueTable<ProcessQueueInfo>,
    /// Settings by name. `mqadmin` insists on the three `PROP_CONSUME_TYPE`, `PROP_CONSUMEORDERLY` and
    /// `PROP_CONSUMER_START_TIMESTAMP`.
    pub properties: BTreeMap<String, String>,
    /// Rates by topic.
    pub status_table: BTreeMap<String, ConsumeStatus>,
    /// What it subscribes to.
    pub subscription_set: Vec<SubscriptionData>,
    /// What the application has to say.
    pub user_consumer_info: BTreeMap<String, String>,
}

/// State of a queue that is pulled from; times in milliseconds since the epoch. Java:
/// `protocol/body/ProcessQueueInfo.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProcessQueueInfo {
    /// Messages that were pulled and not yet consumed.
    #[serde(deserialize_with = "number")]
    pub cached_msg_count: i32,
    /// The last of them.
    #[serde(deserialize_with = "number")]
    pub cached_msg_max_offset: QueueOffset,
    /// The first of them.
    #[serde(deserialize_with = "number")]
    pub cached_msg_min_offset: QueueOffset,
    /// Their bodies, in MiB.
    #[serde(rename = "cachedMsgSizeInMiB", deserialize_with = "number")]
    pub cached_msg_size_in_mib: i32,
    /// What is before was consumed.
    #[serde(deserialize_with = "number")]
    pub commit_offset: QueueOffset,
    /// Whether the queue was given up. The wire misspells it; Go does not.
    #[serde(rename = "droped", alias = "dropped")]
    pub dropped: bool,
    /// When the listener was last called.
    #[serde(deserialize_with = "number")]
    pub last_consume_timestamp: i64,
    /// When the lock was last renewed.
    #[serde(deserialize_with = "number")]
    pub last_lock_timestamp: i64,
    /// When the queue was last pulled from.
    #[serde(deserialize_with = "number")]
    pub last_pull_timestamp: i64,
    /// Whether the client holds the queue's lock.
    pub locked: bool,
    /// Messages at an ordered listener.
    #[serde(deserialize_with = "number")]
    pub transaction_msg_count: i32,
    /// The last of them.
    #[serde(deserialize_with = "number")]
    pub transaction_msg_max_offset: QueueOffset,
    /// The first of them.
    #[serde(deserialize_with = "number")]
    pub transaction_msg_min_offset: QueueOffset,
    /// Attempts to give the lock back.
    #[serde(deserialize_with = "number")]
    pub try_unlock_times: i64,
}

/// State of a queue that is popped from. Java: `protocol/body/PopProcessQueueInfo.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PopProcessQueueInfo {
    /// Whether the queue was given up.
    #[serde(rename = "droped", alias = "dropped")]
    pub dropped: bool,
    /// When the queue was last popped from, in milliseconds since the epoch.
    pub last_pop_timestamp: i64,
    /// Messages that are not acknowledged yet.
    pub wait_ack_count: i32,
}

/// Rates of a consumer in one topic. Java: `protocol/body/ConsumeStatus.java`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumeStatus {
    /// Messages that failed in the last hour.
    pub consume_failed_msgs: i64,
    /// Messages per second that failed.
    #[serde(rename = "consumeFailedTPS")]
    pub consume_failed_tps: f64,
    /// Messages per second that were consumed.
    #[serde(rename = "consumeOKTPS")]
    pub consume_ok_tps: f64,
    /// Mean time in the listener, in milliseconds.
    #[serde(rename = "consumeRT")]
    pub consume_rt: f64,
    /// Mean time of a pull, in milliseconds.
    #[serde(rename = "pullRT")]
    pub pull_rt: f64,
    /// Messages per second that were pulled.
    #[serde(rename = "pullTPS")]
    pub pull_tps: f64,
}
