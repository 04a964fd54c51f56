//! Locks on queues, which ordered consumers take and renew.

use serde::{Deserialize, Serialize};

use super::MessageQueue;

/// Asks for the lock on some queues. Java: `protocol/body/LockBatchRequestBody.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LockBatchRequest {
    /// Who wants the locks.
    pub client_id: String,
    /// The group, within which locks exclude each other.
    pub consumer_group: String,
    /// The queues.
    pub mq_set: Vec<MessageQueue>,
    /// Whether the broker should leave its replicas alone.
    pub only_this_broker: bool,
}

/// Gives locks back; the same fields. Java: `protocol/body/UnlockBatchRequestBody.java`.
pub type UnlockBatchRequest = LockBatchRequest;

/// The queues that the client now holds the lock of. Java: `protocol/body/LockBatchResponseBody.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LockBatchResponse {
    /// The queues.
    #[serde(rename = "lockOKMQSet")]
    pub lock_ok_mq_set: Vec<MessageQueue>,
}
