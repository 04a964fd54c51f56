//! [`HeartbeatData`]: what a client tells every broker it uses, every 30 seconds and after each change.

use serde::{Deserialize, Serialize};

use super::SubscriptionData;
use crate::json::{self, JsonError, JsonStyle};
use crate::message::java_string_hash;

wire_enum! {
    /// How a consumer gets its messages. Java: `protocol/heartbeat/ConsumeType.java`.
    ConsumeType {
        /// The application pulls.
        Actively = "CONSUME_ACTIVELY",
        /// The client pulls and hands messages to a listener.
        #[default]
        Passively = "CONSUME_PASSIVELY",
        /// The broker assigns messages instead of queues.
        Pop = "CONSUME_POP",
    }
}

wire_enum! {
    /// Whether the members of a group share the messages. Java: `protocol/heartbeat/MessageModel.java`.
    MessageModel {
        /// Each message goes to every member.
        Broadcasting = "BROADCASTING",
        /// Each message goes to one member.
        #[default]
        Clustering = "CLUSTERING",
    }
}

wire_enum! {
    /// Where a group starts on a queue it has no offset for. Java: `common/consumer/ConsumeFromWhere.java`.
    ConsumeFromWhere {
        /// At the end.
        #[default]
        LastOffset = "CONSUME_FROM_LAST_OFFSET",
        /// Old name, treated as [`ConsumeFromWhere::LastOffset`].
        LastOffsetAndMinWhenBootFirst = "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
        /// Old name, treated as [`ConsumeFromWhere::LastOffset`].
        MinOffset = "CONSUME_FROM_MIN_OFFSET",
        /// Old name, treated as [`ConsumeFromWhere::LastOffset`].
        MaxOffset = "CONSUME_FROM_MAX_OFFSET",
        /// At the beginning.
        FirstOffset = "CONSUME_FROM_FIRST_OFFSET",
        /// At the first message stored after a time of the client's choice.
        Timestamp = "CONSUME_FROM_TIMESTAMP",
    }
}

/// The groups a client is a member of. Its language and version are in the frame's header. Java:
/// `protocol/heartbeat/HeartbeatData.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HeartbeatData {
    /// Identifies the client within its groups.
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// Groups it consumes in.
    pub consumer_data_set: Vec<ConsumerData>,
    /// [`HeartbeatData::fingerprint`] of the last full heartbeat; 0 when the client doesn't abbreviate.
    pub heartbeat_fingerprint: i32,
    /// Groups it produces in.
    pub producer_data_set: Vec<ProducerData>,
    /// Whether this is an abbreviation: subscriptions are left out, the fingerprint stands for them.
    pub without_sub: bool,
}

impl HeartbeatData {
    /// A number that stays the same while groups and subscriptions do, whoever sends them: Java's string hash of the text
    /// without client id, versions and the fingerprint itself. The order of groups and subscriptions counts. Source:
    /// `HeartbeatData.computeHeartbeatFingerprint`.
    ///
    /// # Errors
    /// When the text cannot be printed, which does not happen to a heartbeat that fits in memory.
    pub fn fingerprint(&self) -> Result<i32, JsonError> {
        let mut bare = self.clone();
        bare.client_id.clear();
        bare.heartbeat_fingerprint = 0;
        bare.without_sub = false;
        for subscription in
            bare.consumer_data_set.iter_mut().flat_map(|group| &mut group.subscription_data_set)
        {
            subscription.sub_version = 0;
        }
        json::to_string(&bare, JsonStyle::Fastjson).map(|text| java_string_hash(&text))
    }
}

/// A group that a client produces in. Java: `protocol/heartbeat/ProducerData.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProducerData {
    /// The group.
    pub group_name: String,
}

/// A group that a client consumes in. Java: `protocol/heartbeat/ConsumerData.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumerData {
    /// Where it starts without an offset.
    pub consume_from_where: ConsumeFromWhere,
    /// How it gets its messages.
    pub consume_type: ConsumeType,
    /// The group.
    pub group_name: String,
    /// Whether members share the messages.
    pub message_model: MessageModel,
    /// What it subscribes to. A clustering push consumer lists its retry topic too.
    pub subscription_data_set: Vec<SubscriptionData>,
    /// Whether the group is split into units.
    pub unit_mode: bool,
}
