//! A consumer group's settings on a broker, alone and as the table that is replicated and persisted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DataVersion, ExpressionType, MASTER_ID};

/// Settings of a consumer group. Java: `protocol/subscription/SubscriptionGroupConfig.java`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SubscriptionGroupConfig {
    /// Settings by name, in requests `+name` or `-name`.
    pub attributes: BTreeMap<String, String>,
    /// The member that consumers should read from.
    pub broker_id: i64,
    /// Whether broadcasting is allowed.
    pub consume_broadcast_enable: bool,
    /// Whether the group may consume at all.
    pub consume_enable: bool,
    /// Whether the group may start at the beginning of a queue.
    pub consume_from_min_enable: bool,
    /// Whether the group pops in order.
    pub consume_message_orderly: bool,
    /// Minutes after which a message at a listener counts as lost.
    pub consume_timeout_minute: i32,
    /// The group.
    pub group_name: String,
    /// When a failed message comes again.
    pub group_retry_policy: GroupRetryPolicy,
    /// System flags (unit groups).
    pub group_sys_flag: i32,
    /// Whether members are told at once when the group changes.
    pub notify_consumer_ids_changed_enable: bool,
    /// How often a message may fail before it goes to the dead letters.
    pub retry_max_times: i32,
    /// Queues of the retry topic; 0: failed messages are forgotten.
    pub retry_queue_nums: i32,
    /// Subscriptions the group is restricted to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data_set: Option<Vec<SimpleSubscriptionData>>,
    /// The member that a consumer far behind should read from.
    pub which_broker_when_consume_slowly: i64,
}

impl SubscriptionGroupConfig {
    /// A group with the default settings.
    pub fn new(group_name: impl Into<String>) -> Self {
        Self { group_name: group_name.into(), ..Self::default() }
    }
}

impl Default for SubscriptionGroupConfig {
    fn default() -> Self {
        Self {
            attributes: BTreeMap::new(),
            broker_id: MASTER_ID,
            consume_broadcast_enable: true,
            consume_enable: true,
            consume_from_min_enable: true,
            consume_message_orderly: false,
            consume_timeout_minute: 15,
            group_name: String::new(),
            group_retry_policy: GroupRetryPolicy::default(),
            group_sys_flag: 0,
            notify_consumer_ids_changed_enable: true,
            retry_max_times: 16,
            retry_queue_nums: 1,
            subscription_data_set: None,
            which_broker_when_consume_slowly: 1,
        }
    }
}

wire_enum! {
    /// Which of its policies a group uses. Java: `protocol/subscription/GroupRetryPolicyType.java`.
    GroupRetryPolicyType {
        /// Growing waits.
        Exponential = "EXPONENTIAL",
        /// A list of waits.
        #[default]
        Customized = "CUSTOMIZED",
    }
}

/// When a failed message comes again. Java: `protocol/subscription/GroupRetryPolicy.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GroupRetryPolicy {
    /// The list of waits; absent: the broker's delay levels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customized_retry_policy: Option<CustomizedRetryPolicy>,
    /// The growing waits; absent: its defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exponential_retry_policy: Option<ExponentialRetryPolicy>,
    /// Which one counts.
    #[serde(rename = "type")]
    pub policy_type: GroupRetryPolicyType,
}

/// A wait for each attempt. Java: `protocol/subscription/CustomizedRetryPolicy.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomizedRetryPolicy {
    /// The waits in milliseconds; the last one repeats.
    pub next: Vec<i64>,
}

/// Waits that grow by a factor. Java: `protocol/subscription/ExponentialRetryPolicy.java`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExponentialRetryPolicy {
    /// The first wait, in milliseconds.
    pub initial: i64,
    /// The longest wait, in milliseconds.
    pub max: i64,
    /// The factor.
    pub multiplier: i64,
}

impl Default for ExponentialRetryPolicy {
    /// 5 seconds, doubling, at most 2 hours.
    fn default() -> Self {
        Self { initial: 5_000, max: 7_200_000, multiplier: 2 }
    }
}

/// A subscription that a group is restricted to. Java: `protocol/subscription/SimpleSubscriptionData.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SimpleSubscriptionData {
    /// The expression.
    pub expression: String,
    /// Its language.
    pub expression_type: ExpressionType,
    /// The topic.
    pub topic: String,
    /// Milliseconds since the epoch when it was made.
    pub version: i64,
}

/// All groups of a broker, as replicated and as in `config/subscriptionGroup.json`. Java:
/// `protocol/body/SubscriptionGroupWrapper.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SubscriptionGroupWrapper {
    /// Version of the table.
    pub data_version: DataVersion,
    /// Forbidden operations as bits, by topic, by group.
    pub forbidden_table: BTreeMap<String, BTreeMap<String, i32>>,
    /// Settings by group.
    pub subscription_group_table: BTreeMap<String, SubscriptionGroupConfig>,
}
