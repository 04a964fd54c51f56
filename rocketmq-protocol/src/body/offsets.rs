//! How far groups have consumed, and where they are told to go on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DataVersion, QueueTable};
use crate::{QueueId, QueueOffset};

/// Every consumed offset of a broker, as replicated and as in `config/consumerOffset.json`. Java:
/// `protocol/body/ConsumerOffsetSerializeWrapper.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumerOffsetWrapper {
    /// Version of the table.
    pub data_version: DataVersion,
    /// The next offset of each queue, by `topic@group`.
    pub offset_table: BTreeMap<String, BTreeMap<QueueId, QueueOffset>>,
}

/// How far each delay level of a broker is delivered, as replicated and as in `config/delayOffset.json`. Java:
/// `protocol/body/DelayOffsetSerializeWrapper.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DelayOffsetWrapper {
    /// Version of the table.
    pub data_version: DataVersion,
    /// The next offset in the queue of each level; the queue of level 1 is 0.
    pub offset_table: BTreeMap<i32, QueueOffset>,
}

/// Tells a client where to go on. Java: `protocol/body/ResetOffsetBody.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResetOffsetBody {
    /// The next offset of each queue.
    pub offset_table: QueueTable<QueueOffset>,
}

/// [`ResetOffsetBody`] as C clients read it. Java: `protocol/body/ResetOffsetBodyForC.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResetOffsetBodyForC {
    /// The queues.
    pub offset_table: Vec<QueueOffsetEntry>,
}

/// A queue and the next offset in it. Java: `protocol/body/MessageQueueForC.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct QueueOffsetEntry {
    /// The broker's name.
    pub broker_name: String,
    /// The next offset.
    pub offset: QueueOffset,
    /// Number of the queue.
    pub queue_id: QueueId,
    /// The topic.
    pub topic: String,
}

/// How far clients have consumed, by their own account: a client fills the queues, a broker the clients. Java:
/// `protocol/body/GetConsumerStatusBody.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumerStatus {
    /// The next offset of each queue, by client id.
    pub consumer_table: BTreeMap<String, QueueTable<QueueOffset>>,
    /// The next offset of each queue.
    pub message_queue_table: QueueTable<QueueOffset>,
}
